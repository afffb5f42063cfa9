"""The smallest back end that keeps every law: a dictionary, one lock, first in first out.

It is the reference that the suite is checked against, the tier below in tests, and the example to read first.
"""

from __future__ import annotations

import threading
from collections import Counter

from cleancache.backend import MAX_PAGE_BYTES, Buffer, Stats
from cleancache.handle import Handle, Scope, is_valid


class Shelf:
    """A back end of at most *max_pages* pages in a dictionary.

    Refuses: 0 bytes or more than *max_page_bytes* (`size`) · out of range (`malformed`) · after close (`down`).
    Evicts: the page that was put first. Threads: any; one lock (guards everything), held for a copy.

    >>> shelf = Shelf()
    >>> shelf.put(Handle(bytes(16), bytes(24), 0), b"clean"), shelf.get(Handle(bytes(16), bytes(24), 0))
    (True, b'clean')
    """

    def __init__(self, max_pages: int = 1024, max_page_bytes: int = MAX_PAGE_BYTES) -> None:
        self.max_page_bytes = max_page_bytes
        self._max_pages = max_pages
        self._lock = threading.Lock()  # guards all below
        self._pages: dict[Handle, bytes] = {}
        self._is_closed = False
        self._gets = self._puts = self._hits = self._stored = self._replaced = 0
        self._misses: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._flushes: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Keep a copy, or refuse and drop the older one."""
        view = memoryview(data)
        with self._lock:
            self._puts += 1
            reason = self._why_refused(handle, view.nbytes)
            old = self._pages.pop(handle, None)
            if reason is not None:
                self._refused[reason] += 1
                self._left["dropped"] += old is not None
                return False
            if old is not None:
                self._replaced += 1
            else:
                self._stored += 1
                self._make_room()
            self._pages[handle] = view.tobytes()
            return True

    def _why_refused(self, handle: Handle, size: int) -> str | None:
        if self._is_closed:
            return "down"
        if not is_valid(handle):
            return "malformed"
        return None if 0 < size <= self.max_page_bytes else "size"

    def _make_room(self) -> None:
        while len(self._pages) >= self._max_pages:
            del self._pages[next(iter(self._pages))]
            self._left["evicted"] += 1

    def get(self, handle: Handle) -> bytes | None:
        """The last accepted, unflushed bytes, or None."""
        with self._lock:
            self._gets += 1
            page = self._pages.get(handle)
            if page is None:
                self._misses["down" if self._is_closed else "absent" if is_valid(handle) else "malformed"] += 1
            else:
                self._hits += 1
            return page

    def flush(self, scope: Scope) -> bool:
        """Forget what *scope* covers. True, always: nobody else keeps copies for this shelf."""
        with self._lock:
            self._flushes[scope.kind] += 1
            gone = [handle for handle in self._pages if scope.covers(handle)]
            for handle in gone:
                del self._pages[handle]
            self._left["flushed"] += len(gone)
            return True

    def stats(self) -> Stats:
        """What was counted."""
        with self._lock:
            size = sum(map(len, self._pages.values()))
            return Stats(
                gets=self._gets,
                puts=self._puts,
                hits=self._hits,
                misses=dict(self._misses),
                stored=self._stored,
                replaced=self._replaced,
                refused=dict(self._refused),
                flushes=dict(self._flushes),
                left=dict(self._left),
                resident_pages=len(self._pages),
                logical_bytes=size,
                unique_bytes=size,
            )

    def close(self) -> None:
        """Drop everything; refuse and miss from now on."""
        with self._lock:
            self._left["lost"] += len(self._pages)
            self._pages.clear()
            self._is_closed = True
