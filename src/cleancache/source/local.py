"""Files of this machine: the version is the file's own stat, in nanoseconds, taken from the open descriptor.

Token: file system, inode, birth time, size, mtime, ctime. The path is not in it (S8): hard links and bind mounts
share pages, a renamed file keeps its own, and a name that another file took over gets that file's (S9, F1). ctime
makes `utime` visible (S5).

A stamp has a grain, so equal stats prove nothing while a file is young (§3.1, S1: on Linux 6.1, 982 of 1000 rewrites
right after a stat left it as it was). Bytes are put only if the stats before and after the read are equal and both
stamps are `YOUNG_NS` old on the clock that made them; a stamp of the future is young (S7). One write that lasts
longer than that is stopped by a read lease, which the kernel grants only while nobody has the file open for writing
or mapped writable (§3.2, S2, S4); it is held for one read.

Network file systems stamp with another machine's clock (S14–S16): there a version counts once it was seen twice,
`YOUNG_NS` apart on our monotonic clock, or when it is an hour old. RAM file systems are never cached: mapped writes
leave no stamp there, and they are RAM already. Not here: the inode's generation number (birth time does its work),
and devices written under a file system (S10).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from typing import Any, Protocol

from cleancache.errors import Changed
from cleancache.source.base import NONE, STRONG, Clock, Fetched, FirstSeen, Garbled, Version
from cleancache.source.stamp import Stamp, stamp_of

YOUNG_NS = 2_000_000_000  # §3.1: FAT and zip stamp in steps of 2 s, ext4 in steps of 4 ms
MAX_SKEW_NS = 3600_000_000_000  # §3.1: a stamp older than this by our clock is old by any clock

F_SETLEASE, F_GETLEASE, F_SETSIG = 1024, 1025, 10  # fcntl.h; the fcntl module names the last two only on some builds


class _StripsPaths(Protocol):
    def _strip_protocol(self, path: str) -> Any: ...


class LocalSource:
    """Local files, mounted network file systems and everything else that has a path here.

    Raises: OSError as `open` does. Threads: any. Cost: one open, stat and close to ask a version.
    """

    identity = "file"
    is_near = True

    def __init__(
        self,
        fs: _StripsPaths | None = None,
        *,
        lease: str = "auto",
        wall_ns: Any = time.time_ns,
        clock: Clock = time.monotonic,
    ) -> None:
        if lease not in ("auto", "require", "off"):
            raise ValueError(f"lease is auto, require or off; got {lease!r}")
        self._fs = fs
        self._lease = lease
        self._wall_ns = wall_ns
        self._clock = clock
        self._seen = FirstSeen()

    def version(self, name: str) -> Version:
        """The stat of the file that the path leads to now."""
        fd = self._open(name)
        try:
            return self._version(stamp_of(fd))
        finally:
            os.close(fd)

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """Bytes of the file if it is still the one of *version*; fit to be put if old enough and nobody writes it."""
        fetched = self._read(name, version, offset, size)
        assert fetched is not None  # only without a version
        return fetched

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """The same under whatever version the file has when it is opened: one open, and no gap for a busy writer to
        hit."""
        return self._read(name, None, offset, size)

    def _read(self, name: str, version: Version | None, offset: int, size: int | None) -> Fetched | None:
        fd = self._open(name)
        try:
            has_lease, is_written = self._take_lease(fd)
            before = stamp_of(fd)
            if version is None:
                version = self._version(before)
                if before.size is None or offset >= before.size:
                    return None
            elif before.token != version.token:
                raise Changed(name)
            data = _pread(fd, offset, size)
            after = stamp_of(fd)
            if after.token != before.token:
                raise Changed(name)
            if has_lease and fcntl.fcntl(fd, F_GETLEASE) != fcntl.F_RDLCK:
                has_lease, is_written = False, True  # being broken: somebody wants to write
        finally:
            os.close(fd)  # lets the lease go as well
        if before.size is not None and len(data) != _expected(before.size, offset, size):
            raise Garbled(f"{name}: {len(data)} bytes at {offset} of a file of {before.size}")
        fit = self._is_old(before) and not is_written and (has_lease or self._lease != "require")
        wants_lease = self._lease != "off"
        return Fetched(data, offset, version, fit, has_lease if wants_lease else None)

    def _open(self, name: str) -> int:
        path = self._fs._strip_protocol(name) if self._fs is not None else name
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
        try:
            fd = os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not hang us; it changes nothing for regular files
        except BlockingIOError:  # another's write lease is being broken for us: wait for it, as `open` does
            fd = os.open(path, flags)
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return fd
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise OSError(errno.EINVAL, "a device, pipe or socket; only regular files are read", path)

    def _version(self, stamp: Stamp) -> Version:
        strength, why = STRONG, ""
        if stamp.is_ram:
            strength, why = NONE, "a RAM file system: mapped writes leave no stamp, and it is RAM already"
        elif stamp.size is None:
            strength, why = NONE, "the kernel makes this file up as it is read"
        elif not self._is_old(stamp):
            strength, why = NONE, "younger than 2 s: another write could leave the same stamp"
        details = {
            "type": "file",
            "size": stamp.size,
            "mtime_ns": stamp.mtime_ns,
            "ctime_ns": stamp.ctime_ns,
            "ino": stamp.inode,
        }
        is_barred = stamp.is_ram or stamp.size is None
        return Version(stamp.token, stamp.size, strength, why, details, place="", is_barred=is_barred)

    def _is_old(self, stamp: Stamp) -> bool:
        if stamp.is_ram:
            return False
        age_ns = self._wall_ns() - max(stamp.mtime_ns, stamp.ctime_ns)
        if not stamp.is_remote:
            return bool(age_ns >= YOUNG_NS)
        if age_ns >= MAX_SKEW_NS:
            return True
        return self._seen.age(stamp.token, self._clock()) >= YOUNG_NS / 1e9

    def _take_lease(self, fd: int) -> tuple[bool, bool]:
        """(has it, somebody writes): a lease for this read, if leases are wanted and can be had."""
        if self._lease == "off":
            return False, False
        try:
            # a broken lease sends SIGIO, whose default is death; SIGURG is ignored by default (§3.2)
            fcntl.fcntl(fd, F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            # EAGAIN: a writer, or a network file system without a delegation; which one is said by the kind of file
            # system
            return False, error.errno == errno.EAGAIN and not stamp_of(fd).is_remote
        return True, False


def _expected(total: int, offset: int, size: int | None) -> int:
    """How many bytes [*offset*, *offset* + *size*) has in a file of *total*."""
    left = max(0, total - offset)
    return left if size is None else min(size, left)


def _pread(fd: int, offset: int, size: int | None) -> bytes:
    """[*offset*, *offset* + *size*) of *fd*, less where the file ends; one result buffer."""
    if size is not None and size <= 1 << 20:
        data = os.pread(fd, size, offset)
        if len(data) == size:
            return data
        parts = [data] if data else []
        wanted: int | None = size - len(data)
    else:
        data, parts, wanted = b"", [], size
    while wanted is None or wanted > 0:
        at = offset + sum(map(len, parts))
        part = os.pread(fd, 1 << 20 if wanted is None else min(wanted, 1 << 26), at)
        if not part:
            break
        parts.append(part)
        wanted = None if wanted is None else wanted - len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]
