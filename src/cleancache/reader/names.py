"""What a Reader remembers of a name: the version it was last told, when, and the objects whose pages it may have put.

A flush does not forget the objects of a name: a file that is still open goes on to put pages of one, and the flush
after the write must find them. Bounded: past `limit` names the least recently opened is forgotten, and from then on
the flush of a name that is not here covers the whole pool: coarser, never less. `max_stale` counts from when the
source was asked, by the monotonic clock (F5, F11).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from threading import RLock
from typing import NamedTuple

from cleancache.source import Version

LIMIT = 16384
NEVER = float("-inf")
MOST_OBJECTS = 8  # versions of one name before the oldest is flushed


class Known(NamedTuple):
    """A version, when the source was asked for it, and the object digests put under this name, oldest first."""

    version: Version | None  # None: will not be used again, so its details need no room
    asked: float
    objects: tuple[bytes, ...]


class Names:
    """Names → versions and objects, and which names are open for writing.  Threads: any; one short lock."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = RLock()  # guards everything below; a finaliser may flush
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._writers: Counter[str] = Counter()
        self._has_overflowed = False
        self.flushes = 0  # begun; a first request that began before one is void

    def recall(self, name: str) -> Known | None:
        """What is known of *name*."""
        with self._lock:
            return self._known.get(name)

    def remember(self, name: str, version: Version | None, asked: float, obj: bytes | None) -> bytes | None:
        """Note a version, and the object its pages go to; give back an object that should be flushed, since it is
        forgotten here."""
        surplus = None
        with self._lock:
            known = self._known.pop(name, None)
            objects = known.objects if known else ()
            if obj is not None and obj not in objects:
                objects = (*objects, obj)
                if len(objects) > MOST_OBJECTS:
                    surplus, objects = objects[0], objects[1:]
            self._known[name] = Known(version, asked, objects)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
                self._has_overflowed = True
        return surplus

    def distrust(self, name: str) -> None:
        """Ask again at the next open; the objects stay known."""
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                self._known[name] = known._replace(asked=NEVER)

    def flushed(self, name: str) -> tuple[bytes, ...] | None:
        """The objects that a flush of *name* must cover; None: nothing is known for certain, the whole pool."""
        with self._lock:
            self.flushes += 1
            known = self._known.get(name)
            if known is None:
                return None if self._has_overflowed else ()
            self._known[name] = known._replace(asked=NEVER)
            return known.objects

    def begin_writing(self, name: str) -> None:
        """One more writer has *name* open."""
        with self._lock:
            self._writers[name] += 1

    def end_writing(self, name: str) -> bool:
        """One writer less; say whether it was the last."""
        with self._lock:
            self._writers[name] -= 1
            if self._writers[name] <= 0:
                del self._writers[name]
                return True
            return False

    def is_written(self, name: str) -> bool:
        """Say whether somebody has *name* open for writing through this Reader (F8)."""
        return name in self._writers  # one look at a dict needs no lock
