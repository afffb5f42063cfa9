"""Hosts whose nodes give one URL different ETags in turn, or lead it to different places (S21): such a version is none.

One return to an earlier ETag may be an object that was put back, one other place a new release; a second within five
minutes is a host that cannot be trusted with versions, and nothing of it is cached until it has been quiet for as long.
Mirrors and redirects that carry a new token each time are the second kind.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock
from typing import Any
from urllib.parse import urlsplit

from cleancache.source.base import SEEN_LIMIT, Clock, forget_after_fork

RETURNS_LIMIT = 2
REST_S = 300.0


class Flaps:
    """The last two ETags of the URLs seen, and the hosts that went back and forth.  Threads: any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.drop_after_fork()
        forget_after_fork(self)

    def drop_after_fork(self) -> None:
        """Start empty, with a lock that nobody holds (T1)."""
        self._lock = RLock()  # guards both below
        self._etags: OrderedDict[str, tuple[str, str, str]] = OrderedDict()  # URL → the ETag before, now, the place now
        self._returns: OrderedDict[str, tuple[int, float]] = OrderedDict()  # host → how often, when last

    def note(self, url: str, etag: str, place: str = "") -> bool:
        """Note that *url* has *etag* and leads to *place* now; say whether its host is one of those."""
        host, now = urlsplit(url).netloc, self._clock()
        with self._lock:
            older, newer, there = self._etags.pop(url, ("", "", place))
            returns, last = self._returns.get(host, (0, now))
            if now - last >= REST_S:
                returns = 0
                self._returns.pop(host, None)
            is_other = bool(etag and newer and etag != newer)
            if place != there or (is_other and etag == older):
                returns += 1
                self._returns[host] = (returns, now)
            if is_other:
                older, newer = newer, etag
            self._etags[url] = (older, newer or etag, place)
            tables: tuple[OrderedDict[str, Any], ...] = (self._etags, self._returns)
            for table in tables:
                if len(table) > SEEN_LIMIT:
                    table.popitem(last=False)
            return returns >= RETURNS_LIMIT
