"""A URL, read-only: any fsspec file system as a tree; what is a file, and of which version, is asked at each lookup.

**A node is one version of one name.** A file that changed is another node, so the kernel gives the new one new
attributes, size and pages, and whoever holds the old one keeps it (F4): nothing of two versions can meet in one page
cache, and attributes and pages of a node may be kept for ever. Only the name must be asked again: `entry_timeout` 0,
unless `max_stale` or `immutable` allow more. What has no version that proves anything keeps no pages.

HTTP lists nothing: there the tree is one file, or what a list names (`files=`, one relative path a line).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from cleancache.errors import Error
from cleancache.frontends.fuse.files import describe
from cleancache.frontends.fuse.readonly import ReadOnly
from cleancache.frontends.fuse.shape import ROOT, Caller, Entry, Opening, Status, errno_of
from cleancache.frontends.fuse.status import Virtual
from cleancache.reader import Opened
from cleancache.source import NONE, STRONG

if TYPE_CHECKING:
    from cleancache.config import Settings
    from cleancache.frontends.fuse.options import MountOptions
    from cleancache.reader import Reader
    from cleancache.source import Source

KEPT_S = 86400.0  # of attributes: those of one version never change
FOLDER_S = 1.0  # of a folder's name: it holds no bytes, and object stores have no folders to be wrong about
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "az": "azure", "http": "http"}
EXTRAS |= {"https": "http"}


class Item:
    """A node: a folder, or one version of one file."""

    __slots__ = ("id", "key", "lookups", "opened", "path", "status")

    def __init__(
        self, id: int, key: tuple[str, bytes | None], path: str, status: Status, opened: Opened | None
    ) -> None:
        self.id, self.key, self.path, self.status, self.opened = id, key, path, status, opened
        self.lookups = 0


class Urls(ReadOnly):
    """The tree over *fs* below *base*.  Threads: any.  Raises: errors of the source, as errno."""

    def __init__(self, fs: Any, base: str, *, names: list[str] | None, one: str | None, kept_s: float, owner: Status):
        self.fs, self.base = fs, base.rstrip("/")
        self._kept_s, self._owner, self._one = kept_s, owner, one
        self._is_direct = False
        self._listed = _folders(names) if names is not None else None
        self.virtual = Virtual()
        self.reader: Reader
        self._lock = Lock()  # guards what follows
        self._next, self._next_file = ROOT + 1, 0
        root = Item(ROOT, ("", None), "", self._folder(ROOT), None)
        root.lookups = 1
        self._items: dict[int, Item] = {ROOT: root}
        self._by_key: dict[tuple[str, bytes | None], Item] = {root.key: root}
        self._files: dict[int, Opened] = {}
        self._lists: dict[int, list[tuple[bytes, int, int]]] = {}

    @classmethod
    def over(cls, url: str, options: MountOptions, *, kept_s: float) -> Urls:
        """The tree of a URL.  Raises: Error, with the remedy, where the source is not what it should be."""
        from fsspec.core import url_to_fs
        from fsspec.utils import get_protocol

        from cleancache import config

        protocol = get_protocol(url)
        try:
            fs, base = url_to_fs(url, **{**config.source_options(protocol, url), **options.storage})
        except ImportError as missing:
            extra = EXTRAS.get(protocol)
            raise Error(f"{missing}" + (f": pip install 'cleancache[{extra}]'" if extra else "")) from None
        except (TypeError, ValueError) as mistake:
            raise Error(f"{protocol}: {mistake}") from None
        umask = 0o022 if options.umask is None else options.umask
        owner = Status(
            0o777 & ~umask,
            0,
            st_uid=os.getuid() if options.uid is None else options.uid,
            st_gid=os.getgid() if options.gid is None else options.gid,
        )
        names, one = None, None
        if options.files is not None:
            names = _read_list(options.files)
        elif protocol in ("http", "https"):
            one = unquote(base.partition("?")[0].rstrip("/").rpartition("/")[2]) or "index"
        tree = cls(fs, base, names=names, one=one, kept_s=kept_s, owner=owner)
        tree._is_direct = options.direct_io
        if one is not None:
            tree._listed = {"": {one: False}}
        return tree

    def kind(self, settings: Settings) -> Source:
        """The source behind this tree."""
        from cleancache.source import source_for

        return source_for(self.fs, lease=settings.lease)

    def use(self, reader: Reader) -> None:
        """Read through *reader* from now on; ask the source once.  Raises: Error, if it does not answer."""
        self.reader = reader
        try:
            if self._one is not None:
                reader.open(self._name(self._one))
            elif self._listed is not None:
                first = next((name for folder in _walk(self._listed) for name in folder), None)
                if first is not None:
                    reader.open(self._name(first))
            elif not self.fs.isdir(self.base) and not self.fs.exists(self.base):
                raise Error(f"{self.fs.unstrip_protocol(self.base)}: there is no such directory or bucket")
        except Error:
            raise
        except Exception as error:  # whatever a file system raises: said now, while somebody listens
            said = os.strerror(errno_of(error)) if errno_of(error) != errno.EIO else f"{type(error).__name__}: {error}"
            raise Error(f"the source does not answer: {said}; name, credentials, -o option.…=") from None

    def all_nodes(self) -> list[int]:
        """Numbers of what the kernel may hold pages of."""
        with self._lock:
            return list(self._items)

    # -- names ---------------------------------------------------------------------------------------------------------

    def _name(self, path: str) -> str:
        """What the source calls *path*."""
        if self._one is not None:
            return self.base
        return f"{self.base}/{path}" if path else self.base

    def _folder(self, id: int) -> Status:
        mode = stat.S_IFDIR | (self._owner.st_mode & 0o555)
        return Status(mode, id, st_nlink=2, st_uid=self._owner.st_uid, st_gid=self._owner.st_gid)

    def _file(self, id: int, opened: Opened) -> Status:
        changed = _stamp_ns(opened.details)
        return Status(
            stat.S_IFREG | (self._owner.st_mode & 0o444),
            id,
            st_size=opened.size or 0,
            st_uid=self._owner.st_uid,
            st_gid=self._owner.st_gid,
            st_mtime_ns=changed,
            st_ctime_ns=changed,
            st_atime_ns=changed,
        )

    def _item(self, node: int) -> Item:
        try:
            return self._items[node]
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry:
        if self.virtual.knows(parent):
            return self.virtual.lookup(parent, name)
        above, text = self._item(parent), os.fsdecode(name)
        path = f"{above.path}/{text}" if above.path else text
        if parent == ROOT and name == self.virtual.NAME:
            return self.virtual.entry()
        if self._listed is not None:
            is_folder = self._listed.get(above.path, {}).get(text)
            if is_folder is None:
                _absent(path)
            if is_folder:
                return self._enter(path, None)
            return self._enter(path, self.reader.open(self._name(path)))
        with self._lock:
            known = self._by_key.get((path, None))
        if known is not None and self.fs.isdir(self._name(path)):
            return self._enter(path, None)
        try:
            opened = self.reader.open(self._name(path))
        except (FileNotFoundError, IsADirectoryError):
            if not self.fs.isdir(self._name(path)):
                _absent(path)
            return self._enter(path, None)
        return self._enter(path, opened)

    def _enter(self, path: str, opened: Opened | None) -> Entry:
        """The node of a folder (None), or of this version of a file; known once more."""
        if opened is None:
            key: tuple[str, bytes | None] = (path, None)
        else:
            proof = opened.version.token if opened.version.strength != NONE or self._kept_s else b""
            key = (path, proof + b"|%d" % (opened.size or 0))
        with self._lock:
            item = self._by_key.get(key)
            if item is None:
                id, self._next = self._next, self._next + 1
                status = self._folder(id) if opened is None else self._file(id, opened)
                item = self._items[id] = self._by_key[key] = Item(id, key, path, status, opened)
            elif opened is not None:
                item.opened, item.status = opened, self._file(item.id, opened)
            item.lookups += 1
        if opened is None:
            return Entry(item.id, item.status, FOLDER_S, max(FOLDER_S, self._kept_s))
        return Entry(item.id, item.status, self._attr_s(opened), self._kept_s)

    def _attr_s(self, opened: Opened) -> float:
        return KEPT_S if opened.version.strength == STRONG or self._kept_s else 0.0

    def forget(self, node: int, times: int) -> None:
        with self._lock:
            item = self._items.get(node)
            if item is None or node == ROOT:
                return
            item.lookups -= times
            if item.lookups <= 0:
                del self._items[node]
                if self._by_key.get(item.key) is item:
                    del self._by_key[item.key]

    def getattr(self, node: int, number: int | None) -> tuple[Any, float]:
        if self.virtual.knows(node):
            return self.virtual.status(node), 0.0
        item = self._item(node)
        return item.status, FOLDER_S if item.opened is None else self._attr_s(item.opened)

    # -- contents ------------------------------------------------------------------------------------------------------

    def open(self, caller: Caller, node: int, flags: int) -> Opening:
        if self.virtual.knows(node):
            return self.virtual.open(node)
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        item = self._item(node)
        found = item.opened
        if found is None:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        with self._lock:
            self._next_file = number = self._next_file + 1
            self._files[number] = Opened(
                found.name, found.version, found.object, is_cached=found.is_cached, why=found.why
            )
        return Opening(number, keeps_pages=self._attr_s(found) > 0, is_direct=self._is_direct or found.size is None)

    def read(self, number: int, size: int, offset: int) -> bytes:
        if self.virtual.knows(number):
            return self.virtual.read(number, size, offset)
        return self.reader.read(self._files[number], offset, size)

    def release(self, number: int, owner: int) -> None:
        if self.virtual.knows(number):
            self.virtual.release(number)
        else:
            self._files.pop(number, None)

    def opendir(self, caller: Caller, node: int) -> int:
        with self._lock:
            self._next_file = number = self._next_file + 1
        self._lists[number] = self.virtual.listing(node) if self.virtual.knows(node) else self._rows(self._item(node))
        return number

    def _rows(self, item: Item) -> list[tuple[bytes, int, int]]:
        folder, file = stat.S_IFDIR >> 12, stat.S_IFREG >> 12
        rows = [(b".", item.id, folder), (b"..", 1, folder)]
        if self._listed is not None:
            found: Iterable[tuple[str, bool]] = self._listed.get(item.path, {}).items()
        else:
            name = self._name(item.path)
            self.fs.invalidate_cache(name)
            found = {
                entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] == "directory"
                for entry in self.fs.ls(name, detail=True)
                if entry["name"].rstrip("/") != name.rstrip("/")
            }.items()
        rows += [(os.fsencode(name), 0xFFFF_FFFF, folder if is_folder else file) for name, is_folder in found if name]
        return rows

    def readdir(self, number: int, is_rewound: bool) -> Iterable[tuple[bytes, int, int]]:
        return self._lists[number]

    def releasedir(self, number: int) -> None:
        self._lists.pop(number, None)

    def getxattr(self, caller: Caller, node: int, name: bytes) -> bytes:
        item = None if self.virtual.knows(node) else self._item(node)
        if name != self.virtual.ATTRIBUTE or item is None or item.opened is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        import json

        return json.dumps(describe(self.reader, item.opened)).encode()


def _absent(path: str) -> NoReturn:
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _read_list(where: str) -> list[str]:
    """Relative paths, one a line; `#` begins a comment.  Raises: Error."""
    import fsspec

    try:
        with fsspec.open(where, "rb").open() as file:
            text = file.read().decode("utf-8")
    except Exception as error:  # whatever a file system raises; the user named this list
        raise Error(f"files={where}: {error}") from None
    names = [line.strip().strip("/") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    bad = [name for name in names if ".." in name.split("/") or "//" in name]
    if bad:
        raise Error(f"files={where}: {bad[0]!r} is no relative path")
    return names


def _folders(names: list[str]) -> dict[str, dict[str, bool]]:
    """Folder → names in it, and whether each is a folder.

    >>> _folders(["a", "b/c"])
    {'': {'a': False, 'b': True}, 'b': {'c': False}}
    """
    found: dict[str, dict[str, bool]] = {"": {}}
    for name in names:
        parts = name.split("/")
        for at, part in enumerate(parts):
            found.setdefault("/".join(parts[:at]), {})[part] = at < len(parts) - 1
    return found


def _walk(folders: dict[str, dict[str, bool]]) -> Iterator[list[str]]:
    for folder, names in folders.items():
        yield [f"{folder}/{name}" if folder else name for name, is_folder in names.items() if not is_folder]


_READERS: tuple[Callable[[Any], datetime], ...] = (datetime.fromisoformat, parsedate_to_datetime)


def _stamp_ns(details: Any) -> int:
    """When the source says the file was changed; 0 where it does not."""
    for name in ("mtime", "LastModified", "Last-Modified", "last_modified", "modified", "modify", "updated"):
        value = details.get(name)
        if not value:
            continue
        if isinstance(value, str):
            for read in _READERS:
                try:
                    value = read(value)
                    break
                except ValueError:
                    continue
        if isinstance(value, datetime):
            value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float):
            return int(value * 1e9)
    return 0
