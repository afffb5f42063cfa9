"""What a fork does to the Stores of a process (laws I14, T1, T2).

Before: the locks of every Store are taken, in one order, so that none is in the middle of a change. In the parent
they are let go. In the child each Store starts empty: new locks, no thread, nothing counted; the parent's mapping is
not there.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import Protocol

from cleancache.store.core import Core


class Forked(Protocol):
    """A Store, as far as this file needs it."""

    _core: Core

    def drop_after_fork(self) -> None: ...


_stores: weakref.WeakSet[Forked] = weakref.WeakSet()
_held: list[Forked] = []


def watch(store: Forked) -> None:
    """See to *store* at every fork, for as long as it is alive."""
    _stores.add(store)


def _before_fork() -> None:
    for _ in range(100):
        with contextlib.suppress(RuntimeError):  # another thread made a Store meanwhile: the set changed
            _held[:] = sorted(_stores, key=id)
            break
    for store in _held:
        store._core.reclaim_lock.acquire()
        store._core.lock.acquire()


def _after_in_parent() -> None:
    for store in reversed(_held):
        for lock in (store._core.lock, store._core.reclaim_lock):
            with contextlib.suppress(RuntimeError):  # an interrupt came before it was taken
                lock.release()
    _held.clear()


def _after_in_child() -> None:
    for store in list(_stores):  # also one that was made after the locks were taken
        store.drop_after_fork()
    _held.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
