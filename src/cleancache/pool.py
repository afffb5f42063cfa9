"""What a mount holds: a pool id, a back end, and its own counters (laws 1.2, 1.4, I1, I2, I11, F8).

A pool is private (128 random bits, one owner, its pages end with it) or shared (a UUID; leaving ends a membership and
nothing else). A handle of another pool is refused and missed (`denied`), whoever asks.

**Flights.** Bytes that were on their way when a flush began must not land after it. `mark` gives the flush count of an
object before its bytes are first read; `land` puts them only if no flush began since. No lock is held across the back
end: a landing registers itself; a flush counts up, waits for the landings that began before it, and only then flushes
the back end. A landing that is slower than the flush will wait has its page shut (missed, refused: `owed`) until it has
cleaned up behind itself. Flush counts are kept in 256 stripes by the object's first byte, and one for the pool: two
objects that share a stripe cost a page that is not kept, never more.

Order of locks: the pool's lock is taken under no other, and no other under it. Finalisers only append to a deque (X32).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Callable

from cleancache.backend import Backend, Buffer, Stats, copying
from cleancache.errors import SpecError
from cleancache.handle import POOL_BYTES, Handle, Scope, is_valid, private_pool, scope_is_valid
from cleancache.slot import Slot
from cleancache.tally import Reasons, Tally, drained

WAIT_S = 0.05  # how long a flush waits for landings, and an end for calls under way: the deadline of laws 1.6
SAMPLE = 16  # one call of so many is timed; a power of two
BUCKETS_S = tuple(1e-5 * 4**power for power in range(9))  # 10 µs … 0.66 s, ×4; the last count is what took longer
STRIPES = 256

_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """The name space of one mount in *backend*: private with a new id, unless *id* and *shared* say otherwise.

    Raises: SpecError, if *id* is not 16 bytes, or the pool is shared and a tier exclusive.
    Threads: any. Cost: 0.3 µs a call above the back end.

    >>> pool = Pool(Absent())
    >>> pool.put(Handle(pool.id, bytes(24), 0), b"clean"), pool.get(Handle(bytes(16), bytes(24), 0))
    (False, None)
    >>> pool.stats().misses
    {'denied': 1}
    """

    def __init__(
        self,
        backend: Backend,
        id: bytes | None = None,
        *,
        shared: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._slot: Slot | None = None  # first, for `__del__`
        self._is_inherited = False  # a forked child that merely forgets its parent's pool must not end it
        if id is not None and not (isinstance(id, bytes) and len(id) == POOL_BYTES):
            raise SpecError(f"a pool id has {POOL_BYTES} bytes, those of a UUID; got {id!r}")
        if shared and id is None:
            raise SpecError("a shared pool is named by the UUID that its members agree on; give its 16 bytes as id")
        self.id = private_pool() if id is None else id
        self.is_shared = shared
        self.backend = backend
        self._ask, self._ask_into, self._offer = _with_reasons(backend)
        self._clock = clock
        if isinstance(backend, Slot):
            backend.join(self.id, shared=shared)
            self._slot = backend
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._landed = threading.Condition(self._lock)
        self._stripes = [0] * STRIPES
        self._whole = 0
        self._landing: set[_Landing] = set()
        self._shut: dict[Handle, int] = {}  # pages of landings that a flush did not wait for
        self._is_closed = self._is_odd = False
        self._gone = False  # the pages died with this pool
        self._gets, self._hits, self._puts, self._kept = Tally(), Tally(), Tally(), Tally()
        self._missed, self._refused, self._flushes = Reasons(), Reasons(), Reasons()
        self._seconds = {verb: tuple(Tally() for _ in (*BUCKETS_S, 0)) for verb in ("get", "put", "flush")}
        self._flush_turn = Tally()

    def __repr__(self) -> str:
        return f"<Pool {self.id[:4].hex()} {'shared' if self.is_shared else 'private'} of {self.backend!r}>"

    # -- the verbs

    def get(self, handle: Handle) -> bytes | None:
        """The bytes of *handle*, or None."""
        turn = self._gets.step()
        if handle[0] != self.id or self._is_odd:
            reason = self._obstacle(handle)
            if reason:
                self._missed.step(reason)
                return None
        try:
            if turn & (SAMPLE - 1):
                data = self._ask(handle)
            else:
                began = self._clock()
                data = self._ask(handle)
                self._took("get", self._clock() - began)
        except BaseException:
            self._missed.step("down")
            raise
        if type(data) is bytes:
            if self._is_odd and (reason := self._obstacle(handle)):  # closed meanwhile: the result is void
                self._missed.step(reason)
                return None
            self._hits.step()
            return data
        self._missed.step(data if type(data) is str else "absent")
        return None

    def get_into(self, handle: Handle, into: memoryview) -> int:
        """As `get`, with the page copied into *into*: its length, 0 for a miss.

        After a miss *into* holds anything; so it does after a length that it has no room for. Units and shapes: *into*
        is contiguous and writable, format B. Cost: a copy and an allocation less than `get`, where the tier can.
        """
        turn = self._gets.step()
        if (handle[0] != self.id or self._is_odd) and (reason := self._obstacle(handle)):
            self._missed.step(reason)
            return 0
        try:
            if turn & (SAMPLE - 1):
                found = self._ask_into(handle, into)
            else:
                began = self._clock()
                found = self._ask_into(handle, into)
                self._took("get", self._clock() - began)
        except BaseException:
            self._missed.step("down")
            raise
        if type(found) is int and found > 0:
            if self._is_odd and (reason := self._obstacle(handle)):  # closed meanwhile: the result is void
                self._missed.step(reason)
                return 0
            self._hits.step()
            return found
        self._missed.step(found if type(found) is str else "absent")
        return 0

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Keep a copy of *data*, or refuse."""
        turn = self._puts.step()
        if handle[0] != self.id or self._is_odd:
            reason = self._obstacle(handle)
            if reason:
                self._refused.step(reason)
                return False
        try:
            if turn & (SAMPLE - 1):
                kept = self._offer(handle, data)
            else:
                began = self._clock()
                kept = self._offer(handle, data)
                self._took("put", self._clock() - began)
        except BaseException:
            self._refused.step("down")
            raise
        if kept is True:
            if self._is_closed and not self.is_shared:  # closed meanwhile: nothing stays behind
                self.backend.flush(Scope(*handle))
                kept = "down"
            else:
                self._kept.step()
                return True
        self._refused.step(kept if type(kept) is str else "full")
        return False

    def flush(self, scope: Scope) -> bool:
        """Forget *scope*, and void what is on its way to it."""
        self._flushes.step(scope.kind)
        if not scope_is_valid(scope):
            return True
        if scope.pool != self.id:
            return False
        if self._is_closed:
            return self._gone
        began = self._clock()
        self._overtake(scope)
        answer = self.backend.flush(scope)
        if not self._flush_turn.step() & (SAMPLE - 1):
            self._took("flush", self._clock() - began)
        return answer

    def stats(self) -> Stats:
        """What was asked through this pool; `stored` are all puts kept: only who holds pages knows what was new."""
        seconds = {verb: tuple(tally.value for tally in tallies) for verb, tallies in self._seconds.items()}
        return Stats(
            hits=self._hits.value,
            misses=self._missed.values(),
            stored=self._kept.value,
            refused=self._refused.values(),
            flushes=self._flushes.values(),
            gets=self._gets.value,
            puts=self._puts.value,
            verb_seconds=seconds,
        )

    def close(self) -> None:
        """Private: the pages end, in every tier. Shared: a membership ends. Idempotent; then the id is dead."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = self._is_odd = True
        self._overtake(Scope(self.id))
        drained(lambda: self._puts.value <= self._kept.value + self._refused.total(), WAIT_S)
        if not self.is_shared:
            self._gone = self.backend.flush(Scope(self.id))
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.part(self.id, shared=self.is_shared)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        slot = self._slot
        if slot is not None and not self.is_shared and not self._is_inherited:
            slot.orphan(self.id)

    # -- flights

    def mark(self, object: bytes) -> int:
        """The flush count of *object*; note it before its bytes are first read, and give it to `land`. No lock."""
        return self._stripes[object[0] if object else 0] + self._whole

    def land(self, handle: Handle, data: Buffer, mark: int) -> bool:
        """Put *data* unless a flush of *handle* began since *mark*; what a flush overtakes is not kept either.

        Laws: 1.2 (flights), F8, C7. Threads: any; no lock is held across the back end.
        """
        if handle[0] != self.id or not is_valid(handle):
            return self.put(handle, data)
        me = _Landing(handle)
        overtaken = True  # an interrupt counts as one, wherever it comes
        try:
            with self._lock:
                is_late = self.mark(handle[1]) != mark
                if not is_late:
                    self._landing.add(me)
            if is_late:
                overtaken = False
                self._puts.step()
                self._refused.step("late")
                return False  # and no flush of the page: what is there now is newer (C8)
            kept = self.put(handle, data)
            with self._lock:
                is_late = self.mark(handle[1]) != mark
                if not is_late:
                    self._end(me)
            overtaken = is_late
            return kept and not overtaken
        finally:
            if overtaken:
                try:
                    self.backend.flush(Scope(*handle))
                finally:
                    with self._lock:
                        self._end(me)

    def _end(self, me: _Landing) -> None:
        self._landing.discard(me)
        if me.is_shut:
            me.is_shut = False
            left = self._shut[me.handle] - 1
            if left:
                self._shut[me.handle] = left
            else:
                del self._shut[me.handle]
                self._is_odd = bool(self._shut) or self._is_closed
        self._landed.notify_all()

    def _overtake(self, scope: Scope) -> None:
        """Void all flights to *scope*; wait for the landings that began before, or shut their pages."""
        with self._lock:
            if scope.object is None:
                self._whole += 1
            else:
                self._stripes[scope.object[0]] += 1
            if not self._landing:
                return
            before = {one for one in self._landing if scope.covers(one.handle)}
            if not self._landed.wait_for(lambda: not (before & self._landing), WAIT_S):
                for one in before & self._landing:
                    if not one.is_shut:
                        one.is_shut = self._is_odd = True
                        self._shut[one.handle] = self._shut.get(one.handle, 0) + 1

    # -- the rest

    def _obstacle(self, handle: Handle) -> str | None:
        if handle[0] != self.id:
            return "denied" if is_valid(handle) else "malformed"
        if self._is_closed:
            return "down"
        return "owed" if handle in self._shut else None

    def _took(self, verb: str, seconds: float) -> None:
        self._seconds[verb][bisect_left(BUCKETS_S, seconds)].step()

    def drop_after_fork(self) -> None:
        """In a forked child: new locks, no landings, counters from 0; the same pool in the child's own back end."""
        was_closed, gone = self._is_closed, self._gone
        self._is_inherited = True
        self._start()
        self._is_closed = self._is_odd = was_closed
        self._gone = gone


class _Landing:
    """A put under way that a flush has to know about."""

    __slots__ = ("handle", "is_shut")

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.is_shut = False


Asks = Callable[[Handle], "bytes | int | str | None"]
AsksInto = Callable[[Handle, memoryview], "bytes | int | str | None"]
Offers = Callable[[Handle, Buffer], "bool | str"]


def _with_reasons(backend: Backend) -> tuple[Asks, AsksInto, Offers]:
    """The verbs of *backend* that also say why, if it has them."""
    ask: Asks = getattr(backend, "ask", backend.get)
    ask_into: AsksInto = getattr(backend, "ask", None) or copying(backend)
    offer: Offers = getattr(backend, "offer", backend.put)
    return ask, ask_into, offer


def _after_fork() -> None:
    for pool in list(_pools):
        pool.drop_after_fork()


os.register_at_fork(after_in_child=_after_fork)
