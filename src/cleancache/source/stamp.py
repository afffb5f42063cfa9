"""Everything the kernel says about an open file that tells one version of it from another; two system calls.

`statx` gives the birth time and the mount's id, which `os.fstat` does not; without it (musl before 1.2.4, other
systems) the rest must do. `statfs` gives the kind of file system. Its identity (S6) is the file system's own UUID
where the kernel puts it into `f_fsid` (ext4, btrfs, ZFS); elsewhere `f_fsid` comes from the device number, which is
given out again after an unmount, so the mount's id (unique since Linux 6.8) and the boot's id are added. Never
`st_dev` alone.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import NamedTuple

from cleancache.source.base import token

HAS_UUID = frozenset({0xEF53, 0x9123683E, 0x2FC12FC1})  # ext2–4, btrfs, ZFS: statfs(2), linux/magic.h
RAM = frozenset({0x01021994, 0x858458F6, 0x958458F6})  # tmpfs, ramfs, hugetlbfs
MADE_UP = frozenset(
    {0x9FA0, 0x62656572, 0x64626720, 0x74726163, 0x27E0EB, 0x63677270}
)  # proc, sysfs, debugfs, tracefs, cgroup
REMOTE = frozenset(
    {
        0x6969,
        0xFF534D42,
        0xFE534D42,
        0x517B,
        0x01021997,
        0x65735546,
        0x00C36400,
        0x5346414F,
        0x0BD00BD0,
        0x47504653,
        0x6B414653,
    }
)  # NFS, CIFS, SMB2, SMB, 9p, FUSE, Ceph, AFS, Lustre, GPFS, kAFS

STATX_ALL = 0x0FFF | 0x1000 | 0x4000  # basic stats + birth time | STATX_MNT_ID | STATX_MNT_ID_UNIQUE
AT_EMPTY_PATH = 0x1000


class Stamp(NamedTuple):
    """One look at an open file. *size* is None where the kernel makes the contents up."""

    token: bytes
    size: int | None
    mtime_ns: int
    ctime_ns: int
    inode: int
    is_ram: bool
    is_remote: bool


class _Time(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_uint32), ("_", ctypes.c_int32)]


class _Statx(ctypes.Structure):
    _fields_ = [
        ("mask", ctypes.c_uint32),
        ("blksize", ctypes.c_uint32),
        ("attributes", ctypes.c_uint64),
        ("nlink", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("mode", ctypes.c_uint16),
        ("_0", ctypes.c_uint16),
        ("ino", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("attributes_mask", ctypes.c_uint64),
        ("atime", _Time),
        ("btime", _Time),
        ("ctime", _Time),
        ("mtime", _Time),
        ("rdev", ctypes.c_uint32 * 2),
        ("dev", ctypes.c_uint32 * 2),
        ("mnt_id", ctypes.c_uint64),
        ("_1", ctypes.c_uint64 * 13),
    ]


class _Statfs(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_long),
        ("bsize", ctypes.c_long),
        ("blocks", ctypes.c_uint64 * 5),
        ("fsid", ctypes.c_int32 * 2),
        ("_", ctypes.c_long * 16),
    ]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _has(name: str) -> bool:
    return hasattr(_libc(), name)


@cache
def boot_id() -> str:
    """The kernel's random id of this boot; empty where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def stamp_of(fd: int) -> Stamp:
    """Look at the open file *fd*.  Raises: OSError, as `os.fstat` does."""
    kind, fsid = _file_system(fd)
    found = _statx(fd)
    if found is None:
        status = os.fstat(fd)
        inode, size, mtime, ctime, born, mount = (
            status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, 0, status.st_dev,
        )  # fmt: skip
    else:
        inode, size, mtime, ctime, born, mount = found
    place = (kind, fsid) if kind in HAS_UUID and fsid else (kind, fsid, mount, boot_id())
    return Stamp(
        token("file", *place, inode, born, size, mtime, ctime),
        None if kind in MADE_UP else size,
        mtime,
        ctime,
        inode,
        kind in RAM,
        kind in REMOTE,
    )


def _statx(fd: int) -> tuple[int, int, int, int, int, int] | None:
    if not _has("statx"):
        return None
    out = _Statx()
    if _libc().statx(fd, b"", AT_EMPTY_PATH, STATX_ALL, ctypes.byref(out)) != 0:
        return None  # an old kernel or a sandbox; os.fstat then says what there is to say
    born = out.btime.seconds * 10**9 + out.btime.nanoseconds if out.mask & 0x800 else 0
    mtime = out.mtime.seconds * 10**9 + out.mtime.nanoseconds
    ctime = out.ctime.seconds * 10**9 + out.ctime.nanoseconds
    return out.ino, out.size, mtime, ctime, born, out.mnt_id


def _file_system(fd: int) -> tuple[int, int]:
    """(kind, fsid)"""
    if not _has("fstatfs") or ctypes.sizeof(ctypes.c_long) != 8:
        return 0, os.fstatvfs(fd).f_fsid
    out = _Statfs()
    if _libc().fstatfs(fd, ctypes.byref(out)) != 0:
        return 0, 0
    fsid = (out.fsid[0] & 0xFFFFFFFF) | (out.fsid[1] & 0xFFFFFFFF) << 32
    return out.type & 0xFFFFFFFF, fsid
