"""File systems whose version is weak (SFTP, FTP, SMB, WebDAV, WebHDFS) or missing (memory, archives, whatever we do
not know).

*Weak* (S28): size and a stamp of a second's grain, no conditional read. Off unless the user wrote `max_stale` or
`immutable`; then stat, read, stat, equal both times, and put only if the stamp is old: seen twice, `YOUNG_S` apart on
our clock, or an hour old. *None*: every read goes to the source, in one request, so that nothing is blended; with
`immutable` the pages go by name and size alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cleancache.errors import Changed
from cleancache.source.base import NONE, WEAK, Clock, Fetched, FirstSeen, Garbled, Version, fingerprint, token

YOUNG_S = 2.0
MAX_SKEW_S = 3600.0
WEAK_PROTOCOLS = frozenset(["sftp", "ssh", "ftp", "smb", "webdav", "webdavs", "dav", "davs", "webhdfs", "webHDFS"])


class PlainSource:
    """Any fsspec file system in sync mode, through `info` and `cat_file` alone.

    Raises: what the file system raises. Threads: as many as it bears.
    """

    is_near = False

    def __init__(self, fs: Any, *, wall: Callable[[], float] = time.time, clock: Clock = time.monotonic) -> None:
        self._fs = fs
        self._wall = wall
        self._clock = clock
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        self._is_weak = protocol in WEAK_PROTOCOLS
        self.identity = fingerprint(protocol, [*fs.storage_options.items(), ("args", fs.storage_args)])
        self._seen = FirstSeen()

    def version(self, name: str) -> Version:
        """Size and stamp, as far as the file system has them; of a weak kind past its listings (S26 holds for FTP
        too)."""
        if self._is_weak:
            self._fs.invalidate_cache(self._fs._parent(name))
        return self._version(name, self._fs.info(name))

    def _version(self, name: str, info: dict[str, Any]) -> Version:
        if info.get("type") == "directory":
            raise IsADirectoryError(name)
        size = info.get("size")
        size = size if isinstance(size, int) and size >= 0 else None
        stamp = _stamp(info)
        if self._is_weak and stamp is not None and size is not None:
            why = "a stamp with a grain of seconds and no conditional read"
            return Version(token("stamp", size, stamp), size, WEAK, why, info)
        why = (
            "the server gives no stamp"
            if self._is_weak
            else "no version that can be trusted on this kind of file system"
        )
        return Version(b"", size, NONE, why, info)

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """stat, read, stat where there is a stamp; else one request, and whatever it gives."""
        if version.token and self.version(name).token != version.token:
            raise Changed(name)
        stop = None if size is None else offset + size
        if offset == 0 and (stop is None or stop == version.size):
            data = self._fs.cat_file(name)
        else:
            data = self._fs.cat_file(name, start=offset, end=stop)
        if version.token and self.version(name).token != version.token:
            raise Changed(name)
        if version.token and size is not None and len(data) != max(0, min(size, (version.size or 0) - offset)):
            raise Garbled(f"{name}: {len(data)} bytes came for {size} at {offset}")
        return Fetched(bytes(data), offset, version, self._is_weak and self._is_old(version))

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """None: a reply of these says nothing about the version."""
        return None

    def _is_old(self, version: Version) -> bool:
        stamp = _stamp(version.details)
        if isinstance(stamp, datetime):
            stamp = (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
        if isinstance(stamp, (int, float)) and self._wall() - stamp >= MAX_SKEW_S:
            return True
        return self._seen.age(version.token, self._clock()) >= YOUNG_S


def _stamp(info: Mapping[str, Any]) -> Any:
    """When the file was last changed, under whichever name this file system has for it."""
    return next(
        (info[key] for key in ("mtime", "modified", "modify", "last_modified", "modificationTime") if info.get(key)),
        None,
    )
