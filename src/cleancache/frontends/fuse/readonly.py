"""What a tree answers that changes nothing and locks nothing: EROFS, or nothing to do."""

from __future__ import annotations

import errno
import os
from typing import Any, NoReturn

from cleancache.frontends.fuse.shape import Entry, Opening


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class ReadOnly:
    """The part of a read-only tree that says no.  The kernel stops most of it before: the mount is `ro`."""

    is_read_only = True

    def setattr(self, *_: Any) -> tuple[Any, float]:
        _refuse()

    def mknod(self, *_: Any) -> Entry:
        _refuse()

    mkdir = symlink = link = mknod

    def unlink(self, *_: Any) -> None:
        _refuse()

    rmdir = rename = setxattr = removexattr = fallocate = unlink

    def create(self, *_: Any) -> tuple[Entry, Opening]:
        _refuse()

    def write(self, *_: Any, **__: Any) -> int:
        _refuse()

    copy = seek = write

    def readlink(self, node: int) -> bytes:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def flush(self, number: int, owner: int) -> None:
        """Nothing was kept back."""

    def fsync(self, number: int, *, only_data: bool) -> None:
        """Nothing was written."""

    fsyncdir = fsync

    def statfs(self) -> os.statvfs_result | None:
        """Unknown."""
        return None

    def listxattr(self, node: int) -> bytes:
        """None that a copy should carry along."""
        return b""

    def lock(self, *_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    flock = lock
