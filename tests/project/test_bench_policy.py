"""The real Store beside an exact LRU, on a small version of the traces whose table is in docs/policy.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.policy_sim import MARKS, TRACES, Outcome, Trace, replay_lru, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("trace", [trace for trace in TRACES if trace.is_judged], ids=lambda trace: str(trace.name))
def test_M4_the_hit_ratio_is_no_worse_than_that_of_an_exact_LRU_and_better_on_scans(trace: Trace) -> None:
    (got,) = run(60_000, 1024, traces=(trace,), with_others=False)

    assert got.is_met, got


def test_M4_one_per_cent_is_forgiven_without_scans_and_nothing_with_them() -> None:
    def outcome(store: float, *, is_scan: bool) -> Outcome:
        return Outcome("trace", 100, 10, store, 0.5, {}, is_scan)

    assert outcome(0.495, is_scan=False).is_met
    assert not outcome(0.489, is_scan=False).is_met
    assert not outcome(0.5, is_scan=True).is_met
    assert outcome(0.51, is_scan=True).is_met


def test_the_exact_LRU_beside_it_is_exact() -> None:
    assert replay_lru([1, 2, 1, 3, 1, 2, 4, 1], 2) == 2  # 1 after 2, 1 after 3
    assert replay_lru([1, 2, 3] * 5, 2) == 0
    assert replay_lru([1, 2, 3] * 5, 3) == 12


def test_the_page_about_the_order_has_the_table_that_the_command_made() -> None:
    text = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    made = text.partition(MARKS[0])[2].partition(MARKS[1])[0]

    for trace in TRACES:
        assert f"| {trace.name} |" in made, trace.name
