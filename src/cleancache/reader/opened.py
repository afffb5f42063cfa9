"""An open file as the Reader sees it: one name, one version, one object (law F4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cleancache.source import Version


class Opened:
    """What `Reader.open` found out; the version is fixed from here on.

    *size* None: the source does not tell it before the end is read. *why* says why it is not cached, or not fully
    trusted. Nothing is held open, so there is nothing to close.
    """

    __slots__ = (
        "__weakref__",
        "ahead_page",
        "is_cached",
        "name",
        "next_offset",
        "object",
        "version",
        "why",
        "window_pages",
    )

    def __init__(self, name: str, version: Version, obj: bytes, *, is_cached: bool, why: str) -> None:
        self.name = name
        self.version = version
        self.object = obj
        self.is_cached = is_cached
        self.why = why
        self.next_offset = 0  # where a sequential reader would go on
        self.window_pages = 0  # of read-ahead; 0: no streak
        self.ahead_page = 0  # the first page not asked for ahead

    @property
    def size(self) -> int | None:
        """Bytes in this version."""
        return self.version.size

    @property
    def known_size(self) -> int:
        """The same where it is known, which it is for whatever is cached."""
        assert self.version.size is not None
        return self.version.size

    @property
    def details(self) -> Mapping[str, Any]:
        """What the source said about this version."""
        return self.version.details

    def page_length(self, page: int, page_size: int) -> int:
        """How long *page* must be; only the last one may be short."""
        size = self.version.size
        assert size is not None
        left = size - page * page_size
        return page_size if left >= page_size else max(left, 0)

    def __repr__(self) -> str:
        state = "cached" if self.is_cached else f"not cached: {self.why}"
        return f"<Opened of {self.size} bytes, {state}>"
