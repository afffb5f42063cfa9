"""The Reader: byte ranges of names in, right bytes out, from the cache where the version allows it.

It asks the version at every open (F5), keeps one version an open file (F4), starts over when the object changed and
nothing was handed out yet, says `ESTALE` when something was, and lets the source's own errors through unchanged (F11,
X33). The pages are the business of `gather`, the names of `names`; all front ends are thin over this.
"""

from __future__ import annotations

import errno
import io
import os
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from cleancache.backend import MAX_PAGE_BYTES, Buffer, Stats
from cleancache.errors import Changed, SpecError
from cleancache.handle import Handle, object_digest
from cleancache.reader.counts import Counts
from cleancache.reader.direct import Direct
from cleancache.reader.gather import FILL_DEADLINE_S, REQUEST_BYTES, Gather
from cleancache.reader.names import Names
from cleancache.reader.opened import Opened
from cleancache.reader.openings import Openings
from cleancache.reader.raw import raw_pages
from cleancache.source import Source
from cleancache.source.base import cut

if TYPE_CHECKING:
    from cleancache.pool import Pool

PAGE_SIZE = 65536  # performance lesson 10
MIN_PAGE_SIZE = 4096
READAHEAD = 4 << 20
_new = tuple.__new__  # `_new(Handle, …)` is `Handle(…)` at half the cost

TRIES = 8  # versions a read goes through before it says that the object does not hold still


class Reader:
    """Reads a source through a pool.

    *max_stale* (seconds) allows versions asked for so long ago; *immutable* says that the source never changes under
    a name; *audit_every* N re-reads one of N hits from the source and compares. Threads: any, but never the event
    loop of the source. Raises: SpecError for a page size that cannot be; later only errors of the source, and ESTALE.
    """

    def __init__(
        self,
        source: Source,
        pool: Pool,
        *,
        page_size: int = PAGE_SIZE,
        readahead: int = READAHEAD,
        max_stale: float = 0.0,
        immutable: bool = False,
        audit_every: int = 0,
        fill_deadline_s: float = FILL_DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not MIN_PAGE_SIZE <= page_size <= MAX_PAGE_BYTES or page_size & (page_size - 1):
            raise SpecError(f"page_size is a power of two from 4 KiB to 1 MiB; got {page_size}")
        self.source = source
        self.pool = pool
        self.page_size = page_size
        self._shift = page_size.bit_length() - 1
        self._clock = clock
        self._is_audited = audit_every > 0
        self._counts = Counts()
        self._gather = Gather(
            source,
            pool,
            Names(),
            self._counts,
            page_size=page_size,
            readahead=readahead,
            is_immutable=immutable,
            audit_every=audit_every,
            fill_deadline_s=fill_deadline_s,
            clock=clock,
        )
        self._openings = Openings(
            source.identity,
            pool,
            self._gather,
            page_size=page_size,
            max_stale=max_stale,
            is_immutable=immutable,
            clock=clock,
        )
        self._direct = Direct(self._gather, self._openings)
        _readers.add(self)

    def open(self, name: str) -> Opened:
        """Fix the version of *name* that reads of the result will have.

        Raises: the source's own error, if the version cannot be asked; a hit needs a current version (X33, X37).
        """
        return self._openings.open(name)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, opened: Opened, offset: int, size: int) -> bytes:
        """The bytes [*offset*, *offset* + *size*) of the open file, short only at its end.

        Raises: OSError(ESTALE) when this version can no longer be read; the source's own errors.
        Cost: a slice, when the page was read just now.
        """
        total = opened.version.size
        if total is not None and offset + size > total:
            size = total - offset
        if size <= 0:
            return b""
        try:
            if not opened.is_cached:
                return self._direct.read(opened, offset, size)
            if offset >> self._shift == (offset + size - 1) >> self._shift:
                return self._read_small(opened, offset, size)
            buffer = io.BytesIO(bytes(size))  # one result buffer (performance lesson 2)
            with buffer.getbuffer() as view:
                self._fill(opened, offset, view)
            return buffer.getvalue()
        except Changed:
            raise self._stale(opened) from None

    def readinto(self, opened: Opened, offset: int, into: memoryview) -> int:
        """As `read`, into *into*; the number of bytes."""
        view = into.cast("B") if into.format != "B" or into.ndim != 1 else into
        if not opened.is_cached or view.readonly or not view.contiguous:  # no tier can copy into the latter
            data = self.read(opened, offset, len(view))
            view[: len(data)] = data
            return len(data)
        size = max(0, min(len(view), opened.known_size - offset))
        if size:
            try:
                self._fill(opened, offset, view[:size])
            except Changed:
                raise self._stale(opened) from None
        return size

    def read_ranges(self, opened: Opened, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (start, stop), 0 ≤ start; shared pages are fetched once, neighbours in one request."""
        try:
            return self._ranges(opened, ranges)
        except Changed:
            raise self._stale(opened) from None

    def fetch(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """*name*[*start*:*end*] by Python's slice rules, of one version, in as few requests as can be.

        Raises: the source's own errors; OSError(ESTALE) if the object changes faster than it can be read.
        """
        for tried in range(TRIES):
            try:
                return self._fetch(name, start, end, asks_first=tried < 2)
            except Changed:
                self._counts.more("changed")
                self._gather.names.distrust(name)
        raise OSError(errno.ESTALE, "the object changed again and again while it was read", name)

    def fetch_ranges(self, name: str, ranges: Sequence[tuple[int | None, int | None]]) -> list[bytes]:
        """As `fetch`, for several slices of one version."""
        for _ in range(TRIES):
            try:
                opened = self.open(name)
                if opened.size is None:
                    return self._direct.slices(opened, ranges)
                return self._ranges(opened, [_clip(opened.size, *bounds) for bounds in ranges])
            except Changed:
                self._counts.more("changed")
                self._gather.names.distrust(name)
        raise OSError(errno.ESTALE, "the object changed again and again while it was read", name)

    def warm(self, name: str, tell: Callable[[int], object] | None = None) -> int:
        """Bring every page of *name* into the pool; *tell* hears what each step covered. Gives the bytes in all."""
        opened = self.open(name)
        if not opened.is_cached:
            return 0
        step = REQUEST_BYTES >> self._shift or 1
        pages = -(-opened.known_size // self.page_size)
        for page in range(0, pages, step):
            stop = min(page + step, pages)
            try:
                self._gather.collect(opened, range(page, stop), lambda _page, _data: 0)
            except Changed:
                raise self._stale(opened) from None
            if tell is not None:
                tell(min(stop << self._shift, opened.known_size) - (page << self._shift))
        return opened.known_size

    def at_hand(self, opened: Opened, page: int) -> bytes | None:
        """The whole *page*, read and counted, if it was read just now; else None.  Raises: nothing.

        Cost: a look into a dict; front ends ask it before they prepare for more.
        """
        if self._is_audited or self._gather.is_distrusted:
            return None
        pool, obj = self.pool, opened.object
        data = raw_pages.get((pool.id, obj, page), pool.mark(obj))
        if data is not None:
            self._gave(opened, page << self._shift, len(data), 0)
        return data

    def _read_small(self, opened: Opened, offset: int, size: int) -> bytes:
        """A range inside one page."""
        pool, obj, page = self.pool, opened.object, offset >> self._shift
        handle = _new(Handle, (pool.id, obj, page))
        mark = pool.mark(obj)
        data: Buffer | None = None
        fetched = 0
        is_plain = not (self._is_audited or self._gather.is_distrusted)
        if is_plain:
            data = raw_pages.get(handle, mark)
        if data is None:
            page_bytes = data = self._gather.one(opened, handle)
            if page_bytes is not None and is_plain and (size < len(page_bytes) or raw_pages.is_met_again(handle)):
                raw_pages.keep(handle, page_bytes, mark)
        if data is None:
            found: list[Buffer] = []

            def sink(_page: int, data: Buffer) -> int:
                found.append(data)
                return size

            _, fetched = self._gather.fetch(opened, [page], sink)
            data = found[0]
        self._gave(opened, offset, size, fetched)
        if len(data) == size and type(data) is bytes:
            return data
        at = offset - (page << self._shift)
        return bytes(data[at : at + size])

    def _gave(self, opened: Opened, offset: int, size: int, fetched: int) -> None:
        """A read is over; *fetched* of its bytes came from the source."""
        self._counts.gave(size - fetched, fetched)
        if fetched or opened.window_pages:
            self._gather.advance(opened, offset, offset + size, has_missed=fetched > 0)
        else:
            opened.next_offset = offset + size  # all that `advance` would do

    def _fill(self, opened: Opened, offset: int, view: memoryview) -> None:
        """All of *view*, from *offset* on; counted."""
        fetched = self._gather.fill(opened, offset, view)
        self._gave(opened, offset, len(view), fetched)

    def _ranges(self, opened: Opened, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        if opened.size is None:
            return self._direct.slices(opened, ranges)
        clipped = [_clip(opened.size, *bounds) for bounds in ranges]
        if not opened.is_cached:
            return self._direct.ranges(opened, clipped)
        shift = self._shift
        buffers = [io.BytesIO(bytes(stop - start)) for start, stop in clipped]
        wanted: dict[int, list[int]] = {}  # page → ranges that need it
        for index, (start, stop) in enumerate(clipped):
            for page in range(start >> shift, ((stop - 1) >> shift) + 1) if stop > start else ():
                wanted.setdefault(page, []).append(index)

        def sink(page: int, data: Buffer) -> int:
            begins, given = page << shift, 0
            for index in wanted[page]:
                start, stop = clipped[index]
                low, high = max(start, begins), min(stop, begins + len(data))
                with buffers[index].getbuffer() as view:
                    view[low - start : high - start] = memoryview(data)[low - begins : high - begins]
                given += high - low
            return given

        cached, fetched = self._gather.collect(opened, sorted(wanted), sink)
        self._counts.gave(cached, fetched)
        return [buffer.getvalue() for buffer in buffers]

    def _fetch(self, name: str, start: int | None, end: int | None, *, asks_first: bool) -> bytes:
        low = start or 0
        # without asking: where nothing can be in the cache, and where what HEAD says never fits what GET then brings
        is_new = not (self.source.is_near or self.pool.is_shared) and self._gather.names.recall(name) is None
        if low >= 0 and (end is None or end > low) and (is_new or not asks_first):
            data = self._fetch_first(name, low, end)
            if data is not None:
                return data
        opened = self.open(name)
        opened.next_offset = -1  # one range is no sequence: nothing is read ahead of it
        if not opened.is_cached and not opened.version.token and low >= 0 and (end is None or end > low):
            return self._direct.read(opened, low, None if end is None else end - low)  # no size to be wrong about
        if opened.size is None:
            return self._direct.slices(opened, [(start, end)])[0]
        low, stop = _clip(opened.size, start, end)
        if stop <= low:
            return b""
        if not opened.is_cached:
            return self._direct.read(opened, low, stop - low)
        if low >> self._shift == (stop - 1) >> self._shift:
            return self._read_small(opened, low, stop - low)
        buffer = io.BytesIO(bytes(stop - low))
        with buffer.getbuffer() as view:
            self._fill(opened, low, view)
        return buffer.getvalue()

    def _fetch_first(self, name: str, low: int, end: int | None) -> bytes | None:
        """One request where nothing of the name was seen: the reply brings its version. None: it cannot be had so."""
        mask = self.page_size - 1
        offset = low & ~mask
        size = None if end is None else ((end + mask) & ~mask) - offset
        flushes, asked = self._flushes(), self._clock()
        fetched = self._gather.first(name, offset, size)
        if fetched is None:
            return None
        opened = self._openings.opened(name, fetched.version, asked)
        if opened.is_cached:
            # the object was not known before its bytes were read, so any flush of the pool since then voids this flight
            mark = self.pool.mark(opened.object)
            if self._flushes() == flushes:
                self._gather.land_first(opened, fetched, mark)
        data = cut(fetched.offset, fetched.data, low, None if end is None else end - low)
        self._counts.gave(0, len(data))
        return data

    def _flushes(self) -> int:
        """Flushes begun: of this pool, and of names here that had nothing to flush yet."""
        return sum(self.pool.stats().flushes.values()) + self._gather.names.flushes

    def _stale(self, opened: Opened) -> OSError:
        self._counts.more("changed")
        self._gather.names.distrust(opened.name)
        return OSError(errno.ESTALE, os.strerror(errno.ESTALE), opened.name)

    # -- writing and ending --------------------------------------------------------------------------------------------

    def flush(self, name: str) -> bool:
        """Forget every page of *name*, under every version known here and, in a shared pool, the current one.

        Call it before and after each write to the name. True: no copy is left that anyone can be given.
        """
        return self._openings.flush(name)

    def writing(self, name: str) -> AbstractContextManager[None]:
        """While this lasts no page of *name* is put; flushes it before and after (F8)."""
        return self._openings.writing(name)

    def object_of(self, place: str, token: bytes) -> bytes:
        """The object that pages of this version go to; a front end with hooks of its own flushes it."""
        return object_digest(self.source.identity, place, token, self.page_size)

    def resident_pages(self, opened: Opened) -> int:
        """How many pages of the open file the pool would give now; asks for each, so it counts as gets."""
        pages = -(-opened.known_size // self.page_size)
        return sum(self.pool.get(Handle(self.pool.id, opened.object, page)) is not None for page in range(pages))

    def stats(self) -> Stats:
        """What was read and what it took; exact when no call is under way."""
        return self._counts.stats()

    def drop_after_fork(self) -> None:
        """The child starts with empty tables, and locks that nobody holds (T1)."""
        self._counts = Counts()
        self._gather.drop_after_fork(Names(), self._counts)

    def close(self) -> None:
        """Give the raw pages back; the pool belongs to whoever made it."""
        raw_pages.drop_pool(self.pool.id)


def _clip(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    """(start, stop) of [*start*:*end*] in *size* bytes, start ≤ stop.

    >>> _clip(10, -4, None), _clip(10, 2, 99), _clip(10, 8, 3)
    ((6, 10), (2, 10), (8, 8))
    """
    low, high, _ = slice(start, end).indices(size)
    return low, max(low, high)


_readers: weakref.WeakSet[Reader] = weakref.WeakSet()


def live_readers() -> tuple[Reader, ...]:
    """All Readers of this process that are still held by someone, for statistics."""
    return tuple(_readers)


def _drop_all_after_fork() -> None:
    for reader in list(_readers):
        reader.drop_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_all_after_fork)
