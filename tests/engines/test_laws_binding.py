"""The public suite on what stands between a mount and its tier: Guard, Slot, Pool, the kind zcache, and all at once.

The tiers behind are harsh: they lose answers, and what comes back after an outage or a new registration still holds
what it held, so only the debts keep old pages from being given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cleancache.backend import Backend
from cleancache.guard import Guard
from cleancache.handle import Handle, Scope
from cleancache.pool import Pool
from cleancache.registry import Registry
from cleancache.slot import Slot
from cleancache.spec import Tier
from cleancache.store import Store
from cleancache.testing import FakeClock, Flaky, Laws, Plan, Rig, Shelf, Slow, Switch, campaign, first_seed
from cleancache.testing.fakes import Around
from cleancache.testing.laws import OTHER_POOL, POOL
from cleancache.testing.machine import run_machine

# a registry reports what happens to its slots; here that is most of what happens
pytestmark = pytest.mark.expects_logs


POOLS = (POOL, OTHER_POOL)


class Sturdy(Around):
    """A tier that outlives its connection and comes back with all it held."""

    def close(self) -> None:
        """Keep everything."""


def setting(owner: object, name: str, value: object) -> Callable[[], None]:
    """A call that sets an attribute."""
    return lambda: setattr(owner, name, value)


def guard_rig(make: Callable[[], Backend] = Shelf) -> Rig:
    """A guard before a tier that fails or loses answers, in virtual time."""
    clock = FakeClock()
    flaky = Flaky(make())
    guard = Guard(flaky, clock=clock)
    return Rig(
        guard,
        switches={
            "outage": Switch(
                setting(flaky, "is_down", True), setting(flaky, "is_down", False), refuses="down", is_fault=True
            ),
            "lost answers": Switch(
                setting(flaky, "loses_answers", True),
                setting(flaky, "loses_answers", False),
                refuses="",
                is_fault=True,
            ),
        },
        pokes={"time": lambda number: clock.advance(number % 40)},
    )


def slot_rig(tier: Callable[[], Backend] = Shelf, wrap: Callable[[Slot], Backend] = lambda slot: slot) -> Rig:
    """A slot whose kind comes and goes, each time with what it held before."""
    inner = tier()
    flaky = Flaky(Sturdy(inner))
    clock = FakeClock()
    registry = Registry(group=None, clock=clock)

    def factory(_: Tier) -> Backend:
        return flaky

    registry.register("shelf", factory)
    slot = registry.connect("shelf")
    for pool in POOLS:
        slot.join(pool, shared=False)  # as the pools of mounts do: what is private is flushed when a back end leaves
    backend = wrap(slot)

    def after() -> None:
        registry.close()
        inner.close()

    return Rig(
        backend,
        switches={
            "unregistered": Switch(
                lambda: registry.unregister("shelf"),
                lambda: registry.register("shelf", factory),
                refuses="empty",
                is_fault=True,
            ),
            "lost answers": Switch(
                setting(flaky, "loses_answers", True), setting(flaky, "loses_answers", False), is_fault=True
            ),
        },
        pokes={"time": lambda number: clock.advance(number % 90)},
        after=after,
    )


def pool_rig() -> Rig:
    """All at once: a pool on a slot on a guard on a small Store that comes and goes."""
    return slot_rig(lambda: Store(256 << 10, segment_bytes=12_288), lambda slot: Pool(slot, POOL))


class TestGuard(Laws):
    keeps = True
    switches = True

    def make(self) -> Rig:
        return guard_rig()


class TestSlot(Laws):
    keeps = True

    def make(self) -> Rig:
        return slot_rig()


class TestSlotOfAStore(Laws):
    switches = True

    def make(self) -> Rig:
        rig = slot_rig(lambda: Store(1 << 20, segment_bytes=20_480, background=True))
        return Rig(rig.backend, {"unregistered": rig.switches["unregistered"]}, rig.pokes, rig.after)


class TestPool(Laws):
    keeps = True
    pools = (POOL,)
    reasons = False

    def make(self) -> Backend:
        return Pool(Shelf(), POOL)


class TestPoolOnSlotOnGuardOnStore(Laws):
    pools = (POOL,)
    reasons = False

    def make(self) -> Rig:
        return pool_rig()


class TestZcacheBehindAllOfThem(Laws):
    pools = (POOL,)
    reasons = False

    def make(self) -> Rig:
        registry = Registry()
        return Rig(Pool(registry.connect("zcache:pressure=no:8M"), POOL), after=registry.close)


class TestWrapper(Laws):
    keeps = True

    def make(self) -> Backend:
        return Slow(Around(Flaky(Shelf())))


@pytest.mark.parametrize("make", [guard_rig, slot_rig])
def test_V15_X57_the_machine_agrees_with_what_stands_before_a_tier(make: Callable[[], Rig]) -> None:
    run_machine(make, max_page_bytes=1 << 20, examples=40, pools=POOLS)


def test_V15_X57_the_machine_agrees_with_a_pool_on_all_of_it() -> None:
    run_machine(pool_rig, pools=(POOL,), examples=40)


@pytest.mark.parametrize("make", [guard_rig, slot_rig])
def test_C11_no_flushed_page_comes_back_after_outages_of_many_steps(make: Callable[[], Rig]) -> None:
    plan = Plan(pools=POOLS, weights=(40, 0, 40, 6, 3, 1, 6, 4), sums_every=3)
    rig = make()
    assert campaign(rig, seed=first_seed(), steps=6000, plan=plan) > 6000
    rig.close()


@pytest.mark.parametrize("layers", ["guard", "slot", "pool"])
def test_V10_a_hung_call_on_one_handle_delays_no_call_on_another(layers: str) -> None:
    slow = Slow(Shelf())
    registry = Registry(group=None)
    registry.register("slow", lambda _: slow)
    backend: Backend = Guard(slow) if layers == "guard" else registry.connect("slow")
    if layers == "pool":
        backend = Pool(backend, POOL)
    hung, other = Handle(POOL, bytes(24), 0), Handle(POOL, bytes(24), 1)

    with ThreadPoolExecutor(2) as threads:
        with slow.held("get"):
            waiting = threads.submit(backend.get, hung)
            assert slow.waiting.acquire(timeout=60)
            done = threads.submit(lambda: [backend.put(other, b"page"), backend.flush(Scope(*other)), backend.stats()])
            answers = done.result(timeout=60)
        waiting.result(timeout=60)

    assert answers[:2] == [True, True]
    backend.close()
    registry.close()


def test_C7_a_put_held_on_its_way_and_a_flush_leave_nothing_behind() -> None:
    for scope in (Scope(POOL), Scope(POOL, bytes(24)), Scope(POOL, bytes(24), 0)):
        slow = Slow(Shelf())
        pool, handle = Pool(slow, POOL), Handle(POOL, bytes(24), 0)
        mark = pool.mark(handle.object)
        landing = threading.Thread(target=pool.land, args=(handle, b"old bytes", mark), name="landing")

        with slow.held("put"):
            landing.start()
            assert slow.waiting.acquire(timeout=60)
            assert pool.flush(scope)
            assert pool.get(handle) is None
        landing.join()

        assert pool.get(handle) is None, f"a fetch that a flush of the {scope.kind} overtook has landed"
        pool.close()


def test_C8_of_a_late_landing_and_a_newer_put_the_newer_wins() -> None:
    pool, handle = Pool(Shelf(), POOL), Handle(POOL, bytes(24), 0)
    mark = pool.mark(handle.object)

    pool.flush(Scope(*handle))
    assert pool.put(handle, b"new")

    assert pool.land(handle, b"old", mark) is False
    assert pool.get(handle) in (None, b"new")  # which may vanish, as any page may
    pool.close()
