"""What a mount looks like to the kernel: entries, attributes, open files; and what a tree has to answer.

Names and paths are bytes, times nanoseconds, node numbers ours; node 1 is the root. A tree says how long the kernel may
keep a name and its attributes (`docs/freshness.md` has the table); 0 means that it asks every time. No FUSE library is
known in this file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cleancache.errors import Changed

ROOT = 1


class Caller(NamedTuple):
    """Who asks, as the kernel says."""

    uid: int
    gid: int
    pid: int


@dataclass(frozen=True, slots=True)
class Status:
    """Attributes of what has no stat of its own; the names are those of `os.stat_result`."""

    st_mode: int
    st_ino: int
    st_size: int = 0
    st_nlink: int = 1
    st_uid: int = 0
    st_gid: int = 0
    st_rdev: int = 0
    st_blksize: int = 65536
    st_atime_ns: int = 0
    st_mtime_ns: int = 0
    st_ctime_ns: int = 0

    @property
    def st_blocks(self) -> int:
        """Of 512 bytes, as stat counts them."""
        return -(-self.st_size // 512)


class Entry(NamedTuple):
    """A name that was found: its node, its attributes (an `os.stat_result` or a `Status`), seconds they may be kept."""

    node: int
    status: Any
    attr_s: float
    entry_s: float


class Opening(NamedTuple):
    """An open file; `keeps_pages` says that what the kernel holds of it is still right."""

    number: int
    keeps_pages: bool = False
    is_direct: bool = False


class Change(NamedTuple):
    """What setattr is asked to change; None: not this. A time of -1 means now."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Lock(NamedTuple):
    """A byte-range lock, as fcntl has it; `owner` tells those who share an open file apart."""

    kind: int
    start: int
    length: int
    pid: int
    owner: int


class Tree(Protocol):
    """What the adapter asks.  Raises: OSError with an errno, or what `errno_of` knows.  Threads: any."""

    is_read_only: bool

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry: ...
    def forget(self, node: int, times: int) -> None: ...
    def getattr(self, node: int, number: int | None) -> tuple[Any, float]: ...
    def setattr(self, caller: Caller, node: int, change: Change, number: int | None) -> tuple[Any, float]: ...
    def readlink(self, node: int) -> bytes: ...
    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, device: int) -> Entry: ...
    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Entry: ...
    def symlink(self, caller: Caller, target: bytes, parent: int, name: bytes) -> Entry: ...
    def link(self, caller: Caller, node: int, parent: int, name: bytes) -> Entry: ...
    def unlink(self, caller: Caller, parent: int, name: bytes) -> None: ...
    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None: ...
    def rename(self, caller: Caller, parent: int, name: bytes, to: int, new: bytes, flags: int) -> None: ...
    def create(self, caller: Caller, parent: int, name: bytes, mode: int, flags: int) -> tuple[Entry, Opening]: ...
    def open(self, caller: Caller, node: int, flags: int) -> Opening: ...
    def read(self, number: int, size: int, offset: int) -> bytes: ...
    def write(self, number: int, data: bytes, offset: int, *, is_page: bool) -> int: ...
    def flush(self, number: int, owner: int) -> None: ...
    def release(self, number: int, owner: int) -> None: ...
    def fsync(self, number: int, *, only_data: bool) -> None: ...
    def fallocate(self, number: int, mode: int, offset: int, length: int) -> None: ...
    def seek(self, number: int, offset: int, whence: int) -> int: ...
    def copy(self, number: int, offset: int, to: int, to_offset: int, size: int) -> int: ...
    def opendir(self, caller: Caller, node: int) -> int: ...
    def readdir(self, number: int, is_rewound: bool) -> Iterable[tuple[bytes, int, int]]: ...  # name, inode, type
    def releasedir(self, number: int) -> None: ...
    def fsyncdir(self, number: int, *, only_data: bool) -> None: ...
    def statfs(self) -> os.statvfs_result | None: ...
    def getxattr(self, caller: Caller, node: int, name: bytes) -> bytes: ...
    def listxattr(self, node: int) -> bytes: ...
    def setxattr(self, caller: Caller, node: int, name: bytes, value: bytes, flags: int) -> None: ...
    def removexattr(self, caller: Caller, node: int, name: bytes) -> None: ...
    def lock(self, number: int, lock: Lock, *, only_asks: bool) -> Lock: ...
    def flock(self, number: int, operation: int) -> None: ...


def errno_of(error: BaseException) -> int:
    """The one translation of exceptions into what a program sees; fsspec's own often carry no errno.

    >>> errno_of(FileNotFoundError("s3://b/x")) == errno.ENOENT
    True
    """
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and isinstance(number, int) and 0 < number < 4096:
        return number
    for kind, meaning in _MEANING:
        if isinstance(error, kind):
            return meaning
    return errno.EIO


_MEANING: tuple[tuple[type[BaseException], int], ...] = (
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
    (IsADirectoryError, errno.EISDIR),
    (NotADirectoryError, errno.ENOTDIR),
    (FileExistsError, errno.EEXIST),
    (TimeoutError, errno.ETIMEDOUT),
    (Changed, errno.ESTALE),
    (NotImplementedError, errno.ENOTSUP),
    (MemoryError, errno.ENOMEM),
)
