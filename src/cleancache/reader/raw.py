"""The last few raw pages of this process: what makes a 4 KiB read of a 64 KiB page cost a slice (performance lesson 3).

One table for all Readers, at most `READER_BYTES` in all, least recently used first out. An entry carries the flush
count of its object from before its bytes were read, and is given only while that count is still the same: a flush
empties it without knowing of it.

A page that is read whole gains nothing here unless it is read again soon, and a table that turns over costs each read
the warmth of its memory: such pages are kept when they are met a second time.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from threading import RLock

from cleancache.backend import READER_BYTES

ENTRY_BYTES = 320  # what an entry takes beside its page (tests/attacks/test_limits.py): tiny pages must not be free
MET = 64  # places in the table of pages met; a power of two, a few times the pages held

PageName = tuple[bytes, bytes, int]  # pool, object, page


class RawPages:
    """A bounded table of raw pages.  Threads: any; a lock for what changes the table, none to look into it."""

    def __init__(self, limit_bytes: int = READER_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.drop_after_fork()

    def drop_after_fork(self) -> None:
        """Start empty, with a lock that nobody holds (T1)."""
        self._lock = RLock()  # guards both below; a look at the dict needs none
        self._pages: OrderedDict[PageName, tuple[bytes, int]] = OrderedDict()
        self._used_bytes = 0
        self._met = [0] * MET

    def is_met_again(self, name: PageName) -> bool:
        """Say whether *name* was met not long ago; it is from now on.  A guess: two names may share a place."""
        mark = hash(name)
        place = mark & (MET - 1)
        if self._met[place] == mark:
            return True
        self._met[place] = mark
        return False

    def get(self, name: PageName, mark: int) -> bytes | None:
        """The page, if no flush of its object began since it was read; *mark* is the object's flush count now."""
        pages = self._pages
        entry = pages.get(name)
        if entry is None:
            return None
        if entry[1] != mark:
            with self._lock:
                if pages.get(name) is entry:
                    del pages[name]
                    self._used_bytes -= len(entry[0]) + ENTRY_BYTES
            return None
        try:
            pages.move_to_end(name)
        except KeyError:
            return entry[0]  # put out meanwhile: its bytes are right all the same
        return entry[0]

    def keep(self, name: PageName, data: bytes, mark: int) -> None:
        """Keep *data*, read after the flush count was *mark*."""
        entry = (data, mark)
        with self._lock:
            older = self._pages.pop(name, None)
            self._used_bytes += len(data) - len(older[0]) if older else len(data) + ENTRY_BYTES
            self._pages[name] = entry
            while self._used_bytes > self._limit_bytes and self._pages:
                _, (gone, _) = self._pages.popitem(last=False)
                self._used_bytes -= len(gone) + ENTRY_BYTES

    def drop_pool(self, pool: bytes) -> None:
        """Give back the pages of a pool whose Reader is closed."""
        with self._lock:
            for name in [name for name in self._pages if name[0] == pool]:
                self._used_bytes -= len(self._pages.pop(name)[0]) + ENTRY_BYTES

    @property
    def used_bytes(self) -> int:
        """Bytes of the pages held; never more than the limit."""
        return self._used_bytes


raw_pages = RawPages()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=raw_pages.drop_after_fork)
