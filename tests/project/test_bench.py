"""The measurements measure what they say: rounds, ratios, verdicts, contents; and all of it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench.__main__ import MARKS
from bench.harness import SLACK, TINY, Report, Row, Spread, compare, markdown, measure, plain, ratios, too_far
from bench.policy_sim import write_between

ROOT = Path(__file__).resolve().parents[2]
GOALS = ("G1", "G2", "G3", "G4", "G5", "G8", "G10", "G12", "G13")  # those of what exists


def row(median: float, bound: float | None, *, at_least: bool = False, name: str = "a") -> Row:
    return Row("G1", name, Spread(median, median, median), "µs", bound=bound, at_least=at_least)


def test_a_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    times = {"ours": [10.0, 40.0, 10.0], "theirs": [5.0, 10.0, 10.0]}

    assert ratios(times, "ours", "theirs") == Spread(2.0, 1.0, 4.0)
    assert compare("G1", "x", times, "ours", "theirs", bound=2.0).verdict == "met"
    assert compare("G1", "x", times, "ours", "theirs", bound=1.9).verdict == "missed"


@pytest.mark.parametrize(
    ("median", "bound", "at_least", "verdict"),
    [
        (1.0, 1.0, False, "met"),
        (1.1, 1.0, False, "missed"),
        (5.0, None, False, ""),
        (1.0, 1.0, True, "met"),
        (0.9, 1.0, True, "missed"),
        (0.0, 1.0, True, "missed"),
        (0.0, 0.0, False, "met"),
        (-0.4, 0.0, False, "met"),
        (1.0, 0.0, False, "missed"),
    ],
)
def test_a_goal_is_met_or_missed(median: float, bound: float | None, at_least: bool, verdict: str) -> None:
    assert row(median, bound, at_least=at_least).verdict == verdict


def test_strict_forgives_noise_but_not_a_goal_missed_in_the_median_of_three_runs() -> None:
    runs = [Report([row(median, 1.0), row(SLACK - 0.01, 1.0, name="b")]) for median in (0.9, 1.3, 1.2)]

    assert too_far(runs) == ["G1 a: 1.20x its bound"]
    assert too_far([runs[0], runs[0], runs[1]]) == []


def test_every_case_runs_in_every_round_and_tidies_up_off_the_clock() -> None:
    ticks = iter(range(0, 10**15, 3_000_000))
    done: list[str] = []

    def case(name: str) -> int:
        done.append(name)
        return 2

    times = measure(
        {"a": lambda: case("a"), "b": lambda: case("b")},
        TINY,
        after={"b": lambda: done.append("tidy")},
        clock=lambda: next(ticks),
    )

    assert times == {"a": [1500.0] * TINY.rounds, "b": [1500.0] * TINY.rounds}
    assert done.count("a") == done.count("b") == done.count("tidy") == TINY.rounds + 1


def test_a_report_names_the_reference_the_goal_and_the_verdict() -> None:
    times = {"ours": [3.0], "a copy": [2.0]}
    found = compare("G1", "raw hit", times, "ours", "a copy", wanted="≤ 1.5x", bound=1.5)

    for text in (markdown([found]), plain([found])):
        for part in ("G1", "raw hit", "3.00 µs", "1.50", "a copy", "≤ 1.5x", "met"):
            assert part in text


def test_a_table_is_written_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<a>\nold\n<b>\nafter\n")

    write_between(page, ("<a>", "<b>"), "new")

    assert page.read_text() == "before\n<a>\nnew\n<b>\nafter\n"
    with pytest.raises(SystemExit, match="no lines"):
        write_between(page, ("<a>", "<c>"), "new")


def test_the_page_about_speed_has_a_table_that_a_command_made() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    made = text.partition(MARKS[0])[2].partition(MARKS[1])[0]

    for goal in GOALS:
        assert f"| {goal} |" in made, goal
        assert f"**{goal}" in text, f"what {goal} means"
    outside = text.replace(made, "")
    assert not re.findall(r"\d+(\.\d+)? (µs|ms|MiB/s|GiB/s)", outside), "a figure that no command prints"


@pytest.mark.slow
def test_contents_are_of_eleven_kinds_and_nearly_half_of_them_do_not_compress() -> None:
    from bench.contents import KINDS, Pages
    from lz4.block import compress

    from cleancache.codec import pays

    pages = Pages(65536)
    sample = [pages(number) for number in range(220)]

    assert len(KINDS) == 11
    assert [pages(number) for number in range(220)] == sample
    assert len(set(sample)) == len(sample)
    assert {len(page) for page in sample} == {65536}
    raw = sum(not pays(65536, len(compress(page, store_size=False))) for page in sample) / len(sample)
    assert 0.3 < raw < 0.6


@pytest.mark.slow
def test_all_measurements_run_and_judge_every_goal() -> None:
    command = [sys.executable, "-m", "bench", "--tiny", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)

    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert {found["goal"] for found in got["rows"]} == {*GOALS, ""}
    for found in got["rows"]:
        assert found["verdict"] in ("met", "missed") if found["goal"] else found["bound"] is None
        assert found["value"]["least"] <= found["value"]["median"] <= found["value"]["most"]
        assert found["ratio"] is None or found["reference"]
    assert {"cpu", "kernel", "memory", "caches", "load", "malloc", "virtual"} <= got["machine"].keys()
    assert {"python", "libc", "lz4", "xxhash", "fsspec", "commit"} <= got["versions"].keys()
    assert got["checks"]["bytes_compared"] > 0
