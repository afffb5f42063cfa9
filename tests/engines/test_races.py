"""Threads put, get and flush one another's handles, with contents that say what they must be; and forks meanwhile.

Twenty seconds under `CI=true`, five on a developer's machine; test_soak.py goes on for as long as it is told. Laws V9,
V15, C7, C8, I14, X28, T1, T2.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cleancache.backend import Backend
from cleancache.handle import Handle, Scope
from cleancache.pool import Pool
from cleancache.registry import Registry
from cleancache.store import Store
from cleancache.testing import Plan, Rig, first_seed, race
from cleancache.testing.laws import OTHER_POOL, POOL
from tests.engines.test_laws_binding import pool_rig, slot_rig
from tests.engines.test_laws_store import rig as store_rig

pytestmark = pytest.mark.expects_logs

IN_CI = os.environ.get("CI") == "true"
FORKS = {"store": 200, "slot": 50, "pool": 50}


def small(background: bool = False, exclusive: bool = False) -> Rig:
    """A Store that is always full."""
    return store_rig(Store(512 << 10, segment_bytes=16_384, background=background, exclusive=exclusive))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make", "plan"),
    [
        ("store", small, Plan(page_bytes=3000, pages=20)),
        ("store with its thread", lambda: small(background=True), Plan(page_bytes=3000, pages=20)),
        ("narrow", lambda: small(background=True), Plan(pools=(POOL,), objects=1, pages=2, page_bytes=3000)),
        ("exclusive", lambda: small(exclusive=True), Plan(page_bytes=3000, pages=8, takes=True)),
        ("slot that comes and goes", slot_rig, Plan(pools=(POOL, OTHER_POOL), pages=8)),
        ("pool on all of it", pool_rig, Plan(pools=(POOL,), pages=8)),
    ],
)
def test_V9_V15_no_torn_and_no_old_page_under_threads(name: str, make: Callable[[], Rig], plan: Plan) -> None:
    rig = make()
    try:
        long = name == "store with its thread"
        seconds = (20 if long else 4) if IN_CI else (5 if long else 1)
        calls = race(rig, seed=first_seed(), seconds=seconds, threads=8, plan=plan)
    finally:
        rig.close()

    assert calls > 1000


def test_close_under_load_raises_in_no_reader() -> None:
    for _ in range(10):
        store = Store(512 << 10, segment_bytes=16_384, background=True)
        errors: list[BaseException] = []
        with busy(store, errors):
            time.sleep(0.01)
            store.close()
            time.sleep(0.01)
        assert not errors, f"a verb raised {errors[0]!r} while the Store was closed"


@contextmanager
def busy(backend: Backend, errors: list[BaseException], threads: int = 3) -> Iterator[None]:
    """Threads that put, get and flush all the time."""
    stop = threading.Event()

    def work(number: int) -> None:
        handles = [Handle(POOL, bytes([number]) * 24, page) for page in range(50)]
        data = os.urandom(4000)
        try:
            while not stop.is_set():
                for handle in handles:
                    backend.put(handle, data)
                    backend.get(handle)
                backend.flush(Scope(POOL, handles[0].object))
        except BaseException as error:  # shown by the test
            errors.append(error)

    workers = [threading.Thread(target=work, args=(number,), name=f"busy-{number}") for number in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def child(check: Callable[[], bool]) -> int:
    """Fork; the child ends with 0 if *check* holds, 1 if not, 2 if it raised, and by SIGALRM if it hangs."""
    pid = os.fork()
    if pid:
        return pid
    status = 2
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        status = 0 if check() else 1
    finally:
        os._exit(status)


@pytest.mark.slow
# forking while threads run is the very thing under test; Python warns of it from 3.12 on
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", ["store", "slot", "pool"])
def test_I14_X28_T1_hundreds_of_forks_with_busy_threads_and_no_deadlock(kind: str) -> None:
    registry = Registry(group=None)
    registry.register("zcache", lambda _: Store(512 << 10, segment_bytes=16_384, background=True))
    backend: Backend = (
        Store(512 << 10, segment_bytes=16_384, background=True) if kind == "store" else registry.connect("zcache:1M")
    )
    if kind == "pool":
        backend = Pool(backend, POOL)
    handle = Handle(POOL, b"parent" * 4, 0)

    def in_the_child() -> bool:
        if backend.get(handle) is not None:
            return False  # T2: the child starts empty
        if not any(backend.put(handle, b"child's") for _ in range(3)):
            return False
        kept = backend.get(handle) == b"child's"
        return kept and backend.flush(Scope(POOL)) and backend.get(handle) is None and backend.stats().gets >= 3

    errors: list[BaseException] = []
    outcomes = []
    with busy(backend, errors):
        for _ in range(FORKS[kind]):
            backend.put(handle, b"parent's")
            pid = child(in_the_child)
            outcomes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            assert backend.get(handle) in (None, b"parent's")
    backend.close()
    registry.close()

    assert not errors
    assert outcomes == [0] * FORKS[kind], f"children ended with {sorted(set(outcomes))} (1 wrong, 2 raised, -14 hung)"


def test_T2_a_forked_child_neither_shares_nor_doubles_the_budget() -> None:
    store = Store(8 << 20)
    for page in range(100):
        store.put(Handle(POOL, bytes(24), page), os.urandom(60_000))

    def in_the_child() -> bool:
        stats = store.stats()
        return stats.resident_pages == 0 and stats.gets == 0 and not (stats.used_bytes or {})["pages"]

    status = os.waitstatus_to_exitcode(os.waitpid(child(in_the_child), 0)[1])
    assert store.get(Handle(POOL, bytes(24), 0)) is not None
    store.close()

    assert status == 0
