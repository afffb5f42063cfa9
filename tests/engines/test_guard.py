"""The guard: whatever a tier does, its callers see misses, refusals and debts, each counted (laws 1.6, C9, C11)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest

from cleancache.backend import Backend, Buffer, Stats
from cleancache.debts import MAX_FLUSHES, MAX_PAGES
from cleancache.guard import FAILURES_TO_OPEN, RETRY_S, Guard
from cleancache.handle import MAX_PAGE, Handle, Scope
from cleancache.testing import FakeClock, Flaky, Laws, Rig, Shelf, Slow, Switch, check_sums
from tests.binding.dicts import Dict

POOL, OBJECT = b"p" * 16, b"o" * 24
PAGE = Handle(POOL, OBJECT, 0)
OTHER = Handle(POOL, b"x" * 24, 0)

pytestmark = pytest.mark.expects_logs


class Broken(Dict):
    """Does what it is told, then raises or answers what it must not."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: BaseException | None = None
        self.answer: object = None
        self.lies = False

    def _end(self, answer: object) -> object:
        if self.fault is not None:
            raise self.fault
        return self.answer if self.lies else answer

    def put(self, handle: Handle, data: Buffer) -> bool:
        return self._end(super().put(handle, data))  # type: ignore[return-value]  # the lie under test

    def get(self, handle: Handle) -> bytes | None:
        return self._end(super().get(handle))  # type: ignore[return-value]  # the lie under test

    def flush(self, scope: Scope) -> bool:
        return self._end(super().flush(scope))  # type: ignore[return-value]  # the lie under test


def guarded() -> tuple[Broken, Guard, FakeClock]:
    tier, clock = Broken(), FakeClock()
    return tier, Guard(tier, clock=clock), clock


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


def test_V2_a_put_of_unknown_outcome_owes_its_page_which_is_not_served_before_it_was_flushed() -> None:
    tier, guard, _ = guarded()
    guard.put(PAGE, b"A")
    tier.fault = OSError("the answer was lost")
    assert guard.put(PAGE, b"B") is False
    assert tier.pages[PAGE] == b"B"

    assert guard.ask(PAGE) == "owed"
    tier.fault = None

    assert guard.ask(PAGE) == "absent"
    assert tier.flushed[-1] == Scope(*PAGE)
    assert guard.stats().debts == 0


def test_C11_a_flush_that_failed_is_owed_and_paid_before_anything_else_on_contact() -> None:
    tier, guard, _ = guarded()
    guard.put(PAGE, b"A")
    guard.put(OTHER, b"other")
    tier.fault = OSError("away")
    assert guard.flush(Scope(POOL, OBJECT)) is False
    assert guard.flush(Scope(POOL, OBJECT, 7)) is False
    tier.calls.clear()
    tier.flushed.clear()
    tier.fault = None
    tier.pages[PAGE] = b"A"

    assert guard.get(OTHER) == b"other"

    assert tier.calls == ["flush", "flush", "get"]
    assert tier.flushed == [Scope(POOL, OBJECT), Scope(POOL, OBJECT, 7)]
    assert guard.ask(PAGE) == "absent"


def test_what_is_owed_is_owed_alone_other_handles_go_on() -> None:
    class NoFlush(Dict):
        def flush(self, scope: Scope) -> bool:
            raise OSError("no flush today")

    clock = FakeClock()
    guard = Guard(NoFlush(), clock=clock)
    guard.put(PAGE, b"A")
    guard.put(OTHER, b"other")
    guard.flush(Scope(POOL, OBJECT))

    assert guard.ask(PAGE) == "owed"
    assert guard.offer(PAGE, b"B") == "owed"
    assert guard.get(OTHER) == b"other"


def test_C11_a_debt_that_is_owed_again_while_it_is_paid_stays_owed() -> None:
    class Again(Dict):
        once = True

        def flush(self, scope: Scope) -> bool:
            if self.once:
                self.once = False
                guard.owe(scope)
            return super().flush(scope)

    again = Again()
    guard = Guard(again, clock=FakeClock())
    guard.owe(Scope(POOL))

    assert guard.ask(PAGE) == "absent"

    assert again.flushed == [Scope(POOL), Scope(POOL)]


def test_C11_the_link_breaks_again_while_paying() -> None:
    tier, guard, clock = guarded()
    tier.fault = OSError("away")
    for number in range(FAILURES_TO_OPEN + 3):
        guard.flush(Scope(POOL, OBJECT, number))
    clock.advance(RETRY_S[0])

    assert guard.ask(PAGE) == "down"

    tier.fault = None
    clock.advance(RETRY_S[1])
    for number in range(FAILURES_TO_OPEN + 3):
        assert guard.ask(PAGE._replace(page=number)) == "absent"
    assert guard.stats().debts == 0
    assert guard.stats().breaker_open == 0


def test_C11_a_hundred_thousand_debts_collapse_and_none_is_forgotten() -> None:
    tier, guard, clock = guarded()
    handles = [Handle(bytes([n % 7]) * 16, (n % 311).to_bytes(24, "big"), n) for n in range(100_000)]
    for handle in handles[::997]:
        tier.pages[handle] = b"old"
    tier.fault = OSError("away")
    for handle in handles:
        guard.flush(Scope(*handle))
    assert guard.stats().debts is not None
    assert (guard.stats().debts or 0) <= MAX_FLUSHES
    tier.fault = None
    clock.advance(RETRY_S[1])

    assert all(guard.get(handle) is None for handle in handles[::997])


def test_pages_owed_by_refused_puts_collapse_to_objects_past_their_limit() -> None:
    tier, guard, clock = guarded()
    tier.fault = OSError("away")
    for number in range(MAX_PAGES + 1):
        guard.put(Handle(POOL, OBJECT, number), b"a")

    assert guard.stats().debts == 1
    assert guard.owed_pools() == {POOL}
    tier.fault = None
    clock.advance(RETRY_S[0])

    assert guard.ask(PAGE) == "absent"
    assert tier.flushed[-1] == Scope(POOL, OBJECT)


def test_a_debt_of_everything_is_paid_in_every_pool_that_was_named() -> None:
    tier, guard, clock = guarded()
    pools = [number.to_bytes(16, "big") for number in range(MAX_FLUSHES * 2)]
    for pool in pools:
        guard.put(Handle(pool, OBJECT, 0), b"a")
    tier.fault = OSError("away")
    for pool in pools:
        guard.flush(Scope(pool))
    assert guard.stats().debts == 1
    tier.fault = None
    clock.advance(RETRY_S[1])

    assert guard.ask(PAGE) == "absent"
    assert not tier.pages
    assert guard.stats().debts == 0


def test_law_1_7_a_refused_put_to_a_shared_pool_owes_nothing() -> None:
    tier = Broken()
    guard = Guard(tier, clock=FakeClock(), shared={POOL})
    tier.fault = OSError("away")

    guard.put(PAGE, b"a")
    assert guard.stats().debts == 0

    guard.flush(Scope(*PAGE))
    assert guard.stats().debts == 1


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


def test_V11_a_flush_behind_an_open_breaker_holds() -> None:
    tier, guard, clock = guarded()
    guard.put(PAGE, b"A")
    tier.fault = OSError("away")
    for _ in range(FAILURES_TO_OPEN):
        guard.get(PAGE)

    assert guard.flush(Scope(POOL)) is False

    tier.fault = None
    clock.advance(RETRY_S[0])
    assert guard.get(PAGE) is None


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


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_X30_an_interrupt_passes_through_and_what_was_under_way_is_owed(fault: BaseException) -> None:
    tier, guard, _ = guarded()
    guard.put(PAGE, b"A")
    tier.fault = fault
    with pytest.raises(type(fault)):
        guard.put(PAGE, b"B")
    with pytest.raises(type(fault)):
        guard.get(OTHER)
    with pytest.raises(type(fault)):
        guard.flush(Scope(POOL, OTHER.object))
    tier.fault = None

    assert guard.account.under_way == 0
    assert guard.stats().debts == 2
    assert guard.ask(PAGE) == "absent"
    check_sums(guard.stats())


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
