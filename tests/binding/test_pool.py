"""Pools: names, membership, flights and counters (laws 1.2, 1.4, I1–I3, I11, F8, C7, R1, R2)."""

from __future__ import annotations

import threading
import uuid
from random import Random

import pytest

from cleancache.backend import Backend, Buffer, Stats
from cleancache.errors import SpecError
from cleancache.handle import MAX_PAGE, Handle, Scope, shared_pool
from cleancache.pool import BUCKETS_S, SAMPLE, Pool
from cleancache.registry import Registry
from cleancache.testing import FakeClock, Laws, Shelf, Slow, check_sums
from tests.binding.dicts import Dict, Makes

OBJECT = b"o" * 24
UUID = "6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5"


class OfPools:
    """One back end made of a Pool for each pool id that is named: the law suite names several."""

    def __init__(self, backend: Backend) -> None:
        self.max_page_bytes = getattr(backend, "max_page_bytes", None)
        self._backend = backend
        self._lock = threading.Lock()
        self._pools: dict[bytes, Pool] = {}

    def _of(self, id: bytes) -> Pool:
        id = id if isinstance(id, bytes) and len(id) == 16 else bytes(16)
        with self._lock:
            if id not in self._pools:
                self._pools[id] = Pool(self._backend, id)
            return self._pools[id]

    def put(self, handle: Handle, data: Buffer) -> bool:
        return self._of(handle[0]).put(handle, data)

    def get(self, handle: Handle) -> bytes | None:
        return self._of(handle[0]).get(handle)

    def flush(self, scope: Scope) -> bool:
        return self._of(scope[0]).flush(scope)

    def stats(self) -> Stats:
        for pool in list(self._pools.values()):
            check_sums(pool.stats())
        return self._backend.stats()

    def close(self) -> None:
        for pool in list(self._pools.values()):
            pool.close()
        self._backend.close()


class TestPools(Laws):
    keeps = True
    steps = 1500

    def make(self) -> Backend:
        return OfPools(Shelf())


class TestPoolsInASlot(Laws):
    keeps = True
    steps = 1500

    def make(self) -> Backend:
        kinds = Registry(group=None)
        kinds.register("shelf", lambda tier: Shelf())
        return OfPools(kinds.connect("shelf"))


def test_I1_two_mounts_never_see_each_others_pages() -> None:
    tier = Dict()
    one, two = Pool(tier), Pool(tier)
    handle = Handle(one.id, OBJECT, 0)
    one.put(handle, b"1")

    assert one.id != two.id
    assert two.get(handle) is None
    assert two.put(handle, b"2") is False
    assert two.flush(Scope(one.id)) is False
    assert one.get(handle) == b"1"
    assert two.stats().misses == two.stats().refused == {"denied": 1}


def test_I1_two_mounts_that_name_the_same_uuid_share() -> None:
    tier = Dict()
    one, two = (Pool(tier, shared_pool(text), shared=True) for text in (UUID, UUID.upper().replace("-", "")))
    handle = Handle(one.id, OBJECT, 0)
    one.put(handle, b"1")

    assert two.get(handle) == b"1"
    one.close()
    assert two.get(handle) == b"1", "leaving ends a membership and nothing else"
    assert one.get(handle) is None


def test_I3_each_bit_of_a_uuid_makes_another_pool() -> None:
    tier, base = Dict(), uuid.UUID(UUID)
    pool = Pool(tier, base.bytes, shared=True)
    pool.put(Handle(pool.id, OBJECT, 0), b"a")
    for bit in range(128):
        other = Pool(tier, uuid.UUID(int=base.int ^ (1 << bit)).bytes, shared=True)
        assert other.get(Handle(other.id, OBJECT, 0)) is None


@pytest.mark.parametrize("id", [b"", bytes(15), bytes(17), UUID, 5])
def test_I3_an_id_of_another_type_or_length_is_an_error_at_the_call(id: bytes) -> None:
    with pytest.raises(SpecError, match="16 bytes"):
        Pool(Dict(), id)


def test_a_shared_pool_without_a_name_is_an_error_at_the_call() -> None:
    with pytest.raises(SpecError, match="named by the UUID"):
        Pool(Dict(), shared=True)


def test_I11_close_flushes_a_private_pool_and_the_id_is_dead() -> None:
    tier = Dict()
    with Pool(tier) as pool:
        handle = Handle(pool.id, OBJECT, 0)
        pool.put(handle, b"a")

    assert not tier.pages
    assert pool.put(handle, b"a") is False
    assert pool.get(handle) is None
    assert pool.flush(Scope(pool.id)) is True, "its pages died with it"
    assert pool.stats().misses == pool.stats().refused == {"down": 1}
    pool.close()
    assert tier.flushed == [Scope(pool.id)]


def test_I11_a_put_that_outlasts_the_close_leaves_nothing_behind() -> None:
    slow = Slow(Shelf())
    pool = Pool(slow)
    answers: list[bool] = []
    with slow.held("put"):
        thread = threading.Thread(target=lambda: answers.append(pool.put(Handle(pool.id, OBJECT, 0), b"a")))
        thread.start()
        slow.waiting.acquire()
        pool.close()
    thread.join()

    assert answers == [False]
    assert slow.stats().resident_pages == 0
    check_sums(pool.stats())


@pytest.mark.parametrize("scope", [lambda h: Scope(*h), lambda h: Scope(h.pool, h.object), lambda h: Scope(h.pool)])
def test_F8_a_flush_of_any_scope_voids_a_flight(scope: object) -> None:
    pool = Pool(Dict())
    handle = Handle(pool.id, OBJECT, 0)
    mark = pool.mark(OBJECT)
    assert callable(scope)
    pool.flush(scope(handle))

    assert pool.land(handle, b"old", mark) is False
    assert pool.get(handle) is None
    assert pool.land(handle, b"new", pool.mark(OBJECT)) is True
    assert pool.land(handle, b"old", mark) is False
    assert pool.get(handle) == b"new"
    assert pool.stats().refused == {"late": 2}
    check_sums(pool.stats())


def test_a_flush_of_another_object_voids_no_flight() -> None:
    pool = Pool(Dict())
    mark = pool.mark(OBJECT)
    pool.flush(Scope(pool.id, b"x" * 24))

    assert pool.land(Handle(pool.id, OBJECT, 0), b"a", mark) is True


def test_C7_a_flush_waits_for_a_landing_that_began_before_it_and_takes_its_page() -> None:
    slow = Slow(Shelf())
    pool = Pool(slow)
    handle = Handle(pool.id, OBJECT, 0)
    answers: dict[str, bool] = {}
    with slow.held("put"):
        lands = threading.Thread(target=lambda: answers.update(land=pool.land(handle, b"old", pool.mark(OBJECT))))
        lands.start()
        slow.waiting.acquire()
        flushes = threading.Thread(target=lambda: answers.update(flush=pool.flush(Scope(pool.id))))
        flushes.start()
        while pool.mark(OBJECT) == 0:
            pass
    lands.join()
    flushes.join()

    assert answers == {"land": False, "flush": True}
    assert pool.get(handle) is None
    assert slow.stats().resident_pages == 0


def test_C7_a_landing_that_outlasts_the_flush_is_shut_until_it_has_cleaned_up() -> None:
    slow = Slow(Shelf())
    pool = Pool(slow)
    handle, other = Handle(pool.id, OBJECT, 0), Handle(pool.id, OBJECT, 1)
    answers: list[bool] = []
    with slow.held("put"):
        lands = threading.Thread(target=lambda: answers.append(pool.land(handle, b"old", pool.mark(OBJECT))))
        lands.start()
        slow.waiting.acquire()
        assert pool.flush(Scope(pool.id, OBJECT)) is True
        slow.inner.put(handle, b"old")  # as if the put had been done, and only its answer were late

        assert pool.get(handle) is None
        assert pool.put(handle, b"new") is False
        assert pool.get(other) is None
        assert pool.stats().misses == {"owed": 1, "absent": 1}
    lands.join()

    assert answers == [False]
    assert pool.get(handle) is None
    assert pool.put(handle, b"new") is True
    assert pool.get(handle) == b"new"
    check_sums(pool.stats())


def test_X30_an_interrupted_landing_leaves_no_page_and_no_flight() -> None:
    class Interrupted(Dict):
        def put(self, handle: Handle, data: Buffer) -> bool:
            super().put(handle, data)
            raise KeyboardInterrupt

    tier = Interrupted()
    pool = Pool(tier)
    with pytest.raises(KeyboardInterrupt):
        pool.land(Handle(pool.id, OBJECT, 0), b"a", pool.mark(OBJECT))

    assert not tier.pages
    assert pool.flush(Scope(pool.id)) is True
    check_sums(pool.stats())


def test_C7_landings_and_flushes_of_many_threads_never_show_an_older_version() -> None:
    """Each version is flushed before the next is current; whoever read the older one may not land it any more."""
    pool = Pool(Shelf())
    current, source = [0], [0]  # current: no reader may see less from now on
    wrong: list[str] = []
    end = threading.Event()
    handles = [Handle(pool.id, OBJECT, page) for page in range(4)]

    def read(seed: int) -> None:
        random = Random(seed)
        while not end.is_set():
            handle = random.choice(handles)
            floor = current[0]
            data = pool.get(handle)
            if data is not None and int(data) < floor:
                wrong.append(f"{data!r} after {floor} was flushed")
            mark = pool.mark(OBJECT)
            data = b"%d" % source[0]
            pool.land(handle, data, mark)

    def write() -> None:
        number = 0
        while not end.is_set():
            number += 1
            pool.flush(Scope(pool.id, OBJECT))
            source[0] = number
            pool.flush(Scope(pool.id, OBJECT))
            current[0] = number

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    end.wait(1.0)
    end.set()
    for thread in threads:
        thread.join()

    assert not wrong[:3]
    check_sums(pool.stats())


def test_V13_malformed_handles_have_one_verdict() -> None:
    pool = Pool(Shelf())
    for handle in (Handle(b"short", OBJECT, 0), Handle(pool.id, b"short", 0), Handle(pool.id, OBJECT, MAX_PAGE + 1)):
        assert pool.get(handle) is None
        assert pool.put(handle, b"a") is False
        assert pool.land(handle, b"a", 0) is False
        assert pool.flush(Scope(*handle)) is True
    check_sums(pool.stats())


def test_N4_a_pool_says_why_nothing_is_cached() -> None:
    kinds = Registry(group=None)
    kinds.register("dict", Makes())
    pool = Pool(kinds.connect("dict"))
    handle = Handle(pool.id, OBJECT, 0)
    pool.get(handle)
    kinds.unregister("dict")
    pool.get(handle)
    pool.get(Handle(bytes(16), OBJECT, 0))
    pool.close()
    pool.get(handle)

    assert pool.stats().misses == {"absent": 1, "empty": 1, "denied": 1, "down": 1}


def test_R1_R2_are_exact_under_threads() -> None:
    pool = Pool(Shelf(max_pages=20))

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(5000):
            handle = Handle(pool.id, OBJECT, random.randrange(40))
            pool.get(handle)
            pool.put(handle, b"a" if seed % 2 else b"")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = pool.stats()
    assert stats.gets == stats.puts == 20_000
    check_sums(stats)


def test_one_call_of_sixteen_is_timed() -> None:
    clock = FakeClock()
    pool = Pool(Slow(Shelf(), clock, 0.001), clock=clock)
    handle = Handle(pool.id, OBJECT, 0)
    for _ in range(SAMPLE * 3):
        pool.put(handle, b"a")
        pool.get(handle)
        pool.flush(Scope(*handle))

    seconds = pool.stats().verb_seconds
    assert seconds is not None
    bucket = sum(bound < 0.001 for bound in BUCKETS_S)
    for verb in ("get", "put", "flush"):
        assert seconds[verb][bucket] == sum(seconds[verb]) == 3
    assert (BUCKETS_S[0], round(BUCKETS_S[-1], 2)) == (1e-5, 0.66)
