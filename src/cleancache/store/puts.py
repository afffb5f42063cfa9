"""The way in: a put finds its twin, finds room, or is refused; and the rules for changing a Store at all.

One change at a time: `_inside` is set, under the lock, while index and books are being changed. The lock is
re-entrant, so a finaliser that the garbage collector runs in this very thread may arrive in the middle of a change:
its put is refused and its get misses (`late`), and its flush is carried out when the change ends, before the lock is
let go (T3, X32). A refusal always drops an older copy (law V2).
"""

from __future__ import annotations

from typing import Final

from cleancache import codec as codecs
from cleancache.backend import Buffer
from cleancache.codec import HEADER, HEADER_BYTES, LENGTH_BITS, Codec
from cleancache.handle import Handle, Scope, is_valid
from cleancache.policy import Queue
from cleancache.store import reclaim
from cleancache.store.core import HOLDER_COST, Core

PATIENCE_S: Final = 0.05  # the longest that puts wait for room in one go
_PATIENCE_SHARE: Final = 0.1  # of the time that passes, in which puts may wait
_pack = HEADER.pack
_hash = codecs.checksum_function


class Puts:
    """The part of a `Store` that takes pages in."""

    _core: Core
    _codec: Codec
    _reclaimer: reclaim.Reclaimer | None
    _patience_s: float
    _patience_at: float
    _is_background: bool
    _is_frozen: bool
    _is_closed: bool
    _inside: bool  # a thread is in the middle of a change (it holds the lock)
    _owed: list[Scope]  # flushes that arrived so
    max_page_bytes: int

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Keep a copy of *data* under *handle*, or refuse and drop an older copy. See `Backend.put`.

        Refuses, counted by reason: 0 bytes or more than `max_page_bytes` (`size`) · no room yet (`full`) · owner at
        its cap (`quota`) · `frozen` · after close (`down`) · out of range, or not contiguous (`malformed`).
        """
        core = self._core
        if core.is_broken or self._inside:
            self._mend()
        if type(handle) is not Handle or not is_valid(handle):
            if not is_valid(handle):
                return self._put_nothing(handle, "malformed")
            handle = Handle(*handle)
        if type(data) is not bytes:
            view = memoryview(data)
            if not view.c_contiguous:
                return self._put_nothing(handle, "malformed")
            data = view.cast("B") if view.nbytes else b""
        size = len(data)
        if not 0 < size <= self.max_page_bytes:
            return self._put_nothing(handle, "size")
        meta = size << LENGTH_BITS | size  # raw
        check = _hash(data, meta ^ core.secret)
        header = _pack(check, meta, core.stamp, handle.pool + handle.object, handle.page)
        if self._is_background and self._reclaimer is None and not self._is_closed:
            self._wake()
        try:
            with core.lock:
                core.puts += 1
                done = self._place(handle, data, header, check)
                if done is not None:
                    return done
            return self._place_with_help(handle, data, header, check)
        except BaseException:
            core.is_broken = True
            core.refused["down"] = core.refused.get("down", 0) + 1
            raise

    def _put_nothing(self, handle: Handle, reason: str) -> bool:
        with self._core.lock:
            self._core.puts += 1
            return self._refuse(handle, reason)

    def _place_with_help(self, handle: Handle, data: Buffer, header: bytes, check: int) -> bool:
        """There was no room: make some, here or by the thread, or refuse."""
        core = self._core
        if self._wake():
            return self._place_with_patience(handle, data, header, check)
        for _ in range(4 + 2 * core.room_segments()):
            if not reclaim.step(core, self._codec):
                break
            with core.lock:
                done = self._place(handle, data, header, check)
                if done is not None:
                    return done
        with core.lock:
            return self._refuse(handle, "full")

    def _place_with_patience(self, handle: Handle, data: Buffer, header: bytes, check: int) -> bool:
        """Wait for the thread for as long as patience is left: a tenth of the time that passes, 50 ms at most.

        So a burst from a slow source finds room, and a stream from a fast one is slowed by a tenth and no more;
        beyond that its pages are refused.
        """
        core = self._core
        with core.lock:
            for _ in range(16):
                now = core.clock()
                self._patience_s = min(PATIENCE_S, self._patience_s + (now - self._patience_at) * _PATIENCE_SHARE)
                self._patience_at = now
                if self._patience_s <= 0 or self._inside or not core.freed.wait(self._patience_s):
                    self._patience_s -= core.clock() - now
                    break
                self._patience_s -= core.clock() - now
                done = self._place(handle, data, header, check)
                if done is not None:
                    return done
                self._nudge()
            return self._refuse(handle, "full")

    def _place(self, handle: Handle, data: Buffer, header: bytes, check: int) -> bool | None:
        """Put under the lock: True, False, or None when room must be made first."""
        core = self._core
        if self._inside or self._is_closed or self._is_frozen:
            return self._refuse(handle, "late" if self._inside else "down" if self._is_closed else "frozen")
        self._inside = True
        try:
            owner, salt, domain = core.owner_of(handle[0])
            tag = check ^ salt
            old = core.index.find(*handle)
            twin = core.twin(tag, data, domain) if core.tags[tag & core.tag_mask] >> 40 == tag >> 40 else None
            if owner in core.ledger.caps:
                for _ in range(3):
                    need = core.index.quote(*handle)
                    need += 2 * HOLDER_COST if twin is not None else HEADER_BYTES + len(data)
                    if core.ledger.fits(owner, need):
                        break
                    if not reclaim.evict_own(core, owner, need):
                        return self._refuse_here(handle, "quota")
                    old, twin = core.find(handle), core.twin(tag, data, domain)  # either may have been evicted
                else:
                    return self._refuse_here(handle, "quota")
            headroom = core.limit - core.used - (0 if core.spares else core.segment_bytes)
            if headroom < core.index.dearest(core.resident) and headroom < core.index.quote(*handle) + 2 * HOLDER_COST:
                return None
            if twin is None:
                wanted = core.ghost.take(hash(handle))
                at = core.append(Queue.SMALL, header, data, len(data), tag, owner, keep=1, touches=wanted)
                if at is None:
                    if wanted:
                        core.ghost.add(hash(handle))
                    return None
                core.remember(tag, at)
            elif twin == old:
                core.replaced += 1
                return True
            else:
                at = twin
                core.share(handle, at, owner)
            core.enter(handle, at, owner)
            core.logical += len(data)
            if old is None:
                core.resident += 1
                core.stored += 1
            else:
                segment, place, _ = core.locate(old)
                core.logical -= segment.raws[place]
                core.unhold(handle, old, owner)
                core.replaced += 1
        finally:
            if self._owed:
                self._leave()
            self._inside = False
        return True

    def _refuse(self, handle: Handle, reason: str) -> bool:
        """Count a refusal and drop an older copy (law V2). Under the lock."""
        if self._inside:
            if reason != "malformed":
                self._owed.append(Scope(*handle))
            self._core.refused[reason] = self._core.refused.get(reason, 0) + 1
            return False
        self._inside = True
        try:
            return self._refuse_here(handle, reason)
        finally:
            self._leave()

    def _refuse_here(self, handle: Handle, reason: str) -> bool:
        core = self._core
        if reason != "malformed":
            at = core.find(handle)
            if at is not None:
                core.forget(handle, at, "dropped")
        core.refused[reason] = core.refused.get(reason, 0) + 1
        return False

    def _pages(self, scope: Scope) -> list[tuple[Handle, int]]:
        """The handles of *scope* that are here, with their places. Under the lock."""
        pool, obj, page = scope
        if obj is not None and page is not None:
            at = self._core.index.find(pool, obj, page)
            return [] if at is None else [(Handle(pool, obj, page), at)]
        return [(Handle(pool, name, number), at) for name, number, at in self._core.index.pages(pool, obj)]

    def _mend(self) -> None:
        """A change ended in the middle, and the books cannot be trusted: begin with nothing, what was here is `lost`.

        Law M13. Hits need no books, and are verified. Where this thread is inside a change, the next verb does it.
        """
        core = self._core
        if core.lock._is_owned() or core.reclaim_lock._is_owned():  # type: ignore[attr-defined]  # as Condition asks it
            return
        if not core.reclaim_lock.acquire(blocking=False):  # a reclaim is under way: the next verb, then
            return
        try:
            with core.lock:
                if core.is_broken or self._inside:  # nobody is inside now: the mark was left behind
                    self._lose_everything()
                    self._inside = False
                    self._owed = []
                    core.is_broken = False
        finally:
            core.reclaim_lock.release()

    def _lose_everything(self) -> None:
        """Drop all pages, keep locks and counters. Under both locks."""
        core = self._core
        lost = core.stored - sum(core.left.values())
        if lost:
            core.left["lost"] = core.left.get("lost", 0) + lost
        arena, locks, limit = core.arena, (core.lock, core.reclaim_lock, core.freed), core.limit
        core.reset()
        core.lock, core.reclaim_lock, core.freed = locks
        core.limit = limit
        if arena is not None:
            arena.drop()

    def _leave(self) -> None:
        """End of a change: carry out the flushes that a finaliser asked for in the middle of it."""
        while self._owed:
            for handle, at in self._pages(self._owed.pop()):
                self._core.forget(handle, at, "flushed")
        self._inside = False

    def _wake(self) -> bool:
        """Let the thread make room, and start it if it does not run; False if there is none."""
        if not self._is_background:
            return False
        with self._core.lock:
            reclaimer = self._reclaimer = self._reclaimer or reclaim.Reclaimer(self._core, self._codec)
        if not reclaimer.start():
            return False
        reclaimer.wake()
        return True

    def _nudge(self) -> None:
        """Tell the thread, if it runs, that room may be short. Takes no lock."""
        if self._reclaimer is not None:
            self._reclaimer.wake()
