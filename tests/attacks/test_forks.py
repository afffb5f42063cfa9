"""Forks at bad moments."""

from __future__ import annotations

import threading

from cleancache.store import Store, forks
from tests.attacks.children import run

CHILD_MAPS_WHERE_THE_ARENA_WAS = """
import mmap, os
maps = []
os.register_at_fork(after_in_child=lambda: maps.extend(mmap.mmap(-1, 16 << 20) for _ in range(16)))  # before ours

from cleancache.handle import Handle
from cleancache.store import Store

store = Store(256 << 20)
store.put(Handle(bytes(16), bytes(24), 0), b"parent's")
pid = os.fork()
if not pid:
    os._exit(any(each[0] or each[-1] for each in maps))
status = os.waitpid(pid, 0)[1]
store.close()
print(os.waitstatus_to_exitcode(status))
"""


def test_T2_X28_a_child_does_not_unmap_what_came_to_lie_where_the_arena_was() -> None:
    assert run(CHILD_MAPS_WHERE_THE_ARENA_WAS).strip() == "0"  # -11: the child's own memory was gone


A_STORE_IS_MADE_WHILE_THE_PROCESS_FORKS = """
import os
made = []
os.register_at_fork(before=lambda: made.append(make()))  # runs after ours, when the locks of all Stores are taken

from cleancache.handle import Handle
from cleancache.store import Store

handle = Handle(bytes(16), bytes(24), 0)

def make():
    store = Store(16 << 20)
    store.put(handle, b"parent's")
    return store

pid = os.fork()
if not pid:
    store = made[0]
    os._exit(not (store.get(handle) is None and store.put(handle, b"child's") and store.get(handle) == b"child's"))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_I14_X28_a_store_that_was_made_while_the_process_forked_starts_empty_in_the_child() -> None:
    assert run(A_STORE_IS_MADE_WHILE_THE_PROCESS_FORKS).strip() == "0"


def test_X30_X28_an_interrupt_between_the_locks_of_a_fork_leaves_none_held() -> None:
    store = Store(1 << 20)
    store._core.reclaim_lock.acquire()  # and then KeyboardInterrupt: the fork goes on
    forks._held[:] = [store]
    forks._after_in_parent()

    def try_both() -> None:
        with store._core.reclaim_lock, store._core.lock:
            done.set()

    done = threading.Event()
    other = threading.Thread(target=try_both, daemon=True)
    other.start()
    assert done.wait(10)
    other.join()
    store.close()
