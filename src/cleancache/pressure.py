"""A limit that follows the memory there is: a pure decision, and a thread that makes stores keep to it.

The configured limit is a ceiling (law M3). `read_facts` asks the kernel, `decide` turns the answer into a limit and
`Watch` applies it: it falls at once and rises by 1/8 of the gap a step, Xen's self-balloon the other way round. Memory
counts for a store when it is free, or when the store itself holds it: what it drops comes back to MemAvailable and to
its group.

What bounds a store: MemAvailable less a floor, and for this process's own control group *and each ancestor* the limit
less what is used, plus `inactive_file`, less a floor. Without swap there is little stall before an OOM kill: the floors
protect, PSI only makes it gentle. PSI lowers the limit only where memory is tight, for the PSI of a host also counts
strangers that thrash inside a limit of their own while the host has room.

Locks: `Watch._lock` guards its list of stores and its thread; no store is called under it, no finalizer takes it.
Cases M2, M3, X5, X11, X28.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cleancache.backend import Stats
from cleancache.memory import Facts, read_facts
from cleancache.memory import pressure_path as _path_of_pressure

MIB = 1 << 20
FLOOR_SHARE = 16  # 1/16 of the memory is left to others, within the two bounds below
LEAST_FLOOR_BYTES = 16 * MIB
GREATEST_FLOOR_BYTES = 1024 * MIB
RISE_SHARE = 8  # of the gap, a step (law M3)
STALL_PERCENT = 5.0  # of the last ten seconds some task waited for memory; the same as in TRIGGER
STALL_KEEPS = 3, 4  # of what is used, a step under stall: two seconds and an event to 3/8
TIGHT_SHARE = 4  # PSI counts where less than a quarter of the memory is available
STEP_S = 1.0
TRIGGER = b"some 100000 2000000\0"  # 0.1 s of stall in 2 s; the NUL and a window of whole 2 s are needed

_log = logging.getLogger("cleancache.pressure")


def floor_bytes(memory_bytes: int) -> int:
    """The part of *memory_bytes* that is left to others.

    >>> floor_bytes(200 * MIB) // MIB, floor_bytes(8192 * MIB) // MIB, floor_bytes(1 << 40) // MIB
    (16, 512, 1024)
    """
    return min(max(memory_bytes // FLOOR_SHARE, LEAST_FLOOR_BYTES), GREATEST_FLOOR_BYTES)


def decide(limit: int, ceiling: int, used: int, facts: Facts) -> int:
    """The next limit of a store whose limit is *limit*, may be *ceiling*, and which holds *used* bytes.

    Laws: M3: it falls at once, rises by 1/8 of the gap, and lies within 0 … *ceiling*.

    >>> decide(1 << 30, 1 << 30, 1 << 30, Facts())
    1073741824
    >>> decide(0, 800, 0, Facts())
    100
    """
    bound, tight = ceiling, False
    for memory, room in facts.rooms():
        bound = min(bound, room - floor_bytes(memory) + used)
        tight = tight or room < memory // TIGHT_SHARE
    stalled = tight and facts.stall_percent is not None and facts.stall_percent >= STALL_PERCENT
    if stalled:
        bound = min(bound, used * STALL_KEEPS[0] // STALL_KEEPS[1])
    bound = max(bound, 0)
    if bound <= limit:
        return bound
    return limit if stalled else limit - (limit - bound) // RISE_SHARE  # rounded up, so that it arrives


class Limited(Protocol):
    """What a `Watch` needs of a store: what it holds and may hold, and a way to say less."""

    def set_limit(self, limit_bytes: int) -> int: ...
    def stats(self) -> Stats: ...


class Watch:
    """Keeps the limits of any number of stores at what there is room for; holds none of them alive.

    Threads: `add`, `remove`, `stop` from any; one daemon thread steps once a second and whenever PSI says so. A process
    that may not start it goes on with the limits as configured (X11). After a fork the child's watch is empty and has
    no thread (X28).
    """

    def __init__(
        self,
        *,
        facts: Callable[[], Facts] = read_facts,
        clock: Callable[[], float] = time.monotonic,
        pressure_path: str | None = None,
    ) -> None:
        self._facts, self._clock = facts, clock
        self._pressure_path = pressure_path
        self._forget()
        _watches.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()  # guards _stores and _thread; taken by no finalizer, held over no call of a store
        self._stores: list[weakref.ref[Limited]] = []
        self._thread: threading.Thread | None = None
        self._wake_fd = self._psi_fd = -1
        self._rose_at = self._clock()

    def _drop_after_fork(self) -> None:
        self._close(self._wake_fd, self._psi_fd)
        self._forget()

    @property
    def is_running(self) -> bool:
        """Say whether the thread is there."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def add(self, store: Limited) -> bool:
        """Watch *store* from now on; say whether there is a thread that does it."""
        with self._lock:
            self._stores = [ref for ref in self._stores if ref() not in (None, store)]
            self._stores.append(weakref.ref(store))
        return self.start()

    def remove(self, store: Limited) -> None:
        """Watch *store* no longer; its limit stays. The thread ends with the last one."""
        with self._lock:
            self._stores = [ref for ref in self._stores if ref() not in (None, store)]
            is_last = not self._stores
        if is_last:
            self.stop()

    def step(self, *, is_stalled: bool = False) -> int:
        """Look once and move the limits; the bytes given back. *is_stalled*: PSI woke us just now.

        PSI may wake us often, but limits rise once a `STEP_S`.
        """
        now = self._clock()
        may_rise = now - self._rose_at >= STEP_S
        if may_rise:
            self._rose_at = now
        given_back = 0
        with self._lock:
            stores = [store for ref in self._stores if (store := ref()) is not None]
        for store in stores:
            stats = store.stats()
            limit, ceiling = stats.limit_bytes, stats.ceiling_bytes
            if limit is None or ceiling is None:
                continue
            used = sum((stats.used_bytes or {}).values())
            facts = self._facts()  # anew for each store: the one before may have given memory back
            if is_stalled:  # avg10 lags behind
                facts = replace(facts, stall_percent=max(facts.stall_percent or 0.0, STALL_PERCENT))
            wanted = decide(limit, ceiling, used, facts)
            if wanted < limit or (wanted > limit and may_rise):
                _log.info(
                    "limit of a store %s from %d to %d bytes", "falls" if wanted < limit else "rises", limit, wanted
                )
                given_back += store.set_limit(wanted)
        return given_back

    def start(self) -> bool:
        """Start the thread unless it runs; say whether it runs."""
        with self._lock:
            if self.is_running:
                return True
            try:
                self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                self._psi_fd = _trigger(self._pressure_path or _path_of_pressure("/"))
                fds = self._wake_fd, self._psi_fd
                thread = threading.Thread(target=self._run, args=fds, name="cleancache-pressure", daemon=True)
                thread.start()
            except (OSError, RuntimeError) as error:  # no descriptor, or no thread (X10, X11)
                self._close(self._wake_fd, self._psi_fd)
                _log.warning("no thread watches the memory, limits stay as configured: %s", error)
                return False
            self._thread = thread
            return True

    def stop(self) -> None:
        """End the thread and wait for it, a second at most; stores stay listed and `start` begins anew."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None and self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)

    def _close(self, *fds: int) -> None:
        """Close *fds*, under the lock: each is closed once, by the thread that polls it or where none does."""
        for fd in fds:
            if fd >= 0:
                os.close(fd)
        if fds == (self._wake_fd, self._psi_fd):
            self._wake_fd = self._psi_fd = -1

    def _run(self, wake_fd: int, psi_fd: int) -> None:
        poll = select.poll()
        poll.register(wake_fd, select.POLLIN)
        if psi_fd >= 0:
            poll.register(psi_fd, select.POLLPRI)
        try:
            while True:
                is_stalled = False
                for fd, event in poll.poll(STEP_S * 1000):
                    if fd == wake_fd:
                        return
                    is_stalled = bool(event & select.POLLPRI)
                    if event & (select.POLLERR | select.POLLNVAL):  # the group went away: once a second must do
                        poll.unregister(fd)
                self.step(is_stalled=is_stalled)
        finally:
            with self._lock:
                self._close(wake_fd, psi_fd)


def _trigger(path: str) -> int:
    """A descriptor that polls POLLPRI on stall, or -1: no PSI here, or none for us."""
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(fd, TRIGGER)
    except OSError:
        if fd >= 0:
            os.close(fd)
        return -1
    return fd


_watches: weakref.WeakSet[Watch] = weakref.WeakSet()
watch = Watch()  # of this process; `zcache` adds its stores


def _after_fork_in_child() -> None:
    for each in list(_watches):
        each._drop_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
