"""Prometheus' text says exactly what a snapshot says: same names, same labels, nothing that a tier cannot know."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import cleancache
from cleancache import __version__, metrics, registry
from cleancache.backend import Stats

SNAPSHOT = Stats(
    gets=5,
    puts=3,
    hits=2,
    misses={"absent": 2, "down": 1},
    stored=3,
    flushes={"pool": 1},
    left={"evicted": 4},
    resident_pages=7,
    used_bytes={"pages": 100, "index": 11},
    evicted_age_seconds=1.5,
    source_seconds=0.25,
    read_bytes={"cache": 9},
    verb_seconds={"get": (3, 2, 0, 1)},
)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_end_in_total_and_labels_are_those_of_the_field() -> None:
    got = samples(metrics.text({"zcache:1G": SNAPSHOT}))

    tier = ("tier", "zcache:1G")
    assert got["cleancache_gets_total", (tier,)] == 5
    assert got["cleancache_misses_total", (("reason", "down"), tier)] == 1
    assert got["cleancache_flushes_total", (("scope", "pool"), tier)] == 1
    assert got["cleancache_left_total", (("reason", "evicted"), tier)] == 4
    assert got["cleancache_used_bytes", (("part", "index"), tier)] == 11
    assert got["cleancache_read_bytes_total", (("from", "cache"), tier)] == 9
    assert got["cleancache_source_seconds_total", (tier,)] == 0.25
    assert got["cleancache_evicted_age_seconds", (tier,)] == 1.5
    assert got["cleancache_build_info", (("version", __version__),)] == 1


def test_what_a_tier_cannot_know_is_left_out_and_never_zero() -> None:
    names = {name for name, _ in samples(metrics.text({"t": Stats()}))}

    assert "cleancache_gets_total" in names
    assert "cleancache_resident_pages" not in names
    assert "cleancache_left_total" not in names


def test_buckets_count_up_to_their_bound() -> None:
    got = samples(metrics.text({"t": SNAPSHOT}))

    counts = {
        dict(labels)["le"]: value for (name, labels), value in got.items() if name == "cleancache_verb_seconds_bucket"
    }
    assert counts == {"1e-05": 3, "4e-05": 5, "0.00016": 5, "+Inf": 6}


def test_every_field_of_a_snapshot_has_a_metric() -> None:
    full: dict[str, Any] = {
        field.name: {
            "counter": {"x": 1} if field.metadata["label"] else 1,
            "gauge": {"x": 1} if field.metadata["label"] else 1,
            "histogram": {"x": (1, 1)},
        }[field.metadata["kind"]]
        for field in fields(Stats)
    }

    names = {name for name, _ in samples(metrics.text({"t": Stats(**full)}))}

    for field in fields(Stats):
        ending = {"counter": "_total", "gauge": "", "histogram": "_bucket"}[field.metadata["kind"]]
        assert f"cleancache_{field.name}{ending}" in names


def test_several_tiers_are_rows_of_one_family() -> None:
    got = samples(metrics.text({"a": Stats(gets=1), "b": Stats(gets=2)}))

    assert got["cleancache_gets_total", (("tier", "a"),)] == 1
    assert got["cleancache_gets_total", (("tier", "b"),)] == 2


def test_a_scrape_asks_once_and_registering_asks_nothing() -> None:
    asked: list[int] = []

    def snapshot() -> dict[str, Stats]:
        asked.append(1)
        return {"t": SNAPSHOT}

    registry = CollectorRegistry()
    registry.register(metrics.Collector(snapshot))
    assert asked == []

    assert registry.get_sample_value("cleancache_gets_total", {"tier": "t"}) == pytest.approx(5)
    assert asked == [1]


def test_a_process_counts_what_it_reads_whatever_reads_it(tmp_path: Path) -> None:
    folder = Path(json.__file__).parent  # files that have been still for long
    url = f"cleancache::{(folder / 'decoder.py').as_uri()}"
    size = (folder / "decoder.py").stat().st_size

    for _ in range(2):
        with cleancache.open(url, stack="zcache:pressure=no:9M") as file:
            assert len(file.read()) == size

    (name,) = [name for name in metrics.snapshot() if name.endswith(":9M")]
    stats = metrics.snapshot()[name]
    assert (stats.hits, stats.stored) == (0, 1) or stats.hits >= 1  # the second may come from the last raw pages
    assert stats.read_bytes == {"cache": size, "source": size}
    assert f'cleancache_read_bytes_total{{from="cache",tier="{name}"}} {float(size)}' in metrics.text(
        metrics.snapshot()
    )
    assert f'cleancache_verb_seconds_bucket{{le="+Inf",tier="{name}",verb="get"}}' in metrics.text(metrics.snapshot())
    registry.default.connect(name).close()
