"""Slots: late, failing, leaving and returning back ends (laws 1.5, I5–I10)."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable

import pytest

from cleancache.backend import Backend
from cleancache.errors import SpecError
from cleancache.handle import Handle, Scope, private_pool
from cleancache.pool import Pool
from cleancache.registry import Registry
from cleancache.slot import RETRY_S
from cleancache.spec import Tier
from cleancache.testing import FakeClock, Laws, Rig, Shelf, Slow, Switch, check_sums
from tests.binding.dicts import Dict, Makes

POOL, OBJECT = b"p" * 16, b"o" * 24
PAGE = Handle(POOL, OBJECT, 0)

pytestmark = pytest.mark.expects_logs


def registry(clock: Callable[[], float] = time.monotonic) -> Registry:
    return Registry(group=None, clock=clock)


class TestSlot(Laws):
    keeps = True
    steps = 1500

    def make(self) -> Rig:
        kinds = registry()
        kinds.register("shelf", lambda tier: Shelf())
        return Rig(kinds.connect("shelf"), after=kinds.close)


class TestSlotWhoseBackEndGoesAndComes(Laws):
    steps = 1500
    seconds = 0.5

    def make(self) -> Rig:
        kinds = registry()
        kinds.register("shelf", lambda tier: Shelf())

        def swap(_: int) -> None:
            kinds.unregister("shelf")
            kinds.register("shelf", lambda tier: Shelf())

        gone = Switch(
            lambda: kinds.unregister("shelf"),
            lambda: kinds.register("shelf", lambda tier: Shelf()),
            refuses="empty",
            is_fault=True,
        )
        return Rig(kinds.connect("shelf"), {"unregistered": gone}, {}, after=kinds.close)


def test_I5_a_pool_opened_before_its_back_end_caches_once_it_is_there_without_reopening() -> None:
    kinds = registry()
    pool = Pool(kinds.connect("dict"))
    handle = Handle(pool.id, OBJECT, 0)
    assert pool.put(handle, b"a") is False
    assert pool.get(handle) is None
    assert pool.flush(Scope(pool.id, OBJECT)) is False
    assert pool.stats().refused == pool.stats().misses == {"empty": 1}

    makes = Makes()
    kinds.register("dict", makes)

    assert makes.made[0].flushed == [Scope(pool.id)], "what was owed is paid before the first other verb"
    assert makes.made[0].calls == ["flush"]
    assert pool.put(handle, b"a") is True
    assert pool.get(handle) == b"a"
    check_sums(pool.backend.stats())


def test_I5_flushes_while_empty_are_effective_in_a_service_that_kept_its_pages() -> None:
    kinds, service = registry(), Dict()
    service.close = lambda: None  # type: ignore[method-assign]  # a service outlives its clients
    kinds.register("svc", lambda tier: service)
    slot = kinds.connect("svc")
    slot.put(PAGE, b"old")
    kinds.unregister("svc")

    assert slot.flush(Scope(*PAGE)) is False
    assert slot.stats().debts == 1
    kinds.register("svc", lambda tier: service)

    assert slot.get(PAGE) is None
    assert slot.stats().debts == 0


def test_a_new_back_end_that_takes_no_flushes_is_not_published_while_any_are_owed() -> None:
    clock = FakeClock()
    kinds = registry(clock)
    slot = kinds.connect("bad")
    slot.flush(Scope(POOL))

    class NoFlush(Dict):
        fails = True

        def flush(self, scope: Scope) -> bool:
            if self.fails:
                raise OSError("no")
            return super().flush(scope)

    made: list[NoFlush] = []

    def factory(tier: Tier) -> Backend:
        made.append(NoFlush())
        made[-1].fails = len(made) == 1
        return made[-1]

    kinds.register("bad", factory)
    assert slot.is_empty
    assert made[0].is_closed

    clock.advance(RETRY_S[0])
    assert slot.put(PAGE, b"a") is True
    assert made[1].flushed == [Scope(POOL)]


def test_I7_a_failing_factory_disables_only_itself_says_so_once_and_heals_on_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    kinds, bad, good = registry(clock), Makes(OSError("no room")), Makes()
    kinds.register("bad", bad)
    kinds.register("good", good)
    slot, other = kinds.connect("bad"), kinds.connect("good")
    assert other.put(PAGE, b"a")

    for _ in range(10):
        assert slot.put(PAGE, b"a") is False
    assert bad.asked == 1
    clock.advance(RETRY_S[0])
    slot.get(PAGE)
    slot.get(PAGE)
    assert bad.asked == 2
    clock.advance(RETRY_S[0])
    slot.get(PAGE)
    assert bad.asked == 2, "the pause doubles"
    bad.fault = None
    clock.advance(RETRY_S[1])

    assert slot.put(PAGE, b"a") is True
    assert slot.get(PAGE) == b"a"
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert "'bad'" not in caplog.text.replace("tier bad", "")
    check_sums(slot.stats())


def test_unregister_flushes_private_pools_leaves_shared_ones_and_closes() -> None:
    kinds, makes = registry(), Makes()
    kinds.register("dict", makes)
    slot = kinds.connect("dict")
    private, shared = Pool(slot), Pool(slot, POOL, shared=True)
    private.put(Handle(private.id, OBJECT, 0), b"a")
    shared.put(PAGE, b"b")

    kinds.unregister("dict")

    assert makes.made[0].flushed == [Scope(private.id)]
    assert makes.made[0].is_closed
    assert private.get(Handle(private.id, OBJECT, 0)) is None
    assert slot.stats().gets == slot.stats().misses["empty"] == 1
    with pytest.raises(SpecError, match="no back end 'dict' is registered; known: none"):
        kinds.unregister("dict")


def test_a_result_that_comes_after_leaving_began_is_void() -> None:
    kinds, slow = registry(), Slow(Shelf())
    kinds.register("slow", lambda tier: slow)
    slot = kinds.connect("slow")
    slot.put(PAGE, b"A")
    got: list[object] = []
    with slow.held("get", "put"):
        threads = [
            threading.Thread(target=lambda: got.append(slot.get(PAGE))),
            threading.Thread(target=lambda: got.append(slot.put(PAGE, b"B"))),
        ]
        for thread in threads:
            thread.start()
        slow.waiting.acquire()
        slow.waiting.acquire()
        kinds.unregister("slow")
    for thread in threads:
        thread.join()

    assert sorted(map(str, got)) == ["False", "None"]
    stats = slot.stats()
    assert stats.hits == 0
    assert stats.gets == 1
    check_sums(stats)


def test_N2_counters_survive_a_back_end_that_goes_and_comes() -> None:
    kinds = registry()
    slot = kinds.connect("dict")
    before = slot.stats()
    for _ in range(3):
        kinds.register("dict", Makes())
        slot.put(PAGE, b"a")
        slot.get(PAGE)
        slot.flush(Scope(*PAGE))
        slot.put(PAGE, b"a")
        now = slot.stats()
        check_sums(now, before)
        before = now
        kinds.unregister("dict")
        slot.get(PAGE)
        now = slot.stats()
        check_sums(now, before)
        before = now

    assert (before.puts, before.stored, before.hits, before.gets) == (6, 6, 3, 6)
    assert before.flushes == {"page": 3}
    assert before.resident_pages == 0


def test_I10_unregister_under_load_nothing_of_before_is_readable_and_flushes_in_the_gap_hold() -> None:
    kinds, service = registry(), Dict()
    service.close = lambda: None  # type: ignore[method-assign]  # a service outlives its clients
    kinds.register("svc", lambda tier: service)
    slot = kinds.connect("svc")
    pool = Pool(slot)
    handle = Handle(pool.id, OBJECT, 0)
    for _ in range(20):
        assert pool.put(handle, b"a")
        kinds.unregister("svc")
        assert not service.pages, "private pages end with the tier"
        service.pages[handle] = b"from before"
        pool.flush(Scope(pool.id, OBJECT))
        kinds.register("svc", lambda tier: service)
        assert pool.get(handle) is None


def test_register_while_it_is_leaving_fills_the_slot_when_it_has_left() -> None:
    kinds, slow = registry(), Slow(Shelf())
    kinds.register("kind", lambda tier: slow)
    slot = kinds.connect("kind")
    slot.put(PAGE, b"A")
    makes = Makes()
    with slow.held("flush"):
        pool = Pool(slot)  # private: leaving has to flush it
        leaving = threading.Thread(target=kinds.unregister, args=("kind",))
        leaving.start()
        slow.waiting.acquire()
        kinds.register("kind", makes)
        assert slot.is_empty
    leaving.join()

    assert makes.asked == 1
    assert pool.put(Handle(pool.id, OBJECT, 0), b"a") is True


def test_V13_an_empty_slot_has_the_same_verdict_on_malformed_handles() -> None:
    slot = registry().connect("none")
    bad = Handle(b"short", OBJECT, 0)

    assert (slot.ask(bad), slot.offer(bad, b"a"), slot.flush(Scope(*bad))) == ("malformed", "malformed", True)


def test_X32_a_collected_pool_takes_no_lock_and_its_pages_end_soon() -> None:
    kinds, makes = registry(), Makes()
    kinds.register("dict", makes)
    slot = kinds.connect("dict")
    pool = Pool(slot)
    pool.put(Handle(pool.id, OBJECT, 0), b"a")
    with slot._lock:
        del pool
        gc.collect()
    assert makes.made[0].pages

    Pool(slot)
    assert not makes.made[0].pages


def test_leaving_with_many_private_pools_still_spares_the_shared_ones() -> None:
    kinds, service = registry(), Dict()
    kinds.register("svc", lambda tier: service)
    slot = kinds.connect("svc")
    shared = Pool(slot, POOL, shared=True)
    shared.put(PAGE, b"ours")
    pools = [Pool(slot) for _ in range(100)]
    for pool in pools:
        pool.put(Handle(pool.id, OBJECT, 0), b"mine")

    kinds.unregister("svc")

    assert {scope.pool for scope in service.flushed} == {pool.id for pool in pools}


def test_a_hundred_pools_owed_by_an_empty_slot_are_all_paid_on_arrival() -> None:
    kinds, service = registry(), Dict()
    slot = kinds.connect("svc")
    pools = [private_pool() for _ in range(100)]
    for pool in pools:
        service.pages[Handle(pool, OBJECT, 0)] = b"old"
        assert slot.flush(Scope(pool, OBJECT)) is False
    assert slot.stats().debts == 100

    kinds.register("svc", lambda tier: service)

    assert not service.pages
    assert slot.stats().debts == 0


def test_a_tier_that_fails_while_leaving_owes_its_private_pools_to_the_next_one() -> None:
    class Stuck(Dict):
        def flush(self, scope: Scope) -> bool:
            raise OSError("stuck")

    kinds, stuck, makes = registry(), Stuck(), Makes()
    kinds.register("svc", lambda tier: stuck)
    slot = kinds.connect("svc")
    pool = Pool(slot)
    pool.put(Handle(pool.id, OBJECT, 0), b"a")
    kinds.unregister("svc")
    assert slot.stats().debts == 1

    kinds.register("svc", makes)
    assert makes.made[0].flushed == [Scope(pool.id)]


def test_V13_a_malformed_handle_owes_nothing_while_the_back_end_leaves() -> None:
    kinds, slow = registry(), Slow(Shelf())
    kinds.register("slow", lambda tier: slow)
    slot = kinds.connect("slow")
    guard = slot._guard
    assert guard is not None
    guard.leave()
    bad = Handle(bytearray(16), OBJECT, 0)  # type: ignore[arg-type]  # cannot be hashed

    assert slot.put(bad, b"a") is False
    assert slot.get(bad) is None
    assert slot.flush(Scope(*bad)) is True
    assert slot.stats().debts == 0
