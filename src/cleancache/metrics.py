"""Snapshots as Prometheus metrics: a collector that asks at scrape time. No global counters, no files, no second set
of books.

Names, labels and meanings are the fields of `Stats` and their metadata; `docs/accounting.md` lists them. What a tier
cannot know (None) is left out and never 0. prometheus-client is asked for at first use: `pip install
'cleancache[metrics]'`.

In the process that reads, whatever reads there (`cleancache::` URLs, pools, Readers)::

    from prometheus_client import REGISTRY
    from cleancache import metrics

    REGISTRY.register(metrics.Collector())
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from itertools import accumulate
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cleancache import __version__
from cleancache.backend import Stats
from cleancache.errors import Error
from cleancache.pool import BUCKETS_S
from cleancache.tally import added_up

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def snapshot() -> dict[str, Stats]:
    """What this process counted: each stack, by its text without secrets, and with it the Readers in use over it.

    The calls are those that the stack saw; their durations are the pools' own, of pools that a Reader has.
    """
    from cleancache import registry

    found: dict[str, list[Stats]] = {}
    for slot in registry.default.slots():
        found.setdefault(slot.name, []).append(slot.stats())
    reading = sys.modules.get("cleancache.reader")
    readers = reading.live_readers() if reading is not None else ()
    counted = [(reader.pool, reader.stats()) for reader in readers]
    for pool in {reader.pool for reader in readers}:
        counted.append((pool, Stats(verb_seconds=pool.stats().verb_seconds)))
    for pool, stats in counted:
        if (name := getattr(pool.backend, "name", None)) in found:
            found[name].append(stats)
    return {name: added_up(*parts) for name, parts in found.items()}


class Collector:
    """What a Prometheus registry asks: *snapshot* gives the text of each tier and its `Stats`, once a scrape.

    Threads: any; as safe as *snapshot*. Raises: Error, without prometheus-client.
    """

    def __init__(self, snapshot: Callable[[], Mapping[str, Stats]] = snapshot) -> None:
        _library()
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing: registering asks no tier."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family for each field that any tier knows."""
        core = _library()
        build = core.GaugeMetricFamily("cleancache_build_info", "the version that runs", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        tiers = self._snapshot()
        for field in fields(Stats):
            kind, label = field.metadata["kind"], field.metadata["label"]
            family = getattr(core, f"{kind.capitalize()}MetricFamily")(
                f"cleancache_{field.name}", field.metadata["help"], labels=["tier", *([label] if label else [])]
            )
            for tier, stats in tiers.items():
                _fill(family, tier, getattr(stats, field.name), is_histogram=kind == "histogram")
            if family.samples:
                yield family


def text(tiers: Mapping[str, Stats]) -> str:
    """The text format 0.0.4 of one snapshot, for a file that a node's collector reads.

    >>> "cleancache_gets_total{tier=\\"zcache:1G\\"} 3.0" in text({"zcache:1G": Stats(gets=3)})
    True
    """
    _library()
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(Collector(lambda: tiers))
    written: bytes = generate_latest(registry)
    return written.decode()


def _fill(family: Any, tier: str, value: Any, *, is_histogram: bool) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        family.add_metric([tier], value)
        return
    for label, number in value.items():
        if is_histogram:
            family.add_metric([tier, label], _buckets(number), None)
        else:
            family.add_metric([tier, label], number)


def _buckets(counts: tuple[int, ...]) -> list[tuple[str, float]]:
    """Counts by bucket → counts up to each bound; the last bucket has none."""
    bounds = [*(f"{bound:g}" for bound in BUCKETS_S[: len(counts) - 1]), "+Inf"]
    return [(bound, float(so_far)) for bound, so_far in zip(bounds, accumulate(counts), strict=True)]


def _library() -> ModuleType:
    try:
        from prometheus_client import metrics_core
    except ImportError as missing:
        raise Error("metrics for Prometheus need prometheus-client: pip install 'cleancache[metrics]'") from missing
    return metrics_core
