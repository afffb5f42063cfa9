"""Writes: the target's own, with a flush of every name that they touch before and after.

The first flush ends what is cached, the second voids what was fetched in between; meanwhile nothing of the name is
kept. The rules of where a name lands when it is copied differ between targets, so every place where it can land is
flushed: a flush of what is not cached costs a look into a dict.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from fsspec.implementations.local import LocalFileSystem
from fsspec.transaction import Transaction

from cleancache.frontends._file import WritingFile
from cleancache.frontends._wrapped import Wrapped, listed, plain

T = TypeVar("T")

# writes of targets that fsspec's base does not know
FOREIGN_WRITES = frozenset(
    ("bulk_delete", "chmod", "link", "merge", "mv_file", "put_tags", "setxattr", "setxattrs", "symlink", "truncate")
)


class TargetTransaction(Transaction):  # type: ignore[misc]  # fsspec ships no types
    """The target's transaction; the names it touches are flushed around its end."""

    fs: Any

    def start(self) -> None:
        self.fs.fs.start_transaction()

    def complete(self, commit: bool = True) -> None:
        if self.fs is None:
            return
        fs, self.fs = self.fs, None
        fs._transaction = None
        fs._end_of_transaction(commit)


class FlushedWrites(Wrapped):
    """The methods that write at the target."""

    _touched: set[str]  # names written in the transaction that is open
    transaction: Any

    def __getattr__(self, name: str) -> Any:
        """What fsspec's base does not know is the target's, as `fs.getxattr`; if it writes, with flushes around it."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        found = getattr(self.fs, name)
        return functools.partial(self._foreign_write, found) if name in FOREIGN_WRITES and callable(found) else found

    def _foreign_write(self, act: Callable[..., T], path: Any, *args: Any, **kwargs: Any) -> T:
        also = [plain(each) for each in args if isinstance(each, str)]  # the other name of mv_file and link
        with self._writing([*listed(plain(path)), *also]):
            return act(plain(path), *args, **kwargs)

    def _open_to_write(
        self, name: str, mode: str, block_size: int | None, cache_options: dict[str, Any] | None, kwargs: dict[str, Any]
    ) -> WritingFile:
        shared = self._shared()
        if "x" in mode and self.fs.exists(name):  # object stores find out at close; the caller wants to know now
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        writing = shared.write([name])
        try:
            file = self.fs.open(name, mode, block_size=block_size, cache_options=cache_options, **kwargs)
        except BaseException:
            writing.end()
            raise
        return WritingFile(shared, writing, file, self._note_written)

    def _note_written(self, names: Iterable[str]) -> None:
        if self.fs._intrans:
            self._touched.update(names)

    @contextmanager
    def _writing(self, paths: Iterable[str]) -> Iterator[None]:
        """*paths* are written meanwhile: flushed before and after, not cached in between, their listings dropped."""
        with self._shared().write(self._strip(path) for path in paths) as writing:
            yield
            if self.fs._intrans:
                self._touched.update(writing.names)

    def _tree(self, path: Any, recursive: bool, maxdepth: int | None = None) -> list[str]:
        """The names that *path* means, and all below them where the call goes that far."""
        named = listed(plain(path))
        if not recursive and not any(mark in each for each in named for mark in "*?["):
            return named
        with suppress(FileNotFoundError, NotImplementedError, ValueError):
            return [*named, *self.fs.expand_path(plain(path), recursive=recursive, maxdepth=maxdepth)]
        return named

    def _landings(self, names: Iterable[str], place: Any) -> list[str]:
        """Everywhere that *names* can land when they are copied to *place*."""
        landings: list[str] = []
        for each in listed(plain(place)):
            root = each.rstrip("/")
            landings.append(each)
            for name in names:
                parts = str(name).strip("/").split("/")
                landings.extend("/".join((root, *parts[n:])) for n in range(len(parts)))
        return landings

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        """Write *value* as the whole of *path*; FileExistsError for mode `create` if it is there."""
        with self._writing([path]):
            return self.fs.pipe_file(plain(path), value, mode=mode, **kwargs)

    def pipe(self, path: Any, value: bytes | None = None, **kwargs: Any) -> Any:
        """Write one name, or each of a dict."""
        with self._writing(list(path)) if isinstance(path, dict) else self._writing([path]):
            if isinstance(path, dict):
                return self.fs.pipe({plain(each): data for each, data in path.items()}, **kwargs)
            return self.fs.pipe(plain(path), value, **kwargs)

    def put_file(self, lpath: Any, rpath: str, *args: Any, **kwargs: Any) -> Any:
        """Copy one local file to the target."""
        with self._writing([rpath]):
            return self.fs.put_file(lpath, plain(rpath), *args, **kwargs)

    def put(self, lpath: Any, rpath: Any, recursive: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Copy local files to the target."""
        local = lpath if isinstance(lpath, list) else [lpath]
        with suppress(FileNotFoundError):
            local = LocalFileSystem().expand_path(lpath, recursive=recursive, maxdepth=kwargs.get("maxdepth"))
        with self._writing(self._landings(local, rpath)):
            return self.fs.put(lpath, plain(rpath), recursive, *args, **kwargs)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> Any:
        """Copy one name to another at the target."""
        with self._writing([path2]):
            return self.fs.cp_file(plain(path1), plain(path2), **kwargs)

    def copy(self, path1: Any, path2: Any, recursive: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Copy names at the target."""
        with self._writing(self._landings(self._tree(path1, recursive, kwargs.get("maxdepth")), path2)):
            return self.fs.copy(plain(path1), plain(path2), recursive, *args, **kwargs)

    def mv(self, path1: Any, path2: Any, *args: Any, **kwargs: Any) -> Any:
        """Move names at the target."""
        moved = self._tree(path1, True, kwargs.get("maxdepth"))  # local moves take a whole tree, asked or not
        with self._writing([*moved, *self._landings(moved, path2)]):
            return self.fs.mv(plain(path1), plain(path2), *args, **kwargs)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Remove names at the target."""
        with self._writing(self._tree(path, recursive, maxdepth)):
            return self.fs.rm(plain(path), recursive=recursive, maxdepth=maxdepth, **kwargs)

    def rm_file(self, path: str, **kwargs: Any) -> Any:
        """Remove one name at the target."""
        with self._writing([path]):
            return self.fs.rm_file(plain(path), **kwargs)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> Any:
        """Make *path* empty, or new."""
        with self._writing([path]):
            return self.fs.touch(plain(path), truncate=truncate, **kwargs)

    def start_transaction(self) -> Transaction:
        """Defer writes of the target until `end_transaction`."""
        self.transaction.start()
        return self.transaction

    def end_transaction(self) -> None:
        """Commit the deferred writes."""
        self.transaction.complete()

    def _end_of_transaction(self, commit: bool) -> None:
        names, self._touched = self._touched, set()
        target = self.fs
        with self._shared().write(names):
            try:
                if commit:
                    target.end_transaction()
                else:
                    target.transaction.complete(commit=False)
            finally:
                target._intrans = False
                target._transaction = None
