"""System calls that Python does not have, by ctypes; and taking on the caller's ids in one thread.

`as_caller`: a mount of root does for a caller what the caller may do, with the caller's user, group and groups, so that
the source judges for itself (its ACLs too) and what is made belongs to the right one. Linux keeps these ids by thread;
glibc's setgroups changes all threads, so the bare system call is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

from cleancache.frontends.fuse.shape import Caller

_libc = ctypes.CDLL(None, use_errno=True)
_off = ctypes.c_int64
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, _off, _off]
_libc.utimensat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_libc.linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, MNT_DETACH = -100, 0x100, 0x400, 2
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}.get(platform.machine())


def _check(result: int, path: bytes | str | None = None) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), punching and zeroing included."""
    _check(_libc.fallocate(fd, mode, offset, length))


def utimens(path: bytes, atime_ns: int | None, mtime_ns: int | None, *, follows: bool) -> None:
    """Set the times that are not None; -1 means now, by the source's clock."""
    pairs = (ctypes.c_long * 4)()
    for at, value in ((0, atime_ns), (2, mtime_ns)):
        pairs[at], pairs[at + 1] = (
            (0, UTIME_OMIT) if value is None else (0, UTIME_NOW) if value == -1 else divmod(value, 10**9)
        )
    _check(_libc.utimensat(AT_FDCWD, path, pairs, 0 if follows else AT_SYMLINK_NOFOLLOW), path)


def rename(old: bytes, new: bytes, flags: int) -> None:
    """rename(2), or renameat2(2) for NOREPLACE and EXCHANGE."""
    if flags:
        _check(_libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags), old)
    else:
        os.rename(old, new)


def link(source: bytes, path: bytes) -> None:
    """link(2) of what *source* leads to; `os.link` does not follow `/proc/self/fd/N`."""
    _check(_libc.linkat(AT_FDCWD, source, AT_FDCWD, path, AT_SYMLINK_FOLLOW), path)


def detach(mountpoint: str) -> None:
    """Take *mountpoint* out of the tree now; it ends when nobody uses it any more."""
    _check(_libc.umount2(os.fsencode(mountpoint), MNT_DETACH), mountpoint)


def settle_malloc() -> None:
    """Keep big buffers instead of faulting them in anew at each read (docs/performance.md); glibc only."""
    with contextlib.suppress(AttributeError):
        _libc.mallopt(-3, 32 << 20)
        _libc.mallopt(-1, 256 << 20)


def groups_of(pid: int) -> list[int]:
    """The supplementary groups of a process; none where it cannot be seen."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Groups:"):
                    return [int(word) for word in line.split()[1:]]
    except OSError:
        pass
    return []


@contextlib.contextmanager
def as_caller(caller: Caller) -> Iterator[None]:
    """This thread has the caller's ids while it lasts; nothing to do for root, or where we are not root."""
    if caller.uid == 0 or os.geteuid() != 0:
        yield
        return
    own = os.getgroups()
    _set_groups(groups_of(caller.pid))
    _libc.setfsgid(caller.gid)
    _libc.setfsuid(caller.uid)
    try:
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(os.getegid())
        _set_groups(own)


def _set_groups(groups: list[int]) -> None:
    if SETGROUPS is None:
        return  # an architecture whose number we do not know: the caller's own group alone counts
    _check(_libc.syscall(SETGROUPS, len(groups), (ctypes.c_uint32 * len(groups))(*groups)))
