"""Flights: a fetch on its way, and who may wait for it; and the few threads that carry fetches nobody should wait for
one by one.

A page is fetched once however many threads miss it (F9). A flight notes the flush count of its object before its
bytes are first read. A reader joins a flight only if that count is still the same, so bytes from before a flush go to
nobody who came after it (laws 1.2, F8). Joiners wait at most the fill deadline, and when the flight fails they fetch
for themselves: another's error is not theirs.

No deadlock: whoever leads flights lands them all before it waits for others', and a worker never waits for a flight.
An interrupt or a finaliser may come at any instruction, in any thread: locks are re-entrant, no thread is started under
one, and nobody waits on an Event, whose own lock an interrupt can leave held (X30, X32).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
from collections.abc import Callable, Iterable
from threading import Lock, RLock, Thread
from time import monotonic

from cleancache.backend import Buffer

PageName = tuple[bytes, int]  # object, page


class Landing:
    """Set once, waited for by any; nothing in it stays locked, whenever an interrupt comes."""

    LOOK_S = 1.0  # how often a waiter looks for itself, should whoever set it have been interrupted in the middle

    __slots__ = ("_gate", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._gate = Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Say whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Let all go on who wait; idempotent."""
        if not self._is_set:
            self._is_set = True
            with contextlib.suppress(RuntimeError):  # two set it at once
                self._gate.release()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set, *timeout_s* at most; say whether it is."""
        end = float("inf") if timeout_s is None else monotonic() + timeout_s
        while not self._is_set and (left := end - monotonic()) > 0:
            if self._gate.acquire(timeout=min(left, self.LOOK_S)):
                self._gate.release()
        return self._is_set


class Flight:
    """One request for the pages [*start*, *stop*) of an object."""

    __slots__ = ("_pages", "error", "landed", "mark", "object", "start", "stop")

    def __init__(self, obj: bytes, start: int, stop: int, mark: int) -> None:
        self.object = obj
        self.start = start
        self.stop = stop
        self.mark = mark
        self.landed = Landing()
        self.error: BaseException | None = None
        self._pages: dict[int, Buffer] = {}

    def page(self, page: int) -> Buffer | None:
        """The bytes of *page* once landed; None if the flight failed."""
        return self._pages.get(page)

    def land(self, pages: dict[int, Buffer]) -> None:
        """Let the joiners have *pages*."""
        self._pages = pages
        self.landed.set()

    def fail(self, error: BaseException) -> None:
        """Send the joiners to fetch for themselves."""
        self.error = error
        self.landed.set()


class Flights:
    """The flights of one Reader.  Threads: any; the lock is held for table work only."""

    def __init__(self) -> None:
        self._lock = RLock()  # guards _table
        self._table: dict[PageName, Flight] = {}

    def board(
        self,
        obj: bytes,
        pages: Iterable[int],
        mark: int,
        most: int,
        *,
        may_join: bool = True,
        boarded: list[Flight] | None = None,
    ) -> tuple[list[Flight], list[tuple[int, Flight]]]:
        """(flights to lead, (page, flight) pairs to wait for); neighbouring pages share a flight of at most *most*
        pages. *boarded* is told of each flight before it is on the table, for `abandon`."""
        own: list[Flight] = []
        joined: list[tuple[int, Flight]] = []
        with self._lock:
            for page in pages:
                flight = self._table.get((obj, page))
                if may_join and flight is not None and flight.mark == mark:
                    joined.append((page, flight))
                    continue
                if own and own[-1].stop == page and page - own[-1].start < most:
                    own[-1].stop = page + 1
                else:
                    own.append(Flight(obj, page, page + 1, mark))
                    if boarded is not None:
                        boarded.append(own[-1])
                self._table[obj, page] = own[-1]
        return own, joined

    def abandon(self, boarded: list[Flight]) -> None:
        """Whoever led them was interrupted: nobody shall wait for what has not landed."""
        for flight in boarded:
            if not flight.landed.is_set():
                flight.fail(RuntimeError("the reader that was to lead this fetch gave up"))
            self.leave(flight)

    def leave(self, flight: Flight) -> None:
        """Take *flight* off the table; a newer one for the same page stays."""
        with self._lock:
            for page in range(flight.start, flight.stop):
                if self._table.get((flight.object, page)) is flight:
                    del self._table[flight.object, page]

    def __len__(self) -> int:
        """Pages under way; 0 when nobody reads."""
        return len(self._table)


class Workers:
    """A few daemon threads for fetches side by side and read-ahead; they start when needed and leave when idle (T6).

    `submit` says False when there is no room or no thread can be started: then the caller does the work itself, or
    drops it.
    """

    IDLE_S = 1.0

    def __init__(self, most_threads: int = 8, most_waiting: int = 64) -> None:
        self._most_threads = most_threads
        self._most_waiting = most_waiting
        self.drop_after_fork()

    def drop_after_fork(self) -> None:
        """A child has none of its parent's threads (T1)."""
        self._lock = RLock()  # guards the counts
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: set[Thread] = set()
        self._busy = 0  # jobs submitted and not finished
        self._is_closed = False

    def submit(self, job: Callable[[], None]) -> bool:
        """Run *job*, which must not raise, on a worker; say whether it will be."""
        thread = None
        with self._lock:
            if self._is_closed or self._busy >= self._most_threads + self._most_waiting:
                return False
            self._busy += 1
            if self._busy > len(self._threads) and len(self._threads) < self._most_threads:
                thread = Thread(target=self._work, name="cleancache-reader", daemon=True)
                self._threads.add(thread)
        if thread is not None:
            try:
                thread.start()
            except RuntimeError:  # a limit, or the interpreter is going down
                with self._lock:
                    self._threads.discard(thread)
                    if not any(each.is_alive() for each in self._threads):
                        self._busy -= 1
                        return False
        self._queue.put(job)
        return True

    def _work(self) -> None:
        from threading import current_thread

        while True:
            try:
                job = self._queue.get(timeout=self.IDLE_S)
            except queue.Empty:
                job = None
            if job is None:
                with self._lock:
                    if self._is_closed or len(self._threads) > self._busy:  # enough are left for what is on its way
                        self._threads.discard(current_thread())
                        return
                continue
            with contextlib.suppress(BaseException):  # its flight has it, and others wait for this worker
                job()
            with self._lock:
                self._busy -= 1

    def stop(self, wait_s: float = 1.0) -> None:
        """Take no more work; end the idle threads, wait a moment for the others."""
        with self._lock:
            self._is_closed = True
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            if thread.is_alive():  # one that is being started cannot be waited for
                thread.join(wait_s / len(threads))
        with self._lock:
            self._is_closed = False


workers = Workers()
atexit.register(workers.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.drop_after_fork)
