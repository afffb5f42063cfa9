"""How far ahead the readers of one pool may read, all of them together.

A page that was read ahead and is not yet wanted looks like one that is read once: it waits in the small queue, a
sixth of the room, and leaves from there. So what is ahead of all sequential readers together stays below a sixteenth
of what the pool may hold now; each of n of them gets an n-th of that. Without it a small store, or many readers,
would fetch pages again and again that left before they were read.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cleancache.reader.opened import Opened

if TYPE_CHECKING:
    from cleancache.pool import Pool

SHARE: Final = 16
ASK_EVERY_S: Final = 1.0  # the limit moves slowly, and a snapshot costs as much as a few hits


class Windows:
    """The windows of a Reader's sequential readers. Threads: any; a torn count costs a guess."""

    def __init__(self, pool: Pool, page_size: int, most_pages: int, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._page_size = page_size
        self._most_pages = most_pages
        self._clock = clock
        self._open: weakref.WeakSet[Opened] = weakref.WeakSet()
        self._limit_bytes: int | None = None
        self._asked: float | None = None

    def begin(self, opened: Opened) -> None:
        """*opened* is read sequentially from now on."""
        self._open.add(opened)

    def end(self, opened: Opened) -> None:
        """It is not, or what comes next is in the cache: nothing is ahead of it."""
        if opened.window_pages or opened.ahead_page:
            opened.window_pages = opened.ahead_page = 0
            self._open.discard(opened)

    def most(self) -> int:
        """The greatest window now, in pages; 0: better read nothing ahead."""
        now = self._clock()
        if self._asked is None or now - self._asked >= ASK_EVERY_S:
            self._asked, self._limit_bytes = now, self._pool.backend.stats().limit_bytes
        if self._limit_bytes is None:  # a tier that cannot tell
            return self._most_pages
        return min(self._most_pages, self._limit_bytes // SHARE // max(1, len(self._open)) // self._page_size)
