"""Counters without locks: no step is lost, no number falls, and what a tier counts wrongly does not spread (N1, N2)."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from cleancache.backend import Stats
from cleancache.tally import Account, Reasons, Tally, added_up
from cleancache.testing import check_sums

COUNTS = st.integers(0, 50)
REASONS = st.dictionaries(
    st.sampled_from(["absent", "full", "size", "quota", "down", "/etc/passwd"]), st.integers(-5, 50)
)


def test_N1_no_step_of_any_thread_is_lost() -> None:
    tally, reasons = Tally(), Reasons()

    def work(label: str) -> None:
        for _ in range(20_000):
            tally.step()
            reasons.step(label)
            reasons.step("shared")

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tally.value == reasons.values()["shared"] == 80_000
    assert reasons.total() == 160_000


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, REASONS, REASONS)
def test_R1_R2_hold_whatever_a_tier_claims(
    hits: int,
    nothing: int,
    kept: int,
    declined: int,
    unknown: int,
    claimed: int,
    misses: dict[str, int],
    refused: dict[str, int],
) -> None:
    account = Account()
    for tally, number in (
        (account.gets, hits + nothing),
        (account.hits, hits),
        (account.nothing, nothing),
        (account.puts, kept + declined + unknown),
        (account.kept, kept),
        (account.declined, declined),
    ):
        for _ in range(number):
            tally.step()
    for _ in range(unknown):
        account.unknown.step("down")

    stats = account.stats(lambda: Stats(stored=claimed, replaced=claimed // 2, misses=misses, refused=refused))

    check_sums(stats)
    assert min(stats.stored, stats.replaced, *stats.refused.values(), 0) == 0


def test_R3_a_put_whose_answer_was_lost_counts_as_what_the_tier_did() -> None:
    account = Account()
    for _ in range(3):
        account.puts.step()
        account.unknown.step("down")

    stats = account.stats(lambda: Stats(puts=2, stored=1, refused={"quota": 1}, left={}, resident_pages=1))

    assert (stats.stored, stats.refused) == (1, {"quota": 1, "down": 1})
    check_sums(stats)


def test_statistics_of_several_back_ends_add_up() -> None:
    one = Stats(gets=1, misses={"absent": 1}, resident_pages=2, verb_seconds={"get": (1, 2)})
    two = Stats(gets=2, misses={"absent": 1, "down": 1}, limit_bytes=5, verb_seconds={"get": (3, 4), "put": (5, 6)})

    both = added_up(one, two)

    assert (both.gets, both.misses, both.resident_pages, both.limit_bytes) == (3, {"absent": 2, "down": 1}, 2, 5)
    assert both.verb_seconds == {"get": (4, 6), "put": (5, 6)}
    assert both.left is None
