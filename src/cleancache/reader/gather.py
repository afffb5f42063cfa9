"""Pages: from the raw pages, else the pool, else a flight from the source; checked, put, handed over.

The order that keeps bytes right: note the object's flush count, then ask the source *under the version of the open
file*, then check length and range, then hand over and `land` (which puts only while the flush count stands). Nothing
that could not be proven to have the version is put (F6), nothing that contradicts it is handed over (F4, X34). A page
of the wrong length from the cache is a miss and a flush (V6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, TypeVar

from cleancache.backend import Buffer
from cleancache.errors import Changed
from cleancache.handle import Handle, Scope
from cleancache.reader.ahead import Windows
from cleancache.reader.counts import SLOW_S, Costs, Counts
from cleancache.reader.flights import Flight, Flights, workers
from cleancache.reader.names import Names
from cleancache.reader.opened import Opened
from cleancache.reader.raw import raw_pages
from cleancache.source import Fetched, Garbled, Source, Version

if TYPE_CHECKING:
    from cleancache.pool import Pool

T = TypeVar("T")
Sink = Callable[[int, Buffer], int]  # page, its bytes → how many of them the caller gets
_new = tuple.__new__  # `_new(Handle, …)` is `Handle(…)` at half the cost

SIDE_BY_SIDE = 8  # requests of one call at a time
REQUEST_BYTES = 8 << 20  # neighbouring misses are merged up to this much
FILL_DEADLINE_S = 10.0  # how long a reader waits for another's fetch before it fetches for itself


class Gather:
    """The pages of one source in one pool.  Threads: any; no lock is held while the source or the pool works."""

    def __init__(
        self,
        source: Source,
        pool: Pool,
        names: Names,
        counts: Counts,
        *,
        page_size: int,
        readahead: int,
        is_immutable: bool,
        audit_every: int,
        fill_deadline_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._pool = pool
        self.names = names
        self.counts = counts
        self._page_size = page_size
        self._readahead_pages = readahead // page_size
        self._windows = Windows(pool, page_size, self._readahead_pages, clock)
        self._most_pages = max(1, REQUEST_BYTES // page_size)
        self._is_immutable = is_immutable
        self._audit_every = audit_every
        self._until_audit = audit_every
        self._fill_deadline_s = fill_deadline_s
        self._clock = clock
        self._flights = Flights()
        self._costs = Costs()
        self.is_distrusted = False  # an audit found other bytes: nothing of this source is cached any more (F12)

    # -- the source ----------------------------------------------------------------------------------------------------

    def version(self, name: str) -> Version:
        """Ask the source; counted and timed."""
        return self._timed(lambda: self._source.version(name), lambda _: 0)

    def request(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """One conditional read, checked; a garbled answer is asked for once more (X34), then it is an error."""
        for is_last in (False, True):
            try:
                fetched = self._timed(lambda: self._source.read(name, version, offset, size), lambda f: len(f.data))
                is_known = version.size is not None and (version.token or self._is_immutable)
                if size is not None and is_known and not fetched.covers(offset, size):
                    raise Garbled(f"{name}: {len(fetched.data)} bytes at {fetched.offset} came for {size} at {offset}")
            except Garbled as error:
                if is_last:
                    raise error.__cause__ or error from None
                continue
            if fetched.leased is False:
                self.counts.more("unleased")
            return fetched
        raise AssertionError  # the loop above returns or raises

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """A read that brings its version along, or None."""
        try:
            fetched = self._timed(lambda: self._source.first(name, offset, size), lambda f: len(f.data) if f else 0)
        except Garbled:
            return None  # then ask first, and read with the checks that need a version
        if fetched is not None and fetched.leased is False:
            self.counts.more("unleased")
        return fetched

    def _timed(self, call: Callable[[], T], weigh: Callable[[T], int]) -> T:
        begun = monotonic()
        try:
            result = call()
        except BaseException as error:
            self.counts.asked(monotonic() - begun, 0, has_failed=not isinstance(error, Changed))
            raise
        taken, size = monotonic() - begun, weigh(result)
        self.counts.asked(taken, size, has_failed=False)
        if size:
            self._costs.source(taken / max(1.0, size / self._page_size))
        return result

    # -- pages ---------------------------------------------------------------------------------------------------------

    def is_asked(self) -> bool:
        """Say whether the cache is asked now: nothing it gave was wrong, and it is worth the time (X41)."""
        return not self.is_distrusted and not self._costs.is_bypassed(self._clock)

    def collect(self, opened: Opened, pages: Iterable[int], sink: Sink) -> tuple[int, int]:
        """Give every one of *pages* (ascending) to *sink*, in any order; (bytes from the cache, bytes from the source).

        Raises: Changed, or the source's own error; what the sink got before that must not be handed out.
        """
        wanted = list(pages)
        cached, missing = 0, wanted
        if self.is_asked():
            cached, missing = self._held(opened, wanted, sink)
            if self.is_distrusted:  # an audit failed just now: nothing of what the cache gave may stay in the buffer
                cached, missing = 0, wanted
        if not missing:
            return cached, 0
        joined, fetched = self.fetch(opened, missing, sink)
        return cached + joined, fetched

    def _held(self, opened: Opened, wanted: list[int], sink: Sink) -> tuple[int, list[int]]:
        """What the pool has of *wanted* goes to *sink*; (bytes given, pages missing)."""
        get, pool, obj, length = self._pool.get, self._pool.id, opened.object, opened.page_length
        missing: list[int] = []
        cached, size = 0, self._page_size
        begun = perf_counter()
        for page in wanted:
            data = get(_new(Handle, (pool, obj, page)))
            if data is None:
                missing.append(page)
            elif len(data) != length(page, size):
                self._pool.flush(Scope(pool, obj, page))
                missing.append(page)
            elif self._audit_every and self._audited(opened, page, data) is None:
                missing.append(page)
            else:
                cached += sink(page, data)
        self._costs.asked((perf_counter() - begun) / len(wanted), self._clock)
        return cached, missing

    def fill(self, opened: Opened, offset: int, into: memoryview) -> int:
        """Fill *into* with what *opened* has from *offset* on; how many of these bytes this call fetched.

        A page that is wanted whole is copied where it belongs by the tier itself, so before the return *into* may hold
        anything. Raises: Changed, or the source's own error; then nothing of *into* may be handed out (V6).
        """
        size, length = self._page_size, len(into)
        stop = offset + length
        first = page = offset // size
        at = page * size - offset  # where in *into* the page begins, or how far before

        def sink(page: int, data: Buffer) -> int:
            start = page * size
            low, high = max(offset, start), min(stop, start + len(data))
            into[low - offset : high - offset] = memoryview(data)[low - start : high - start]
            return high - low

        if self._audit_every or not self.is_asked():
            return self.collect(opened, range(first, -(-stop // size)), sink)[1]
        pool, obj, get, get_into = self._pool.id, opened.object, self._pool.get, self._pool.get_into
        ends = length if stop == opened.version.size else length - size  # a page that begins later is wanted in part
        missing: list[int] = []
        begun = perf_counter()
        while at < length:
            handle = _new(Handle, (pool, obj, page))
            if 0 <= at <= ends:
                part = into[at : at + size]
                wanted, found = len(part), get_into(handle, part)
            else:
                data = get(handle)
                wanted, found = opened.page_length(page, size), 0 if data is None else len(data)
                if data is not None and found == wanted:
                    sink(page, data)
            if found != wanted:
                missing.append(page)
                if found:
                    self._pool.flush(Scope(*handle))
            page += 1
            at += size
        self._costs.asked((perf_counter() - begun) / (page - first), self._clock)
        return self.fetch(opened, missing, sink)[1] if missing else 0

    def one(self, opened: Opened, handle: Handle) -> bytes | None:
        """One page from the pool, whole and of the right length, or None: for reads inside a page, which are most."""
        costs = self._costs
        if self.is_distrusted or (costs.until is not None and costs.is_bypassed(self._clock)):
            return None
        begun = perf_counter()
        data = self._pool.get(handle)
        taken = perf_counter() - begun
        if taken > SLOW_S or costs.slow_gets:
            costs.asked(taken, self._clock)
        if data is None:
            return None
        if len(data) != opened.page_length(handle[2], self._page_size):
            self._pool.flush(Scope(*handle))
            return None
        if self._audit_every:
            return self._audited(opened, handle[2], data)
        return data

    def _audited(self, opened: Opened, page: int, data: bytes) -> bytes | None:
        """*data*, or None after an audit found other bytes under the same version (F12)."""
        self._until_audit -= 1
        if self._until_audit > 0:
            return data
        self._until_audit = self._audit_every
        offset = page * self._page_size
        try:
            fetched = self.request(opened.name, opened.version, offset, len(data))
        except Exception:  # no verdict: the object moved on, or the source is away, in whatever words it has for that
            return data
        truth = memoryview(fetched.data)[offset - fetched.offset :][: len(data)]
        if truth == data or not (fetched.fit or self._is_immutable):
            return data
        self.counts.more("stale_hits")
        self.is_distrusted = True
        self._pool.flush(Scope(self._pool.id, opened.object))
        return None

    def fetch(self, opened: Opened, missing: list[int], sink: Sink) -> tuple[int, int]:
        """Fetch or wait for *missing*; (bytes of others' flights, bytes of own)."""
        joined_bytes = own_bytes = 0
        may_join = True
        while missing:
            mark = self._pool.mark(opened.object)
            boarded: list[Flight] = []
            try:
                own, joined = self._flights.board(
                    opened.object, missing, mark, self._most_pages, may_join=may_join, boarded=boarded
                )
                for flight in self._lead_all(opened, own):
                    for page in range(flight.start, flight.stop):
                        data = flight.page(page)
                        assert data is not None  # a flight that did not fail has all its pages
                        own_bytes += sink(page, data)
            except BaseException:  # an interrupt, wherever it came
                self._flights.abandon(boarded)
                raise
            missing = []
            waited: set[Flight] = set()
            for page, flight in joined:
                if flight not in waited:
                    waited.add(flight)
                    self.counts.more("joined")
                    flight.landed.wait(self._fill_deadline_s)
                data = flight.page(page)
                if data is None:  # failed, or too slow: fetch for ourselves
                    missing.append(page)
                else:
                    joined_bytes += sink(page, data)
            may_join = False
        return joined_bytes, own_bytes

    def _lead_all(self, opened: Opened, own: list[Flight]) -> Iterator[Flight]:
        """Bring every flight home, some side by side where threads can be had, and empty *own*.

        Gives each once it has landed; raises the first error. Not all at once: what has landed waits in memory.
        """
        own.reverse()
        batch: list[Flight] = []
        try:
            while own:
                batch = [own.pop() for _ in range(min(SIDE_BY_SIDE, len(own)))]
                mine = [flight for flight in batch[1:] if not workers.submit(partial(self.lead, opened, flight))]
                own += reversed(mine)  # no room on the workers: later, here
                batch = [flight for flight in batch if flight not in mine]
                self.lead(opened, batch[0])
                batch.reverse()
                while batch:
                    flight = batch.pop()
                    flight.landed.wait()
                    if flight.error is not None:
                        raise flight.error
                    yield flight
        finally:
            for flight in own:  # an exception kept them from starting
                flight.fail(RuntimeError("the reader that was to lead this fetch gave up"))
                self._flights.leave(flight)

    def lead(self, opened: Opened, flight: Flight) -> None:
        """Fetch the pages of *flight*, let its joiners have them, put them. Errors go into the flight."""
        try:
            offset = flight.start * self._page_size
            size = min(flight.stop * self._page_size, opened.known_size) - offset
            fetched = self.request(opened.name, opened.version, offset, size)
            pages = self._cut(opened, fetched)
            flight.land(pages)
            if fetched.fit or self._is_immutable:
                self.land(opened, pages, flight.mark)
        except Exception as error:
            flight.fail(error)
        except BaseException as error:  # KeyboardInterrupt: the joiners go on, the caller stops (T4)
            flight.fail(error)
            raise
        finally:
            self._flights.leave(flight)

    def _cut(self, opened: Opened, fetched: Fetched) -> dict[int, Buffer]:
        """The whole pages in *fetched*."""
        size, ends = self._page_size, fetched.offset + len(fetched.data)
        first = -(-fetched.offset // size)
        if first * size == fetched.offset and len(fetched.data) == opened.page_length(first, size):
            return {first: fetched.data}
        view = memoryview(fetched.data)
        pages: dict[int, Buffer] = {}
        for page in range(first, -(-ends // size)):
            start = page * size - fetched.offset
            part = view[start : start + size]
            if len(part) == opened.page_length(page, size):
                pages[page] = part
        return pages

    def land(self, opened: Opened, pages: dict[int, Buffer], mark: int) -> None:
        """Put *pages* unless a flush began since *mark*, the name is being written, or the cache is left alone."""
        if not self.is_asked() or self.names.is_written(opened.name):
            return
        pool = self._pool
        for page, data in pages.items():
            begun = perf_counter()
            handle = Handle(pool.id, opened.object, page)
            is_kept = pool.land(handle, data, mark)
            self._costs.offered(perf_counter() - begun, self._clock)
            if is_kept and len(pages) == 1 and isinstance(data, bytes):
                raw_pages.keep(handle, data, mark)

    def land_first(self, opened: Opened, fetched: Fetched, mark: int) -> None:
        """Put what came with the first answer about a name."""
        if fetched.fit or self._is_immutable:
            self.land(opened, self._cut(opened, fetched), mark)

    # -- read-ahead ----------------------------------------------------------------------------------------------------

    def advance(self, opened: Opened, offset: int, stop: int, *, has_missed: bool) -> None:
        """Note a read of [*offset*, *stop*); where reads follow one another and miss, fetch what comes next meanwhile.

        The window starts at twice the read and doubles up to what `Windows.most` allows. Where pages ahead are in the
        cache already (one get a window finds out) nothing is fetched. Torn updates of the window between threads of
        one open file cost a guess, no more.
        """
        is_next = offset == opened.next_offset
        opened.next_offset = stop
        if not is_next or not self._readahead_pages or self.is_distrusted:
            self._windows.end(opened)
            return
        if opened.window_pages == 0:
            if not has_missed:
                return
            self._windows.begin(opened)
            opened.window_pages = max(1, -(-(stop - offset) // self._page_size))
        needed = -(-stop // self._page_size)
        start = max(opened.ahead_page, needed)
        if (start - needed) * 2 > opened.window_pages or self.names.is_written(opened.name):
            return  # more than half a window is ahead already
        opened.window_pages = min(opened.window_pages * 2, self._windows.most())
        end = min(start + opened.window_pages, -(-opened.known_size // self._page_size))
        if start >= end or self._costs.is_bypassed(self._clock):
            return
        mark = self._pool.mark(opened.object)
        if self.one(opened, Handle(self._pool.id, opened.object, start)) is not None:
            self._windows.end(opened)
            return
        opened.ahead_page = end
        boarded: list[Flight] = []
        try:
            self._flights.board(opened.object, range(start, end), mark, self._most_pages, boarded=boarded)
            for flight in boarded:
                if not workers.submit(partial(self.lead, opened, flight)):
                    self._flights.abandon([flight])  # no thread for it
                    self._windows.end(opened)
        except BaseException:
            self._flights.abandon(boarded)
            raise

    def drop_after_fork(self, names: Names, counts: Counts) -> None:
        """No flight of the parent lands in the child, which counts from 0."""
        self.names, self.counts = names, counts
        self._flights, self._costs = Flights(), Costs()
