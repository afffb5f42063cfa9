"""Open files of a directory mount: clean pages through the Reader, everything else straight to the source.

A read asks the descriptor whether the file is still the version that was opened; if not it goes on under the new one,
as a read of the source itself would (`tail -f` works). While anybody has a file open for writing through the mount it
is read from the source and no page of it is put (F8, S13); the flushes around changes are those of `hooks`.

The kernel keeps its pages over an open only if all of them were read under the version that is current, and that
version is old enough to prove something (S11, S12); it drops them itself when time or size of a file change.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import struct
import time
from typing import TYPE_CHECKING, Any

from cleancache.frontends.fuse import system
from cleancache.frontends.fuse.hooks import Hooks
from cleancache.frontends.fuse.nodes import Handle, Node, Nodes
from cleancache.frontends.fuse.shape import Lock, Opening
from cleancache.frontends.fuse.status import Virtual
from cleancache.source import STRONG
from cleancache.source.local import YOUNG_NS, LocalSource

if TYPE_CHECKING:
    from cleancache.reader import Opened, Reader

TRIES = 3  # versions a read goes through before it takes what the descriptor gives
F_OFD_GETLK, F_OFD_SETLK = 36, 37
FLOCK = struct.Struct("=hh4xqqi4x")  # struct flock of 64-bit Linux
EAGAIN_S = 1.0  # a file too young to be cached is asked about again once a second


class NodeSource(LocalSource):
    """Local files by what they are: the name leads to a descriptor that the mount has open, else to the last path."""

    def __init__(self, nodes: Nodes, *, lease: str = "auto") -> None:
        super().__init__(lease=lease)
        self._nodes = nodes

    def _open(self, name: str) -> int:
        node = self._nodes.named(name)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        fd = self._nodes.held(node)
        if fd is None:
            found = super()._open(os.fsdecode(self._nodes.path(node)))
        else:
            try:
                found = super()._open(f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
        status = os.fstat(found)
        if (status.st_dev, status.st_ino) == node.key:
            return found
        os.close(found)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)


class Files(Hooks):
    """The part of a directory tree that has files open.  Threads: any."""

    def __init__(self, nodes: Nodes, *, is_direct: bool) -> None:
        self.nodes = nodes
        self.handles: dict[int, Handle] = {}
        self._is_direct = is_direct
        self._next = 0
        self.virtual = Virtual()

    def next_number(self) -> int:
        """A number for something open."""
        with self.nodes.lock:
            self._next += 1
            return self._next

    # -- opening and closing -------------------------------------------------------------------------------------------

    @staticmethod
    def own_flags(flags: int) -> int:
        """Flags for our own descriptor: readable wherever the caller's is writable would ask for rights it has not."""
        return (flags & ~os.O_DIRECT) | os.O_CLOEXEC | os.O_NOCTTY

    def opened(self, node: Node, fd: int, flags: int) -> Opening:
        """Register *fd*, an open file of *node*."""
        is_writer = flags & os.O_ACCMODE != os.O_RDONLY
        handle, number = Handle(node, fd, is_writer=is_writer), self.next_number()
        with self.nodes.lock:
            node.handles[number] = fd
            self.handles[number] = handle
            is_first = False
            if is_writer:
                node.writers += 1
                is_first = node.writers == 1
                node.token = None
        if is_writer:
            if is_first:
                self._begin_writing(node, fd)
            return Opening(number, is_direct=self._is_direct)
        return Opening(number, keeps_pages=self._ask(handle), is_direct=self._is_direct)

    def _ask(self, handle: Handle) -> bool:
        """Find out the version of an open file; say whether the kernel's pages are of that version."""
        reader, node = self.reader, handle.node
        if reader is None or node.writers:
            handle.opened = None
            return False
        handle.asked = time.monotonic()
        try:
            opened = reader.open(node.name)
        except OSError:  # it can be read from the descriptor all the same
            handle.opened = None
            return False
        details = opened.version.details
        handle.seen = details["size"], details["mtime_ns"], details["ctime_ns"]
        handle.opened = opened
        token = opened.version.token if opened.version.strength == STRONG else None
        with self.nodes.lock:
            keeps = token is not None and node.token == token and not node.writers
            node.token = None if node.writers else token
        return keeps

    def release(self, number: int, owner: int) -> None:
        if self.virtual.knows(number):
            self.virtual.release(number)
            return
        with self.nodes.lock:
            handle = self.handles.pop(number)
            node = handle.node
            del node.handles[number]
            is_last_writer = False
            if handle.is_writer:
                node.writers -= 1
                is_last_writer = node.writers == 0
        try:
            if is_last_writer:
                self._end_writing(node, handle.fd)
            elif node.is_unlinked and not node.handles:
                self._flush(node, handle.fd)
        finally:
            for fd in (handle.fd, handle.plain_fd, *handle.locks.values()):
                if fd >= 0:
                    os.close(fd)
            with self.nodes.lock:
                self.nodes.prune(node)

    def flush(self, number: int, owner: int) -> None:
        """A descriptor of the caller's is closed: its locks go, and an error that the source kept back is told."""
        if self.virtual.knows(number):
            return
        handle = self.handles[number]
        fd = handle.locks.pop(owner, None)
        if fd is not None:
            os.close(fd)
        if handle.is_writer:
            os.close(os.dup(handle.fd))

    # -- reading and writing -------------------------------------------------------------------------------------------

    def read(self, number: int, size: int, offset: int) -> bytes:
        if self.virtual.knows(number):
            return self.virtual.read(number, size, offset)
        handle = self.handles[number]
        node, reader = handle.node, self.reader
        if reader is None or node.writers:
            node.token = None
            return os.pread(handle.fd, size, offset)
        for _ in range(TRIES):
            now = os.fstat(handle.fd)
            if handle.seen != (now.st_size, now.st_mtime_ns, now.st_ctime_ns) or handle.opened is None:
                self._ask(handle)
            opened = handle.opened
            if opened is None or node.writers:
                break
            if not opened.is_cached and not self._has_aged(handle):
                break
            opened = handle.opened
            assert opened is not None
            if node.token != opened.version.token:
                node.token = None
            try:
                return reader.read(opened, offset, size)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                handle.seen = None
        node.token = None
        return os.pread(handle.fd, size, offset)

    def _has_aged(self, handle: Handle) -> bool:
        """Say whether a file that was too young when it was opened may be cached now."""
        assert handle.seen is not None
        if time.time_ns() - max(handle.seen[1:]) < YOUNG_NS or time.monotonic() - handle.asked < EAGAIN_S:
            return False
        self._ask(handle)
        return handle.opened is not None and handle.opened.is_cached

    def write(self, number: int, data: bytes, offset: int, *, is_page: bool) -> int:
        handle = self.handles[number]
        fd = handle.fd
        if is_page and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
            if handle.plain_fd < 0:  # a page of a mapping has its place; a descriptor that appends would ignore it
                handle.plain_fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC)
            fd = handle.plain_fd
        with self.changing(handle.node, fd, offset, len(data)):
            done = os.pwrite(fd, data, offset)
            while 0 < done < len(data):
                done += os.pwrite(fd, data[done:], offset + done)
        return done

    def fsync(self, number: int, *, only_data: bool) -> None:
        if not self.virtual.knows(number):
            (os.fdatasync if only_data else os.fsync)(self.handles[number].fd)

    def fallocate(self, number: int, mode: int, offset: int, length: int) -> None:
        handle = self.handles[number]
        with self.changing(handle.node, handle.fd):
            system.fallocate(handle.fd, mode, offset, length)

    def seek(self, number: int, offset: int, whence: int) -> int:
        return os.lseek(self.handles[number].fd, offset, whence)

    def copy(self, number: int, offset: int, to: int, to_offset: int, size: int) -> int:
        source, target = self.handles[number], self.handles[to]
        with self.changing(target.node, target.fd):
            return os.copy_file_range(source.fd, target.fd, size, offset, to_offset)

    # -- locks: those of the source, so that they hold beside the mount and between mounts -----------------------------

    def lock(self, number: int, lock: Lock, *, only_asks: bool) -> Lock:
        handle = self.handles[number]
        fd = handle.locks.get(lock.owner)
        if fd is None:
            mode = fcntl.fcntl(handle.fd, fcntl.F_GETFL) & os.O_ACCMODE
            fd = os.open(f"/proc/self/fd/{handle.fd}", mode | os.O_CLOEXEC)
            fd = self._keep_lock(handle, lock.owner, fd)
        room = FLOCK.pack(lock.kind, 0, lock.start, lock.length, 0)
        answer = fcntl.fcntl(fd, F_OFD_GETLK if only_asks else F_OFD_SETLK, room)
        kind, _, start, length, pid = FLOCK.unpack(answer)
        return Lock(kind, start, length, max(pid, 0), lock.owner)

    def _keep_lock(self, handle: Handle, owner: int, fd: int) -> int:
        with self.nodes.lock:
            kept = handle.locks.setdefault(owner, fd)
        if kept != fd:
            os.close(fd)
        return kept

    def flock(self, number: int, operation: int) -> None:
        fcntl.flock(self.handles[number].fd, operation)

    # -- what a file says of itself ------------------------------------------------------------------------------------

    def status_text(self, node: Node, status: Any) -> bytes:
        """Version, resident pages, and why it is not cached, as one JSON document."""
        reader = self.reader
        if reader is None or not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        opened = reader.open(node.name)
        return json.dumps(describe(reader, opened, is_written=node.writers > 0)).encode()


def describe(reader: Reader, opened: Opened, *, is_written: bool = False) -> dict[str, object]:
    """What `user.cleancache.status` says of one version of one file."""
    why = "open for writing" if is_written else opened.why
    pages = -(-(opened.size or 0) // reader.page_size)
    return {
        "version": opened.version.token.decode("utf-8", "backslashreplace"),
        "strength": opened.version.strength,
        "cached": opened.is_cached and not is_written,
        "why": why,
        "pages": pages,
        "resident_pages": reader.resident_pages(opened) if opened.is_cached else 0,
        "page_size": reader.page_size,
    }
