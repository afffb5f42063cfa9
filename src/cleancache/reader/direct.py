"""Reads that go round the cache: straight from the source, under the version as far as there is one.

What is not cached (too young, no version, private, an encoded body) still has to be right: each read is as
conditional as its source can make it, and where nothing pins the version one request covers all that one call wants,
so that no call returns a blend.
"""

from __future__ import annotations

from collections.abc import Sequence

from cleancache.reader.counts import Counts
from cleancache.reader.gather import Gather
from cleancache.reader.opened import Opened
from cleancache.reader.openings import Openings
from cleancache.source.base import cut

Slice = tuple["int | None", "int | None"]


class Direct:
    """Uncached reads.  Raises: Changed, and the source's own errors.  Threads: any."""

    def __init__(self, gather: Gather, openings: Openings) -> None:
        self._gather = gather
        self._openings = openings

    @property
    def _counts(self) -> Counts:
        return self._gather.counts

    def read(self, opened: Opened, offset: int, size: int | None) -> bytes:
        """[*offset*, *offset* + *size*), or to the end."""
        fetched = self._gather.request(opened.name, opened.version, offset, size)
        if fetched.fit:
            self._openings.promote(opened)
        data = cut(fetched.offset, fetched.data, offset, size)
        self._counts.gave(0, len(data))
        return data

    def slices(self, opened: Opened, slices: Sequence[Slice]) -> list[bytes]:
        """Python's slices of an object whose size only its end tells."""
        whole = self._gather.request(opened.name, opened.version, 0, None).data
        parts = [whole[start:end] for start, end in slices]
        self._counts.gave(0, sum(map(len, parts)))
        return parts

    def ranges(self, opened: Opened, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """(start, stop) ranges inside the object: one request over all of them where nothing pins the version, else
        one each."""
        if opened.version.token:
            return [self.read(opened, start, stop - start) if stop > start else b"" for start, stop in ranges]
        wanted = [(start, stop) for start, stop in ranges if stop > start]
        if not wanted:
            return [b"" for _ in ranges]
        low, high = min(start for start, _ in wanted), max(stop for _, stop in wanted)
        fetched = self._gather.request(opened.name, opened.version, low, high - low)
        parts = [
            cut(fetched.offset, fetched.data, start, stop - start) if stop > start else b"" for start, stop in ranges
        ]
        self._counts.gave(0, sum(map(len, parts)))
        return parts
