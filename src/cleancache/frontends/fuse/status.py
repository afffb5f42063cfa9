"""What a mount says of itself: `.cleancache/stats` in its root, and the attribute `user.cleancache.status` of a file.

The directory is found by its name and is not in the listing, so that copying or comparing a mount gives what is
outside; a source that has such a name of its own shows that one.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable

from cleancache.frontends.fuse.shape import Entry, Opening, Status

FOLDER, STATS = 1 << 62, (1 << 62) + 1


class Virtual:
    """The directory `.cleancache` and its one file.  Threads: any."""

    NAME = b".cleancache"
    ATTRIBUTE = b"user.cleancache.status"

    def __init__(self) -> None:
        self.tell: Callable[[], dict[str, object]] = dict  # what stands in `stats`; set by whoever serves
        self._texts: dict[int, bytes] = {}
        self._next = 1 << 62

    @staticmethod
    def knows(node: int) -> bool:
        """Say whether *node* (or the number of an open file) is one of ours."""
        return node >= FOLDER

    def entry(self) -> Entry:
        """The directory."""
        return Entry(FOLDER, self.status(FOLDER), 0.0, 0.0)

    def status(self, node: int) -> Status:
        """Its attributes; the size of the file is known when it is read."""
        if node == FOLDER:
            return Status(stat.S_IFDIR | 0o500, FOLDER, st_nlink=2, st_uid=os.geteuid())
        return Status(stat.S_IFREG | 0o400, STATS, st_uid=os.geteuid())  # P8: for the owner alone

    def lookup(self, parent: int, name: bytes) -> Entry:
        """What is in the directory."""
        if parent != FOLDER or name != b"stats":
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return Entry(STATS, self.status(STATS), 0.0, 0.0)

    def listing(self, node: int) -> list[tuple[bytes, int, int]]:
        """The directory's rows."""
        if node != FOLDER:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder, file = stat.S_IFDIR >> 12, stat.S_IFREG >> 12
        return [(b".", FOLDER, folder), (b"..", 1, folder), (b"stats", STATS, file)]

    def open(self, node: int) -> Opening:
        """A snapshot, fixed for this open file."""
        if node != STATS:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._next += 1
        number = self._next
        self._texts[number] = json.dumps(self.tell(), indent=1, default=str).encode() + b"\n"
        return Opening(number, is_direct=True)

    def read(self, number: int, size: int, offset: int) -> bytes:
        """A part of the snapshot."""
        return self._texts[number][offset : offset + size]

    def release(self, number: int) -> None:
        """It is closed."""
        self._texts.pop(number, None)
