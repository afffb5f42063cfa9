"""The owner of page memory: one limit, one eviction order, one account, whatever pool or client the pages belong to.

Only the files of this package hold page bytes. `Store` keeps the verbs and their counters, `core` the index and the
books, `arena` the memory, `reclaim` the making of room. A handle names bytes, for ever; the Store gives back the last
accepted, unflushed bytes of a handle, verified against header and checksum, or misses. Wishes W5, W6, W9.

Locks: two, in this order. `Core.reclaim_lock` is for whoever frees segments; their pages are compressed under it.
`Core.lock` guards index and books; it is held for the copy of a put, never for a hit's copy nor across a compression.
A hit takes neither (an exclusive one does): it looks the record up, copies, and checks what it copied; if the check
fails it looks again under `Core.lock`, where nothing moves: only then is a record called corrupt. `Core.lock` is
re-entrant, since the garbage collector may run a finaliser that reads through the cache while this thread holds it:
verbs that arrive so refuse and miss (`late`), and a flush is carried out before the lock is let go (T3, X32).
"""

from __future__ import annotations

import struct
import time
import weakref
from collections.abc import Callable
from typing import Final

from cleancache import codec as codecs
from cleancache.backend import Buffer, Stats
from cleancache.codec import CODEC_SHIFT, HEADER, HEADER_BYTES, LENGTH_BITS, LENGTH_MASK
from cleancache.handle import MAX_PAGE, Handle, Scope, is_valid, scope_is_valid
from cleancache.policy import MAX_TOUCHES
from cleancache.store import forks, reclaim
from cleancache.store.core import TOUCH_SHIFT, Core, Evicted, Spill, so_far
from cleancache.store.puts import PATIENCE_S, Puts

__all__ = ["Evicted", "Spill", "Store"]

_SLICE: Final = 2048  # pages flushed under one hold of the lock
_unpack = HEADER.unpack_from
_hash = codecs.checksum_function


class Store(Puts):
    """A `Backend` that keeps pages in at most *limit_bytes* of this process's memory, everything it needs included.

    Laws: all of `docs/laws.md` that say `store`. Units and shapes: pages of 1 byte to `max_page_bytes`. Threads: any.
    Cost: a raw hit is one copy and one checksum, a put the same and a keyed hash (bench/store.py, G1, G2).

    *background*: a thread makes room ahead of the puts and no put waits for a codec; without it, each put makes its
    own room. *reader_bytes*: charged for what the Readers of this process keep raw. *spill*: is offered each page
    that is evicted, under the lock; it may only queue it. *exclusive*: a hit takes the page.

    >>> store = Store(1 << 20)
    >>> handle = Handle(bytes(16), bytes(24), 0)
    >>> store.put(handle, b"clean"), store.get(handle)
    (True, b'clean')
    >>> store.flush(Scope(handle.pool)), store.get(handle)
    (True, None)
    """

    deadline_s: Final = None  # it computes in this process: a late answer means a busy machine, not a tier that is away

    def __init__(
        self,
        limit_bytes: int,
        *,
        codec: str = "lz4",
        exclusive: bool = False,
        background: bool = False,
        reader_bytes: int = 0,
        spill: Spill | None = None,
        clock: Callable[[], float] = time.monotonic,
        segment_bytes: int | None = None,
    ) -> None:
        self._codec = codecs.load(codec)
        self._core = Core(limit_bytes, reader_bytes=reader_bytes, spill=spill, segment_bytes=segment_bytes, clock=clock)
        self.max_page_bytes = self._core.max_page_bytes
        self._is_exclusive = exclusive
        self._is_background = background
        self._is_frozen = False
        self._is_closed = False
        self._inside = False  # this thread is in the middle of a change (it holds the lock)
        self._owed: list[Scope] = []  # flushes that arrived so
        self._patience_s, self._patience_at = PATIENCE_S, clock()
        self._reclaimer: reclaim.Reclaimer | None = None
        if background:
            self._core.wake = _waker(weakref.ref(self))
        forks.watch(self)

    # --- verbs ------------------------------------------------------------------------------------

    def get(self, handle: Handle) -> bytes | None:
        """The page of *handle*, or None. See `Backend.get`."""
        core = self._core
        next(core.gets)
        try:
            pool, obj, page = handle
            objects = core.pools.get(pool)
            pages = None if objects is None else objects.get(obj)
            if pages is None:
                return self._miss_far(handle)
            dense = pages.dense
            place = dense[page] if 0 <= page < len(dense) else 0
            if not place and pages.far:
                place = pages.far.get(page, 0)
        except (TypeError, ValueError):  # unhashable, or not three fields
            return self._miss("malformed")
        if not place:
            if not 0 <= page <= MAX_PAGE:
                return self._miss("malformed")
            next(core.absent)
            return None
        if self._is_exclusive:
            return self._take(handle)
        at = place - 1
        view = core.view
        try:  # what `Core.read` does, without its calls, for a record under its own name
            check, meta, stamp, name, number = _unpack(view, at)
            found: bytes | None
            if number != page or stamp != core.stamp or name != pool + obj:
                found = core.read(at, pool + obj, page)
            else:
                start = at + HEADER_BYTES
                length = meta & LENGTH_MASK
                if meta == length << LENGTH_BITS | length:  # codec 0 and equal lengths: raw
                    checked: Buffer = (found := bytes(view[start : start + length]))
                else:
                    checked = view[start : start + length]
                    raw_length = min(meta >> LENGTH_BITS & LENGTH_MASK, self.max_page_bytes)
                    found = codecs.decompress(meta >> CODEC_SHIFT, checked, raw_length)
                if _hash(checked, meta ^ core.secret) != check:
                    found = None
        except (struct.error, MemoryError):  # closed meanwhile; no memory for the result
            found = None
        if found is None:
            return self._look_again(handle)
        if core.touches[at >> TOUCH_SHIFT] < MAX_TOUCHES:
            core.touches[at >> TOUCH_SHIFT] += 1  # without the lock: a count that is off by one harms nobody
        next(core.hits)
        return found

    def get_into(self, handle: Handle, into: memoryview) -> int:
        """As `get`, but the page is copied into *into*; its length, or 0 for a miss or a page that is too long.

        An extra that callers ask for with `getattr`: it saves a copy where many pages make one buffer. After a miss
        *into* may hold anything. Units and shapes: *into* is contiguous and writable, format B.
        """
        core = self._core
        at = core.find(handle) if is_valid(handle) and not self._is_exclusive else None
        if at is not None:
            try:
                check, meta, stamp, name, number = _unpack(core.view, at)
                start = at + HEADER_BYTES
                length: int = meta & LENGTH_MASK
                if meta == length << LENGTH_BITS | length and length <= len(into):
                    part = into[:length]
                    part[:] = core.view[start : start + length]
                    if (
                        number == handle[2]
                        and stamp == core.stamp
                        and name == handle[0] + handle[1]
                        and _hash(part, meta ^ core.secret) == check
                    ):
                        if core.touches[at >> TOUCH_SHIFT] < MAX_TOUCHES:
                            core.touches[at >> TOUCH_SHIFT] += 1
                        next(core.gets)
                        next(core.hits)
                        return length
            except (struct.error, ValueError):  # closed meanwhile: the slice came out shorter
                pass
        page_bytes = self.get(handle)
        if page_bytes is None or len(page_bytes) > len(into):
            return 0
        into[: len(page_bytes)] = page_bytes
        return len(page_bytes)

    def _miss_far(self, handle: Handle) -> bytes | None:
        """A miss of which not even the object is known."""
        if is_valid(handle) and not self._is_closed:
            next(self._core.absent)
            return None
        return self._miss("down" if is_valid(handle) else "malformed")

    def _miss(self, reason: str) -> bytes | None:
        with self._core.lock:
            self._core.misses[reason] = self._core.misses.get(reason, 0) + 1
        return None

    def _look_again(self, handle: Handle) -> bytes | None:
        """A record that did not verify: moved, gone or damaged. Under the lock nothing moves, so this answer stands."""
        core = self._core
        with core.lock:
            at = core.find(handle)
            if at is None:
                return self._miss("absent")
            found = core.read(at, handle[0] + handle[1], handle[2])
            if found is None:
                return self._lose(handle, at, "corrupt", "corrupt")
            next(core.hits)
            return found

    def _take(self, handle: Handle) -> bytes | None:
        """An exclusive hit moves the page out (law V8)."""
        core = self._core
        with core.lock:
            at = core.find(handle)
            if at is None:
                return self._miss("absent")
            found = core.read(at, handle[0] + handle[1], handle[2])
            if found is None or self._inside:
                return self._lose(handle, at, "corrupt", "corrupt")
            self._lose(handle, at, "taken", None)
            next(core.hits)
            return found

    def _lose(self, handle: Handle, at: int, left: str, missed: str | None) -> bytes | None:
        """The page leaves in the middle of a get. Under the lock; a finaliser inside a change only misses (`late`)."""
        if self._inside:
            return self._miss("late")
        self._inside = True
        try:
            self._core.forget(handle, at, left)
        except BaseException:
            self._core.is_broken = True
            raise
        finally:
            self._leave()
        return None if missed is None else self._miss(missed)

    def flush(self, scope: Scope) -> bool:
        """Forget everything in *scope*. Always True: nobody else holds these pages. Cost: the pages in the scope."""
        core = self._core
        if core.is_broken or self._inside:
            self._mend()
        with core.lock:
            kind = scope.kind
            core.flushes[kind] = core.flushes.get(kind, 0) + 1
            if not scope_is_valid(scope):
                return True
            if self._inside:
                self._owed.append(scope)
                return True
            if scope.page is not None or core.index.count(scope.pool, scope.object) <= _SLICE:
                self._inside = True
                try:
                    for handle, at in self._pages(scope):
                        core.forget(handle, at, "flushed")
                except BaseException:
                    core.is_broken = True
                    raise
                finally:
                    self._leave()
                return True
        self._flush_in_slices(scope)
        return True

    def _flush_in_slices(self, scope: Scope) -> None:
        """A large scope: what was there when the flush began goes in slices, so that nobody waits longer than for
        one."""
        core = self._core
        with (
            core.reclaim_lock
        ):  # no record moves meanwhile, so the offsets noted here stay true until they are forgotten
            with core.lock:
                pages = self._pages(scope)
            for start in range(0, len(pages), _SLICE):
                with core.lock:
                    self._inside = True
                    try:
                        for handle, at in pages[start : start + _SLICE]:
                            core.forget(handle, at, "flushed")
                    except BaseException:
                        core.is_broken = True
                        raise
                    finally:
                        self._leave()

    # --- limits -----------------------------------------------------------------------------------

    def enroll(
        self, pool: bytes, owner: str, *, weight: float | None = None, cap_bytes: int | None = None, domain: str = ""
    ) -> None:
        """Say who pays for *pool*, before its first put: *weight* for a soft share, *cap_bytes* for a hard cap.

        Pools of one *domain* trust one another: their equal contents are stored once. The default domain is this
        process.
        """
        core = self._core
        with core.lock:
            core.ledger.enroll(owner, weight=weight, cap_bytes=cap_bytes)
            salt = hash((core.secret, domain)) & (1 << 64) - 1 if domain else 0
            core.owners[pool] = (owner, salt, domain)

    def set_limit(self, limit_bytes: int) -> int:
        """Enforce *limit_bytes* (at most the ceiling) from now on; returns the bytes given back to the host."""
        core = self._core
        with core.lock:
            core.limit = max(0, min(limit_bytes, core.ceiling))
        return reclaim.shrink(core)

    @property
    def limit_bytes(self) -> int:
        """The limit enforced now."""
        return self._core.limit

    def freeze(self) -> None:
        """Refuse puts from now on; gets and flushes go on (law M12)."""
        with self._core.lock:
            self._is_frozen = True

    def thaw(self) -> None:
        """Take puts again."""
        with self._core.lock:
            self._is_frozen = False

    def settle(self) -> None:
        """Do now what the background thread would do: keep its reserve of empty segments."""
        core = self._core
        reclaimer = self._reclaimer or reclaim.Reclaimer(core, self._codec)
        while reclaimer.is_due(core) and reclaim.step(core, self._codec):
            pass

    # --- life -------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """A consistent snapshot. Cost: one hold of the lock."""
        core = self._core
        if core.is_broken or self._inside:
            self._mend()
        with core.lock:
            used = {
                "pages": core.pages_bytes,
                "index": core.index_bytes,
                "dead": core.dead_bytes,
                "reader": core.reader_bytes,
            }
            return Stats(
                gets=so_far(core.gets),
                puts=core.puts,
                hits=so_far(core.hits),
                misses=core.misses | {"absent": core.misses.get("absent", 0) + so_far(core.absent)},
                stored=core.stored,
                replaced=core.replaced,
                refused=dict(core.refused),
                flushes=dict(core.flushes),
                left=dict(core.left),
                resident_pages=core.resident,
                used_bytes=used,
                limit_bytes=core.limit,
                ceiling_bytes=core.ceiling,
                charged_bytes=core.ledger.snapshot(),
                logical_bytes=core.logical,
                unique_bytes=core.unique,
                evicted_age_seconds=core.evicted_age,
            )

    def close(self) -> None:
        """Drop all pages and give the memory back. Idempotent."""
        if self._reclaimer is not None:
            self._reclaimer.stop()
        core = self._core
        with core.reclaim_lock, core.lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._lose_everything()
            core.end_charges()

    def drop_after_fork(self) -> None:
        """In a child: start empty, with new locks, no thread and nothing counted. The parent's mapping is not there
        (T1, T2)."""
        arena = self._core.arena
        self._core.reset()
        if arena is not None:
            arena.abandon()
        self._core.zero_counters()
        self._reclaimer = None
        self._inside = False
        self._owed = []


def _waker(store: weakref.ref[Store]) -> Callable[[], object]:
    """What the core calls when a segment was opened, without keeping the Store alive."""

    def wake() -> None:
        alive = store()
        if alive is not None:
            alive._nudge()

    return wake
