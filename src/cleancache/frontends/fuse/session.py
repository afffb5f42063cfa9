"""The thin adapter: requests of libfuse 3 in, calls of a `Tree` out.  With `binding` it alone knows
the library.

mfusepy finds, loads and describes libfuse; the requests are taken from its *low-level* interface. The high-level one,
which works by path, cannot keep the laws: it takes an open file's name away before it renames over it (a reader beside
sees nothing there for a moment), fails `fstat` of an unlinked file or litters the source with `.fuse_hidden…`, drops
the flags of rename, and gives two hard links two page caches (F3).

Threads are ours. One is at the kernel's queue; only when a request keeps it longer than `SLOW_S` another is sent there,
up to `MOST_THREADS` in all. So a slow source stops no other file, and small hits do not hop between threads, which
doubles their price (docs/performance.md, G9). Made by Python, they keep their thread state between requests.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import struct
import threading
import time
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_uint64, c_void_p
from typing import Any

from cleancache.errors import Error
from cleancache.frontends.fuse.binding import OPERATIONS, READ_ONLY_UNUSED, TYPES, UNUSED, Library
from cleancache.frontends.fuse.locking import Locking
from cleancache.frontends.fuse.shape import Caller, Change, Entry, Opening, Tree, errno_of

log = logging.getLogger("cleancache.frontends.fuse")
MOST_THREADS = 64
SLOW_S = 0.002  # a hit takes a twentieth of it; a source that is worth a cache takes longer
QUIET_S = 0.1
HANDLE_KILLPRIV, WRITEBACK = 1 << 20, 1 << 16  # fuse_common.h: not wanted, the kernel shall see to both


class Session(Locking):
    """One mounted tree.  Raises: Error, where it cannot be mounted."""

    def __init__(self, tree: Tree, mountpoint: str, options: list[str], *, threads: int = MOST_THREADS) -> None:
        self.tree, self.mountpoint = tree, mountpoint
        self._library = library = Library()
        self._lib = library.lib
        self._most_threads = threads
        self._lock = threading.Lock()  # guards what follows
        self._threads = self._idle = 0  # all of them; those at the kernel's queue, one at most
        self._since = time.monotonic()  # when the last request was taken from the queue
        self._has_ended = False
        self._wake = threading.Event()  # something is asked: the watch looks on
        self.ended = threading.Event()  # the last thread has left: unmounted, or the connection is gone
        self._callbacks = self._table()
        arguments = [b"cleancache", *(word for option in options for word in (b"-o", os.fsencode(option)))]
        vector = (c_char_p * (len(arguments) + 1))(*arguments, None)

        class Arguments(ctypes.Structure):
            _fields_ = (("argc", c_int), ("argv", c_void_p), ("allocated", c_int))

        given = Arguments(len(arguments), ctypes.addressof(vector), 0)
        self._session = self._lib.fuse_session_new(
            ctypes.byref(given), ctypes.byref(self._callbacks), ctypes.sizeof(self._callbacks), None
        )
        if not self._session:
            raise Error(f"libfuse refused the options {','.join(options)!r}")
        if self._lib.fuse_session_mount(self._session, os.fsencode(mountpoint)) != 0:
            self._lib.fuse_session_destroy(self._session)
            raise Error(f"{mountpoint} could not be mounted; libfuse says why above")

    def _table(self) -> Any:
        """struct fuse_lowlevel_ops, with what the tree can do."""
        fields, values = [], {}
        for operation in OPERATIONS.split():
            name, _, shape = operation.partition(":")
            kind = ctypes.CFUNCTYPE(None, *(TYPES[letter] for letter in shape))
            fields.append((name, kind))
            if name not in UNUSED and not (self.tree.is_read_only and name in READ_ONLY_UNUSED):
                call = getattr(self, f"_{name}")
                values[name] = kind(call if name in ("init", "forget", "forget_multi") else self._guarded(name, call))
        table = type("Operations", (ctypes.Structure,), {"_fields_": fields})()
        for name, value in values.items():
            setattr(table, name, value)
        return table

    def _guarded(self, name: str, call: Callable[..., None]) -> Callable[..., None]:
        reply_err = self._lib.fuse_reply_err

        def run(request: int, *arguments: Any) -> None:
            try:
                call(request, *arguments)
            except OSError as error:
                reply_err(request, errno_of(error))
            except Exception as error:  # the edge to the kernel: whatever a source raises becomes an errno
                if errno_of(error) == errno.EIO:
                    log.warning("%s: %s: %s", name, type(error).__name__, error, exc_info=log.isEnabledFor(10))
                reply_err(request, errno_of(error))

        return run

    # -- the loop ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Answer requests from now on."""
        self._spawn()
        if self._most_threads > 1:
            threading.Thread(target=self._watch, name="cleancache-watch", daemon=True).start()

    def _spawn(self) -> None:
        with self._lock:
            self._threads += 1
        try:
            threading.Thread(target=self._serve, name="cleancache-mount", daemon=True).start()
        except RuntimeError:  # no thread can be had: those that are there go on
            with self._lock:
                self._threads -= 1

    def _watch(self) -> None:
        """Send another thread to the kernel's queue when a request has kept the last one from it for `SLOW_S`."""
        pause, clock = self.ended.wait, time.monotonic
        while not pause(SLOW_S):
            now = clock()
            with self._lock:
                is_starving = self._idle == 0 and now - self._since > SLOW_S and self._threads < self._most_threads
                is_quiet = self._idle > 0 and now - self._since > QUIET_S
                if is_quiet:
                    self._wake.clear()
            if is_starving:
                self._spawn()
            elif is_quiet:
                self._wake.wait()

    def _serve(self) -> None:
        room = ctypes.create_string_buffer(128)  # struct fuse_buf, which grew with libfuse
        lib, session, clock = self._lib, self._session, time.monotonic
        receive, process, lock = lib.fuse_session_receive_buf, lib.fuse_session_process_buf, self._lock
        while True:
            with lock:
                if self._idle:  # another took over at the queue while this one was busy
                    break
                self._idle = 1
            size = receive(session, room)
            with lock:
                self._idle = 0
                self._since = clock()
                if not self._wake.is_set():
                    self._wake.set()
            if size in (-errno.EINTR, -errno.EAGAIN):
                continue
            if size <= 0 or lib.fuse_session_exited(session):
                self._has_ended = True
                break
            process(session, room)
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).free(c_void_p.from_buffer(room, 16))
        with lock:
            self._threads -= 1
            is_last = self._has_ended and self._threads == 0
        if is_last:
            self.ended.set()

    def forget_pages(self, node: int) -> None:
        """Have the kernel drop the pages of *node*. Never from inside a request: it can deadlock."""
        self._lib.fuse_lowlevel_notify_inval_inode(self._session, node, 0, 0)

    def close(self) -> None:
        """Give everything back; only after `ended`."""
        self._lib.fuse_session_destroy(self._session)

    # -- from and to the kernel ----------------------------------------------------------------------------------------

    def _caller(self, request: int) -> Caller:
        uid, gid, pid, _ = self._lib.fuse_req_ctx(request).contents
        return Caller(uid, gid, pid)

    def _number(self, info: int | None) -> int | None:
        return c_uint64.from_address(info + self._library.fh_at).value if info else None

    def _fh(self, info: int) -> int:
        return c_uint64.from_address(info + self._library.fh_at).value

    def _owner(self, info: int) -> int:
        return c_uint64.from_address(info + self._library.owner_at).value

    def _shape(self, entry: Entry) -> Any:
        room = self._library.entry()
        room.ino, room.generation = entry.node, 0
        room.attr_timeout, room.entry_timeout = entry.attr_s, entry.entry_s
        self._library.fill(room.attr, entry.status)
        return room

    def _give(self, request: int, entry: Entry) -> None:
        if self._lib.fuse_reply_entry(request, ctypes.byref(self._shape(entry))) != 0:
            self.tree.forget(entry.node, 1)  # the caller was interrupted: the kernel did not take it

    def _give_attr(self, request: int, answer: tuple[Any, float]) -> None:
        room = self._library.stat()
        self._library.fill(room, answer[0])
        self._lib.fuse_reply_attr(request, ctypes.byref(room), answer[1])

    def _mark(self, info: int, opening: Opening) -> None:
        file = self._library.info.from_address(info)
        file.fh, file.keep_cache, file.direct_io = opening.number, opening.keeps_pages, opening.is_direct

    def _done(self, request: int) -> None:
        self._lib.fuse_reply_err(request, 0)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _init(self, _: int, connection: int) -> None:
        facts = self._library.connection.from_address(connection)
        facts.want &= ~(HANDLE_KILLPRIV | WRITEBACK)
        facts.max_background, facts.congestion_threshold = MOST_THREADS, MOST_THREADS * 3 // 4
        facts.time_gran = 1  # nanoseconds

    def _lookup(self, request: int, parent: int, name: bytes) -> None:
        self._give(request, self.tree.lookup(self._caller(request), parent, name))

    def _forget(self, request: int, node: int, times: int) -> None:
        self.tree.forget(node, times)
        self._lib.fuse_reply_none(request)

    def _forget_multi(self, request: int, count: int, pairs: int) -> None:
        for at in range(count):
            node, times = (c_uint64 * 2).from_address(pairs + 16 * at)
            self.tree.forget(node, times)
        self._lib.fuse_reply_none(request)

    def _getattr(self, request: int, node: int, info: int | None) -> None:
        self._give_attr(request, self.tree.getattr(node, self._number(info)))

    def _setattr(self, request: int, node: int, stat: int, wanted: int, info: int | None) -> None:
        given = self._library.stat.from_address(stat)

        def time(bit: int, now: int, spec: Any) -> int | None:
            return -1 if wanted & now else spec.tv_sec * 10**9 + spec.tv_nsec if wanted & bit else None

        change = Change(
            given.st_mode & 0o7777 if wanted & 1 else None,
            given.st_uid if wanted & 2 else None,
            given.st_gid if wanted & 4 else None,
            given.st_size if wanted & 8 else None,
            time(16, 128, given.st_atimespec),
            time(32, 256, given.st_mtimespec),
        )
        self._give_attr(request, self.tree.setattr(self._caller(request), node, change, self._number(info)))

    def _readlink(self, request: int, node: int) -> None:
        self._lib.fuse_reply_readlink(request, self.tree.readlink(node))

    def _mknod(self, request: int, parent: int, name: bytes, mode: int, device: int) -> None:
        self._give(request, self.tree.mknod(self._caller(request), parent, name, mode, device))

    def _mkdir(self, request: int, parent: int, name: bytes, mode: int) -> None:
        self._give(request, self.tree.mkdir(self._caller(request), parent, name, mode))

    def _unlink(self, request: int, parent: int, name: bytes) -> None:
        self.tree.unlink(self._caller(request), parent, name)
        self._done(request)

    def _rmdir(self, request: int, parent: int, name: bytes) -> None:
        self.tree.rmdir(self._caller(request), parent, name)
        self._done(request)

    def _symlink(self, request: int, target: bytes, parent: int, name: bytes) -> None:
        self._give(request, self.tree.symlink(self._caller(request), target, parent, name))

    def _rename(self, request: int, parent: int, name: bytes, to: int, new: bytes, flags: int) -> None:
        self.tree.rename(self._caller(request), parent, name, to, new, flags)
        self._done(request)

    def _link(self, request: int, node: int, parent: int, name: bytes) -> None:
        self._give(request, self.tree.link(self._caller(request), node, parent, name))

    def _open(self, request: int, node: int, info: int) -> None:
        flags = self._library.info.from_address(info).flags
        opening = self.tree.open(self._caller(request), node, flags)
        self._mark(info, opening)
        if self._lib.fuse_reply_open(request, info) != 0:
            self.tree.release(opening.number, 0)

    def _create(self, request: int, parent: int, name: bytes, mode: int, info: int) -> None:
        flags = self._library.info.from_address(info).flags
        entry, opening = self.tree.create(self._caller(request), parent, name, mode, flags)
        self._mark(info, opening)
        if self._lib.fuse_reply_create(request, ctypes.byref(self._shape(entry)), info) != 0:
            self.tree.release(opening.number, 0)
            self.tree.forget(entry.node, 1)

    def _read(self, request: int, _: int, size: int, offset: int, info: int) -> None:
        data = self.tree.read(c_uint64.from_address(info + self._library.fh_at).value, size, offset)
        self._lib.fuse_reply_buf(request, data, len(data))

    def _write(self, request: int, _: int, data: int, size: int, offset: int, info: int) -> None:
        is_page = bool(self._library.info.from_address(info).writepage)
        self._lib.fuse_reply_write(
            request, self.tree.write(self._fh(info), ctypes.string_at(data, size), offset, is_page=is_page)
        )

    def _flush(self, request: int, _: int, info: int) -> None:
        self.tree.flush(self._fh(info), self._owner(info))
        self._done(request)

    def _release(self, request: int, _: int, info: int) -> None:
        self.tree.release(self._fh(info), self._owner(info))
        self._done(request)

    def _fsync(self, request: int, _: int, only_data: int, info: int) -> None:
        self.tree.fsync(self._fh(info), only_data=bool(only_data))
        self._done(request)

    def _fallocate(self, request: int, _: int, mode: int, offset: int, length: int, info: int) -> None:
        self.tree.fallocate(self._fh(info), mode, offset, length)
        self._done(request)

    def _lseek(self, request: int, _: int, offset: int, whence: int, info: int) -> None:
        self._lib.fuse_reply_lseek(request, self.tree.seek(self._fh(info), offset, whence))

    def _copy_file_range(
        self, request: int, _: int, offset: int, info: int, __: int, to_offset: int, to: int, size: int, ___: int
    ) -> None:
        copied = self.tree.copy(self._fh(info), offset, self._fh(to), to_offset, size)
        self._lib.fuse_reply_write(request, copied)

    def _opendir(self, request: int, node: int, info: int) -> None:
        self._mark(info, Opening(self.tree.opendir(self._caller(request), node)))
        self._lib.fuse_reply_open(request, info)

    def _readdir(self, request: int, _: int, size: int, offset: int, info: int) -> None:
        parts, room = [], size
        for at, (name, inode, kind) in enumerate(self.tree.readdir(self._fh(info), offset == 0)):
            if at < offset:
                continue
            padding = -len(name) % 8
            room -= 24 + len(name) + padding
            if room < 0:
                break
            parts.append(struct.pack("=QQII", inode, at + 1, len(name), kind) + name + bytes(padding))
        data = b"".join(parts)
        self._lib.fuse_reply_buf(request, data, len(data))

    def _releasedir(self, request: int, _: int, info: int) -> None:
        self.tree.releasedir(self._fh(info))
        self._done(request)

    def _fsyncdir(self, request: int, _: int, only_data: int, info: int) -> None:
        self.tree.fsyncdir(self._fh(info), only_data=bool(only_data))
        self._done(request)

    def _statfs(self, request: int, _: int) -> None:
        room, found = self._library.statvfs(), self.tree.statfs()
        room.f_bsize, room.f_frsize, room.f_namemax = 65536, 65536, 255
        if found is not None:
            for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "namemax"):
                setattr(room, f"f_{name}", getattr(found, f"f_{name}"))
        self._lib.fuse_reply_statfs(request, ctypes.byref(room))

    def _give_xattr(self, request: int, value: bytes, size: int) -> None:
        if size == 0:
            self._lib.fuse_reply_xattr(request, len(value))
        elif len(value) > size:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        else:
            self._lib.fuse_reply_buf(request, value, len(value))

    def _getxattr(self, request: int, node: int, name: bytes, size: int) -> None:
        self._give_xattr(request, self.tree.getxattr(self._caller(request), node, name), size)

    def _listxattr(self, request: int, node: int, size: int) -> None:
        self._give_xattr(request, self.tree.listxattr(node), size)

    def _setxattr(self, request: int, node: int, name: bytes, value: int | None, size: int, flags: int) -> None:
        data = ctypes.string_at(value, size) if value else b""
        self.tree.setxattr(self._caller(request), node, name, data, flags)
        self._done(request)

    def _removexattr(self, request: int, node: int, name: bytes) -> None:
        self.tree.removexattr(self._caller(request), node, name)
        self._done(request)
