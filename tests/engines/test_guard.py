"""The guard: whatever a tier does, its callers see misses, refusals and debts, each counted (laws 1.6, C9, C11)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest

from cleancache.backend import Backend, Stats
from cleancache.breaker import FAILURES_TO_OPEN, RETRY_S
from cleancache.guard import Guard
from cleancache.handle import MAX_PAGE, Handle, Scope
from cleancache.testing import FakeClock, Flaky, Laws, Rig, Shelf, Slow, Switch, check_sums
from tests.binding.dicts import Dict
from tests.engines.guarded import OBJECT, OTHER, PAGE, POOL, guarded

pytestmark = pytest.mark.expects_logs


class TestGuardOfAWellTier(Laws):
    keeps = True
    steps = 1500

    def make(self) -> Backend:
        return Guard(Shelf())


class TestGuardOfATierThatFails(Laws):
    steps = 1500

    def make(self) -> Rig:
        shelf, clock = Shelf(), FakeClock()
        flaky = Flaky(shelf)
        guard = Guard(flaky, clock=clock)

        def heal(name: str) -> Callable[[], None]:
            def off() -> None:
                setattr(flaky, name, False)
                clock.advance(RETRY_S[1])

            return off

        return Rig(
            guard,
            {
                "down": Switch(lambda: setattr(flaky, "is_down", True), heal("is_down"), is_fault=True),
                "answers lost": Switch(
                    lambda: setattr(flaky, "loses_answers", True), heal("loses_answers"), is_fault=True
                ),
            },
            {"time passes": lambda number: clock.advance(number % 40)},
        )


def test_an_exception_is_a_miss_and_a_refusal_and_counted_as_down() -> None:
    tier, guard, _ = guarded()
    tier.fault = OSError("gone")

    assert guard.get(PAGE) is None
    assert guard.put(PAGE, b"a") is False
    assert guard.flush(Scope(POOL)) is False

    stats = guard.stats()
    assert stats.misses == {"down": 1}
    assert stats.debts == 2
    check_sums(stats)


@pytest.mark.parametrize("answer", ["text", bytearray(b"a"), 1, memoryview(b"a")])
def test_what_is_neither_bytes_nor_none_is_a_fault(answer: object) -> None:
    tier, guard, _ = guarded()
    tier.lies, tier.answer = True, answer

    assert guard.ask(PAGE) == "down"
    assert guard.offer(PAGE, b"a") == "down"
    assert guard.flush(Scope(POOL, OBJECT)) is False
    assert guard.stats().debts == 2


def test_C9_the_breaker_opens_answers_at_once_and_one_probe_heals_it() -> None:
    tier, guard, clock = guarded()
    tier.fault = OSError("away")
    for _ in range(FAILURES_TO_OPEN):
        guard.get(PAGE)
    assert guard.stats().breaker_open == 1
    asked = len(tier.calls)

    assert guard.ask(PAGE) == "down"
    assert guard.offer(OTHER, b"a") == "down"
    assert guard.flush(Scope(POOL)) is False
    assert len(tier.calls) == asked

    clock.advance(RETRY_S[0])
    guard.get(PAGE)
    assert len(tier.calls) == asked + 1, "one probe, and the pause doubles"
    clock.advance(RETRY_S[0])
    assert guard.ask(PAGE) == "down"

    tier.fault = None
    clock.advance(RETRY_S[0])
    assert guard.ask(PAGE) == "absent"
    assert guard.stats().breaker_open == 0
    check_sums(guard.stats())


def test_C9_only_one_thread_probes() -> None:
    tier, clock = Slow(Dict()), FakeClock()
    flaky = Flaky(tier)
    guard = Guard(flaky, clock=clock)
    flaky.is_down = True
    for _ in range(FAILURES_TO_OPEN):
        guard.get(PAGE)
    flaky.is_down = False
    clock.advance(RETRY_S[0])

    with tier.held("get"):
        probe = threading.Thread(target=guard.get, args=(PAGE,))
        probe.start()
        tier.waiting.acquire()
        assert guard.ask(OTHER) == "down"
    probe.join()

    assert guard.ask(OTHER) == "absent"


def test_C9_calls_later_than_the_deadline_open_the_breaker_though_their_answers_count() -> None:
    clock = FakeClock()
    slow = Slow(Dict(), clock, 0.06)
    guard = Guard(slow, clock=clock, deadline_s=0.05)

    assert guard.put(PAGE, b"a") is True
    assert guard.get(PAGE) == b"a"
    for _ in range(FAILURES_TO_OPEN):
        guard.get(PAGE)

    assert guard.ask(PAGE) == "down"


def test_a_tier_in_this_process_cannot_be_late() -> None:
    clock = FakeClock()
    guard = Guard(Slow(Dict(), clock, 5.0), clock=clock, deadline_s=None)
    for _ in range(FAILURES_TO_OPEN * 2):
        assert guard.ask(PAGE) == "absent"


@pytest.mark.parametrize(
    "handle",
    [
        Handle(b"short", OBJECT, 0),
        Handle(POOL, b"short", 0),
        Handle(POOL, OBJECT, -1),
        Handle(POOL, OBJECT, MAX_PAGE + 1),
        Handle(POOL, OBJECT, "0"),  # type: ignore[arg-type]  # the mistake under test
        Handle(POOL, bytearray(24), 0),  # type: ignore[arg-type]  # cannot be hashed
    ],
)
def test_V13_a_malformed_handle_is_refused_missed_and_flushed_for_nothing(handle: Handle) -> None:
    _, guard, _ = guarded()
    for _ in range(FAILURES_TO_OPEN + 1):
        assert guard.put(handle, b"a") is False
        assert guard.get(handle) is None
        assert guard.flush(Scope(*handle)) is True

    stats = guard.stats()
    assert stats.refused == {"malformed": FAILURES_TO_OPEN + 1}
    assert stats.breaker_open == 0
    check_sums(stats)


def test_stats_that_fail_are_the_last_ones_known() -> None:
    class NoStats(Dict):
        fails = False

        def stats(self) -> Stats:
            if self.fails:
                raise OSError("no")
            return super().stats()

    tier = NoStats()
    guard = Guard(tier, clock=FakeClock())
    guard.put(PAGE, b"a")
    before = guard.stats()
    tier.fails = True

    assert guard.stats() == before


def test_R2_a_tier_that_counts_nothing_still_adds_up() -> None:
    class Silent(Dict):
        def stats(self) -> Stats:
            return Stats()

    guard = Guard(Silent())
    guard.put(PAGE, b"a")
    guard.get(PAGE)
    guard.get(OTHER)

    stats = guard.stats()
    assert (stats.stored, stats.hits, stats.misses) == (1, 1, {"absent": 1})


def test_after_close_nothing_is_kept_given_or_claimed() -> None:
    tier, guard, _ = guarded()
    guard.put(PAGE, b"a")
    guard.close()
    guard.close()

    assert tier.is_closed
    assert guard.ask(PAGE) == "down"
    assert guard.offer(PAGE, b"a") == "down"
    assert guard.flush(Scope(POOL)) is False
    check_sums(guard.stats())


def test_P5_one_line_a_minute_and_no_data_in_it(caplog: pytest.LogCaptureFixture) -> None:
    tier, guard, clock = guarded()
    tier.fault = OSError("s3cret")
    for _ in range(30):
        guard.get(PAGE)
        clock.advance(1.0)

    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "tier tier fails, reads go on without it: OSError"
    ]


def test_a_hit_costs_much_less_than_a_microsecond_of_python() -> None:
    """The bound is in calls, not in time: nothing but counting stands between a caller and the tier."""
    guard = Guard(Dict(), deadline_s=None)
    guard.put(PAGE, b"a")
    names: list[str] = []

    def note(frame: object, event: str, argument: object) -> None:
        if event == "call":
            names.append(frame.f_code.co_qualname)  # type: ignore[attr-defined]  # a frame

    sys.setprofile(note)
    try:
        guard.ask(PAGE)
    finally:
        sys.setprofile(None)
    assert [name for name in names if not name.startswith("Counter")] == ["Guard.ask", "Dict.get"]


def test_R1_R2_many_threads_one_flaky_tier_and_the_counts_add_up() -> None:
    flaky = Flaky(Shelf(), rate=0.1, seed=1)
    flaky.is_down = True
    clock = FakeClock()
    guard = Guard(flaky, clock=clock)

    def work(seed: int) -> None:
        for number in range(2000):
            handle = Handle(POOL, OBJECT, (number * seed) % 50)
            guard.put(handle, b"%d" % number)
            guard.get(handle)
            if number % 20 == 0:
                guard.flush(Scope(*handle))
            clock.advance(0.01)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = guard.stats()
    assert stats.gets == stats.puts == 8000
    check_sums(stats)
