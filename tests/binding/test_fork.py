"""Forks while threads run: a child waits for no lock of its parent and uses nothing it inherited (T1, I14, X28)."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable

import pytest

from cleancache.backend import Backend
from cleancache.handle import Handle, Scope
from cleancache.pool import Pool
from cleancache.registry import Registry
from cleancache.spec import Tier
from cleancache.testing import check_sums
from tests.binding.dicts import Dict, Makes

OBJECT = b"o" * 24

# Python 3.12 warns of every fork with threads; forking with threads is what is tested
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def in_child(work: Callable[[], object], timeout_s: float = 60.0) -> str:
    """What *work* gives in a forked child, as text; `deadlock` if it is not done in time."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            try:
                said = str(work())
            except BaseException as fault:
                said = f"raised {fault!r}"
            os.write(write, said.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], timeout_s)
        said = os.read(read, 4096).decode() if ready else "deadlock"
    finally:
        os.close(read)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return said


def test_I14_a_childs_slots_are_empty_and_fill_again_on_first_use() -> None:
    kinds, makes = Registry(group=None), Makes()
    kinds.register("dict", makes)
    pool = Pool(kinds.connect("dict"))
    handle = Handle(pool.id, OBJECT, 0)
    pool.put(handle, b"parent")
    before = pool.stats()

    def child() -> object:
        slot = pool.backend
        parents = makes.made[0]
        called = len(parents.calls)
        first = pool.get(handle)
        kept = pool.put(handle, b"child")
        check_sums(pool.stats())
        check_sums(slot.stats())
        return first, kept, pool.get(handle), len(makes.made), len(parents.calls) - called, parents.is_closed

    assert in_child(child) == str((None, True, b"child", 2, 0, False))
    assert pool.get(handle) == b"parent"
    assert pool.stats().puts == before.puts


def test_I14_what_a_back_end_must_drop_after_a_fork_it_is_told_to() -> None:
    class Drops(Dict):
        dropped = 0

        def drop_after_fork(self) -> None:
            self.dropped += 1

    made: list[Drops] = []

    def factory(tier: Tier) -> Backend:
        made.append(Drops())
        return made[-1]

    kinds = Registry(group=None)
    kinds.register("drops", factory)
    kinds.connect("drops")

    assert in_child(lambda: (made[0].dropped, made[0].is_closed)) == "(1, False)"
    assert made[0].dropped == 0


def test_a_slot_that_waits_goes_on_waiting_in_the_child(caplog: pytest.LogCaptureFixture) -> None:
    kinds = Registry(group=None)
    slot = kinds.connect("later")
    handle = Handle(bytes(16), OBJECT, 0)

    def child() -> object:
        before = slot.put(handle, b"a")
        kinds.register("later", Makes())
        return before, slot.put(handle, b"a")

    assert in_child(child) == "(False, True)"
    assert slot.is_empty


def test_T1_X28_two_hundred_forks_with_busy_threads_and_no_deadlock() -> None:
    kinds = Registry(group=None)
    kinds.register("shelf", lambda tier: Dict())
    pool = Pool(kinds.connect("shelf"))
    end = threading.Event()

    def busy(seed: int) -> None:
        number = seed
        while not end.is_set():
            number += 1
            handle = Handle(pool.id, OBJECT, number % 8)
            pool.land(handle, b"a", pool.mark(OBJECT))
            pool.get(handle)
            pool.flush(Scope(*handle))
            if number % 50 == 0:
                pool.backend.stats()
                pool.stats()
                kinds.connect("shelf")

    def child() -> object:
        handle = Handle(pool.id, OBJECT, 0)
        marked = pool.mark(OBJECT)
        done = pool.land(handle, b"child", marked), pool.get(handle), pool.flush(Scope(pool.id)), pool.get(handle)
        check_sums(pool.stats())
        check_sums(pool.backend.stats())
        kinds.connect("none")
        pool.close()
        return done

    threads = [threading.Thread(target=busy, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        said = [in_child(child) for _ in range(200)]
    finally:
        end.set()
        for thread in threads:
            thread.join()

    assert set(said) == {str((True, b"child", True, None))}


def test_I14_the_default_registry_and_zcache_survive_a_fork(tmp_path: object) -> None:
    kinds = Registry()
    pool = Pool(kinds.connect("zcache:pressure=no:8M"))
    handle = Handle(pool.id, OBJECT, 0)
    try:
        assert pool.put(handle, b"parent")

        def child() -> object:
            return pool.get(handle), pool.put(handle, b"child"), pool.get(handle)

        assert in_child(child) == str((None, True, b"child"))
        assert pool.get(handle) == b"parent"
    finally:
        kinds.close()
