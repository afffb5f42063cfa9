"""A local directory, read-write: names and attributes.  Every call goes through to the source, as the caller.

The kernel may keep neither names nor attributes (timeouts 0), so what changes beside the mount or through another one
is seen at the next call. A path is only a way to a file: what was reached is compared with the node (device and inode)
before it is touched, and if another file stands there the answer is ESTALE, upon which the kernel looks the name up
again. The flushes around changes are those of `docs/laws`, section 3; contents are the business of `files`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cleancache.frontends.fuse import system
from cleancache.frontends.fuse.files import Files
from cleancache.frontends.fuse.nodes import Node, Nodes
from cleancache.frontends.fuse.shape import Caller, Change, Entry, Opening
from cleancache.frontends.fuse.status import Virtual

if TYPE_CHECKING:
    from cleancache.reader import Reader

EXCHANGE = 2  # RENAME_EXCHANGE


class Directory(Files):
    """The tree over the directory *root*.  Threads: any.  Raises: OSError, those of the source."""

    def __init__(self, root: str, *, is_read_only: bool = False, kept_s: float = 0.0, is_direct: bool = False) -> None:
        path = os.fsencode(os.path.abspath(root))
        status = os.stat(path)
        super().__init__(Nodes(path, (status.st_dev, status.st_ino)), is_direct=is_direct)
        self.is_read_only = is_read_only
        self._kept_s = kept_s
        self._listings: dict[int, list[tuple[bytes, int, int]]] = {}
        self._listed: dict[int, tuple[Node, Caller]] = {}
        self.virtual = Virtual()

    def use(self, reader: Reader) -> None:
        """Read through *reader* from now on."""
        self.reader = reader

    def all_nodes(self) -> list[int]:
        """Numbers of what the kernel may hold pages of."""
        return self.nodes.all_files()

    # -- names ---------------------------------------------------------------------------------------------------------

    def _status(self, node: Node) -> os.stat_result:
        """The attributes of exactly this file."""
        lost: OSError | None = None
        try:
            found = os.lstat(self.nodes.path(node))
            if (found.st_dev, found.st_ino) == node.key:
                return found
        except OSError as error:
            lost = error
        fd = self.nodes.held(node)
        if fd is not None:
            try:
                return os.fstat(fd)
            finally:
                os.close(fd)
        raise lost if lost is not None else OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def _enter(self, parent: Node, name: bytes, status: os.stat_result | None = None) -> Entry:
        if status is None:
            status = os.lstat(self.nodes.path(parent, name))
        return Entry(self.nodes.enter(parent, name, status).id, status, self._kept_s, self._kept_s)

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry:
        if self.virtual.knows(parent):
            return self.virtual.lookup(parent, name)
        above = self.nodes.get(parent)
        try:
            if name in (b".", b".."):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))  # only NFS servers ask so
            status = os.lstat(self.nodes.path(above, name))
        except FileNotFoundError:
            self.nodes.unname(above, name)
            if above is self.nodes.root and name == self.virtual.NAME:
                return self.virtual.entry()
            raise
        return self._enter(above, name, status)

    def forget(self, node: int, times: int) -> None:
        self.nodes.forget(node, times)

    def getattr(self, node: int, number: int | None) -> tuple[Any, float]:
        if self.virtual.knows(node):
            return self.virtual.status(node), 0.0
        if number is not None and (handle := self.handles.get(number)) is not None:
            return os.fstat(handle.fd), self._kept_s
        return self._status(self.nodes.get(node)), self._kept_s

    @contextmanager
    def _pinned(self, node: Node, *, follows: bool = True) -> Iterator[bytes]:
        """A path that leads to exactly this file while it lasts, whatever happens to its names."""
        fd = self.nodes.held(node)
        if fd is None:
            fd = os.open(self.nodes.path(node), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != node.key:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            yield b"/proc/self/fd/%d" % fd
        finally:
            os.close(fd)

    def setattr(self, caller: Caller, node: int, change: Change, number: int | None) -> tuple[Any, float]:
        self._refuse_virtual(node)
        file = self.nodes.get(node)
        handle = self.handles.get(number) if number is not None else None
        if change.size is not None:
            self.truncate(caller, file, change.size, handle, lambda: self._pinned(file))
        is_link = stat.S_ISLNK(self._status(file).st_mode)
        rest = change._replace(size=None)
        if any(value is not None for value in rest):
            if is_link:
                self._change(caller, self.nodes.path(file), rest, follows=False)
            else:
                with self._pinned(file) as path:
                    self._change(caller, path, rest, follows=True)
        return self._status(file), self._kept_s

    def _change(self, caller: Caller, path: bytes, change: Change, *, follows: bool) -> None:
        with system.as_caller(caller):
            if change.mode is not None:
                os.chmod(path, change.mode)
            if change.uid is not None or change.gid is not None:
                uid = -1 if change.uid is None else change.uid
                os.chown(path, uid, -1 if change.gid is None else change.gid, follow_symlinks=follows)
            if change.atime_ns is not None or change.mtime_ns is not None:
                system.utimens(path, change.atime_ns, change.mtime_ns, follows=follows)

    def readlink(self, node: int) -> bytes:
        return os.readlink(self.nodes.path(self.nodes.get(node)))

    def _make(self, caller: Caller, parent: int, name: bytes) -> tuple[Node, bytes]:
        self._refuse_virtual(parent)
        above = self.nodes.get(parent)
        return above, self.nodes.path(above, name)

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, device: int) -> Entry:
        above, path = self._make(caller, parent, name)
        with system.as_caller(caller):
            os.mknod(path, mode, device)
        return self._enter(above, name)

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Entry:
        above, path = self._make(caller, parent, name)
        with system.as_caller(caller):
            os.mkdir(path, mode)
            if mode & 0o7000:
                os.chmod(path, mode | stat.S_IMODE(os.lstat(path).st_mode) & stat.S_ISGID)
        return self._enter(above, name)

    def symlink(self, caller: Caller, target: bytes, parent: int, name: bytes) -> Entry:
        above, path = self._make(caller, parent, name)
        with system.as_caller(caller):
            os.symlink(target, path)
        return self._enter(above, name)

    def link(self, caller: Caller, node: int, parent: int, name: bytes) -> Entry:
        above, path = self._make(caller, parent, name)
        file = self.nodes.get(node)
        if stat.S_ISLNK(self._status(file).st_mode):
            with system.as_caller(caller):
                os.link(self.nodes.path(file), path, follow_symlinks=False)
        else:
            with self._pinned(file) as source, system.as_caller(caller):
                system.link(source, path)
        return self._enter(above, name)

    def unlink(self, caller: Caller, parent: int, name: bytes) -> None:
        above, path = self._make(caller, parent, name)
        victim = self.nodes.at(above, name)
        with self.leaving(victim), system.as_caller(caller):
            os.unlink(path)
        self.nodes.unname(above, name)

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None:
        above, path = self._make(caller, parent, name)
        with system.as_caller(caller):
            os.rmdir(path)
        self.nodes.unname(above, name)

    def rename(self, caller: Caller, parent: int, name: bytes, to: int, new: bytes, flags: int) -> None:
        above, old_path = self._make(caller, parent, name)
        below, new_path = self._make(caller, to, new)
        victim = None if flags & EXCHANGE else self.nodes.at(below, new)
        if victim is not None and victim is self.nodes.at(above, name):
            victim = None  # two links of one file: rename(2) does nothing
        with self.leaving(victim), system.as_caller(caller):
            system.rename(old_path, new_path, flags)
        if flags & EXCHANGE:
            self.nodes.swap(above, name, below, new)
        else:
            self.nodes.move(above, name, below, new)

    def create(self, caller: Caller, parent: int, name: bytes, mode: int, flags: int) -> tuple[Entry, Opening]:
        above, path = self._make(caller, parent, name)
        with system.as_caller(caller):
            fd = os.open(path, self.own_flags(flags) | os.O_CREAT | os.O_NOFOLLOW, mode & 0o7777)
        try:
            status = os.fstat(fd)
            entry = self._enter(above, name, status)
        except BaseException:
            os.close(fd)
            raise
        try:
            return entry, self.opened(self.nodes.get(entry.node), fd, flags)
        except BaseException:
            self.nodes.forget(entry.node, 1)
            raise

    def open(self, caller: Caller, node: int, flags: int) -> Opening:
        if self.virtual.knows(node):
            return self.virtual.open(node)
        file = self.nodes.get(node)
        with self._pinned(file) as path, self.before_truncation(file, flags), system.as_caller(caller):
            fd = os.open(path, self.own_flags(flags) & ~os.O_NOFOLLOW)
        return self.opened(file, fd, flags)

    # -- directories ---------------------------------------------------------------------------------------------------

    def opendir(self, caller: Caller, node: int) -> int:
        number = self.next_number()
        if self.virtual.knows(node):
            self._listings[number] = self.virtual.listing(node)
            return number
        file = self.nodes.get(node)
        self._listings[number] = self._list(file, caller)
        self._listed[number] = file, caller
        return number

    def _list(self, node: Node, caller: Caller) -> list[tuple[bytes, int, int]]:
        with system.as_caller(caller):
            found = os.scandir(self.nodes.path(node))
        rows = [(b".", node.key[1], stat.S_IFDIR >> 12), (b"..", 1, stat.S_IFDIR >> 12)]
        with found:
            rows += [(entry.name, entry.inode(), _kind(entry)) for entry in found]
        return rows

    def readdir(self, number: int, is_rewound: bool) -> Iterable[tuple[bytes, int, int]]:
        if is_rewound and number in self._listed:
            self._listings[number] = self._list(*self._listed[number])
        return self._listings[number]

    def releasedir(self, number: int) -> None:
        self._listings.pop(number, None)
        self._listed.pop(number, None)

    def fsyncdir(self, number: int, *, only_data: bool) -> None:
        if number not in self._listed:
            return
        fd = os.open(self.nodes.path(self._listed[number][0]), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def statfs(self) -> os.statvfs_result:
        return os.statvfs(self.nodes.path(self.nodes.root))

    # -- extended attributes -------------------------------------------------------------------------------------------

    def getxattr(self, caller: Caller, node: int, name: bytes) -> bytes:
        if self.virtual.knows(node):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        file = self.nodes.get(node)
        if name == self.virtual.ATTRIBUTE:
            return self.status_text(file, self._status(file))
        with self._at(file) as (path, follows):
            return os.getxattr(path, name, follow_symlinks=follows)

    def listxattr(self, node: int) -> bytes:
        if self.virtual.knows(node):
            return b""
        with self._at(self.nodes.get(node)) as (path, follows):
            names = os.listxattr(path, follow_symlinks=follows)
        return b"".join(os.fsencode(name) + b"\0" for name in names)

    def setxattr(self, caller: Caller, node: int, name: bytes, value: bytes, flags: int) -> None:
        self._refuse_virtual(node)
        with self._at(self.nodes.get(node)) as (path, follows), system.as_caller(caller):
            os.setxattr(path, name, value, flags, follow_symlinks=follows)

    def removexattr(self, caller: Caller, node: int, name: bytes) -> None:
        self._refuse_virtual(node)
        with self._at(self.nodes.get(node)) as (path, follows), system.as_caller(caller):
            os.removexattr(path, name, follow_symlinks=follows)

    @contextmanager
    def _at(self, node: Node) -> Iterator[tuple[bytes, bool]]:
        """A path for calls that must not follow a symbolic link, and whether it is one to be followed."""
        if not node.handles:
            yield self.nodes.path(node), False
        else:
            with self._pinned(node) as path:
                yield path, True

    def _refuse_virtual(self, node: int) -> None:
        if self.virtual.knows(node):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _kind(entry: os.DirEntry[bytes]) -> int:
    """The type as a directory entry has it, without asking the file."""
    if entry.is_symlink():
        return stat.S_IFLNK >> 12
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR >> 12
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG >> 12
    return 0  # whoever wants to know more asks by stat
