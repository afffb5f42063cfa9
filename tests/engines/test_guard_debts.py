"""What a tier could not be told is owed: not served, paid first, never forgotten (laws 1.6, 1.7, C11)."""

from __future__ import annotations

import pytest

from cleancache.breaker import FAILURES_TO_OPEN, RETRY_S
from cleancache.debts import MAX_FLUSHES, MAX_PAGES
from cleancache.guard import Guard
from cleancache.handle import Handle, Scope
from cleancache.testing import FakeClock, check_sums
from tests.binding.dicts import Dict
from tests.engines.guarded import OBJECT, OTHER, PAGE, POOL, Broken, guarded

pytestmark = pytest.mark.expects_logs


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
