"""Opening: which version a name has now, whether that is good enough to be cached, and which object its pages go to.

The version is asked at every open (F5) unless `max_stale` or `immutable` lets one count that was asked before. A
version that proves nothing is not cached (F7, counted as `unversioned`), whatever the memo says. A flush of a name
covers every object that was opened under it here and, where others share the pool, the one that is current.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cleancache.handle import Scope, object_digest
from cleancache.reader.counts import Counts
from cleancache.reader.gather import Gather
from cleancache.reader.names import NEVER, Names
from cleancache.reader.opened import Opened
from cleancache.source import NONE, STRONG, Version
from cleancache.source.base import token

if TYPE_CHECKING:
    from cleancache.pool import Pool

NO_OBJECT = bytes(24)


class Openings:
    """Names in, `Opened` out.  Threads: any.  Raises: the source's own errors."""

    def __init__(
        self,
        identity: str,
        pool: Pool,
        gather: Gather,
        *,
        page_size: int,
        max_stale: float,
        is_immutable: bool,
        clock: Callable[[], float],
    ) -> None:
        self._identity = identity
        self._pool = pool
        self._gather = gather
        self._page_size = page_size
        self._max_stale = max_stale
        self._is_immutable = is_immutable
        self._clock = clock

    @property
    def _names(self) -> Names:
        return self._gather.names

    @property
    def _counts(self) -> Counts:
        return self._gather.counts

    def open(self, name: str) -> Opened:
        """Fix the version of *name*."""
        known = self._names.recall(name)
        version = known.version if known is not None and self._is_recent(known.asked) else None
        if version is not None and not self.objection(version):
            return self.opened(name, version)
        asked = self._clock()
        return self.opened(name, self._gather.version(name), asked)

    def _is_recent(self, asked: float) -> bool:
        """Say whether a version asked for then still counts; what turned out to be wrong never does."""
        return asked > NEVER and (self._is_immutable or self._clock() - asked < self._max_stale)

    def opened(self, name: str, version: Version, asked: float | None = None) -> Opened:
        """*name* under *version*; *asked* says when the source told it, if it did just now."""
        why = self.objection(version)
        obj = NO_OBJECT if why else self._object(name, version)
        if why:
            self._counts.more("unversioned")
        if asked is not None:
            kept = version if self._is_immutable or self._max_stale > 0 else None
            surplus = self._names.remember(name, kept, asked, None if why else obj)
            if surplus is not None:
                self._pool.flush(Scope(self._pool.id, surplus))
        return Opened(name, version, obj, is_cached=not why, why=why or version.why)

    def objection(self, version: Version) -> str:
        """Why this version is not cached; empty if it is."""
        if self._gather.is_distrusted:
            return "an audit found other bytes under the same version of this source"
        if version.is_barred:
            return version.why
        if version.size is None:
            return version.why or "the source does not tell the size"
        if version.is_private and self._pool.is_shared:
            return "the server calls it private, and the pool is shared"
        if version.strength == STRONG or self._is_immutable or (version.strength != NONE and self._max_stale > 0):
            return ""
        return version.why or "no version that can be trusted"

    def promote(self, opened: Opened) -> None:
        """What was too young when it was opened has come of age under the same version: cache it from now on."""
        version = opened.version
        is_young = (
            version.strength == NONE and bool(version.token) and version.size is not None and not version.is_barred
        )
        if not is_young or self._gather.is_distrusted or (version.is_private and self._pool.is_shared):
            return
        opened.object = self._object(opened.name, version)
        self._names.remember(opened.name, None, NEVER, opened.object)
        opened.is_cached, opened.why = True, ""

    def _object(self, name: str, version: Version) -> bytes:
        place = version.place if version.place is not None else name
        text = version.token or token("size", version.size)
        return object_digest(self._identity, place, text, self._page_size)

    def flush(self, name: str) -> bool:
        """Forget every page of *name*, under every version known here."""
        objects = self._names.flushed(name)
        if objects is None:
            return self._pool.flush(Scope(self._pool.id))
        if self._pool.is_shared:
            # others may have put pages of it; what the source says now is what they could be reading
            with contextlib.suppress(Exception):  # absent, or away: then nobody can open it either
                objects = (*objects, self._object(name, self._gather.version(name)))
        is_told = True
        for obj in set(objects):
            is_told &= self._pool.flush(Scope(self._pool.id, obj))
        return is_told

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """While this lasts no page of *name* is put; flushes it before and after (F8)."""
        names = self._names
        names.begin_writing(name)
        try:
            self.flush(name)
            yield
        finally:
            try:
                self.flush(name)  # first: what was fetched meanwhile is void before anything may be put again
            finally:
                names.end_writing(name)
