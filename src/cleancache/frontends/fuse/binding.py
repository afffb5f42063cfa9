"""What libfuse 3 is: its library as mfusepy found it, the order of its operations, the shapes of what is passed.

Only this file and `session` know the binding. Raises: Error, with what to install, where something is missing.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from cleancache.errors import Error

# the order of struct fuse_lowlevel_ops; p pointer or request, n node or u64, o offset, s size, i int, u unsigned,
# t text
OPERATIONS = (
    "init:pp destroy:p lookup:pnt forget:pnn getattr:pnp setattr:pnpip readlink:pn mknod:pntuu mkdir:pntu unlink:pnt "
    "rmdir:pnt symlink:ptnt rename:pntntu link:pnnt open:pnp read:pnsop write:pnpsop flush:pnp release:pnp fsync:pnip "
    "opendir:pnp readdir:pnsop releasedir:pnp fsyncdir:pnip statfs:pn setxattr:pntpsi getxattr:pnts listxattr:pns "
    "removexattr:pnt access:pni create:pntup getlk:pnpp setlk:pnppi bmap:pnsn ioctl:pnipiipss poll:pnpp "
    "write_buf:pnpop retrieve_reply:ppnop forget_multi:psp flock:pnpi fallocate:pnioop readdirplus:pnsop "
    "copy_file_range:pnopnopsi lseek:pnoip"
)
TYPES = {"p": c_void_p, "n": c_uint64, "o": c_int64, "s": c_size_t, "i": c_int, "u": c_uint, "t": c_char_p}
UNUSED = {"destroy", "access", "bmap", "ioctl", "poll", "write_buf", "retrieve_reply", "readdirplus"}
READ_ONLY_UNUSED = (
    {"setattr", "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename", "link", "write", "fsync", "setxattr"}
    | {"removexattr", "create", "getlk", "setlk", "flock", "fallocate", "copy_file_range", "lseek", "fsyncdir"}
)  # fmt: skip


class Library:
    """libfuse as mfusepy found it, with the shapes of what is passed."""

    def __init__(self) -> None:
        os.environ["FUSE_LIBRARY_NAME"] = "fuse3"  # it takes libfuse 2 first where both are installed
        try:
            import mfusepy
        except ImportError as missing:
            raise Error(f"the mount needs mfusepy: pip install mfusepy ({missing})") from None
        except (OSError, AttributeError) as missing:  # it looks for the library when it is imported
            raise Error(f"the mount needs libfuse 3: apt-get install fuse3 ({missing})") from None
        if mfusepy.fuse_version_major != 3:
            raise Error(f"the mount needs libfuse 3 and found {mfusepy.fuse_version_major}: apt-get install fuse3")
        self.stat, self.info, self.connection = mfusepy.c_stat, mfusepy.fuse_file_info, mfusepy.fuse_conn_info
        self.statvfs, self.flock = mfusepy.c_statvfs, mfusepy.c_flock_t
        self.fh_at, self.owner_at = self.info.fh.offset, self.info.lock_owner.offset
        self.lib = lib = mfusepy._libfuse

        class EntryParam(ctypes.Structure):
            _fields_ = (
                ("ino", c_uint64),
                ("generation", c_uint64),
                ("attr", self.stat),
                ("attr_timeout", c_double),
                ("entry_timeout", c_double),
            )

        self.entry = EntryParam
        for name, shape in (
            ("reply_err", "pi"), ("reply_none", "p"), ("reply_entry", "pp"), ("reply_create", "ppp"),
            ("reply_readlink", "pt"), ("reply_open", "pp"), ("reply_write", "ps"), ("reply_buf", "pts"),
            ("reply_statfs", "pp"), ("reply_xattr", "ps"), ("reply_lock", "pp"), ("reply_lseek", "po"),
            ("session_mount", "pt"), ("session_unmount", "p"), ("session_destroy", "p"), ("session_exit", "p"),
            ("session_exited", "p"), ("session_receive_buf", "pp"), ("session_process_buf", "pp"),
            ("req_interrupted", "p"), ("lowlevel_notify_inval_inode", "pnoo"),
        ):  # fmt: skip
            getattr(lib, f"fuse_{name}").argtypes = [TYPES[letter] for letter in shape]
        lib.fuse_reply_attr.argtypes = [c_void_p, c_void_p, c_double]
        lib.fuse_session_new.argtypes, lib.fuse_session_new.restype = [c_void_p, c_void_p, c_size_t, c_void_p], c_void_p
        lib.fuse_req_ctx.argtypes, lib.fuse_req_ctx.restype = [c_void_p], POINTER(c_uint * 4)

    def fill(self, stat: Any, status: Any) -> None:
        """Copy attributes into a struct stat."""
        for name in _PLAIN:
            setattr(stat, name, getattr(status, name))
        for name in ("st_atime", "st_mtime", "st_ctime"):
            spec = getattr(stat, f"{name}spec")
            spec.tv_sec, spec.tv_nsec = divmod(getattr(status, f"{name}_ns"), 10**9)


_PLAIN = ("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blksize", "st_blocks")
