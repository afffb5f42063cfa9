"""Open files: one version from open to close, and the page last read at hand.

*Reading.* The version is asked once, at open; every byte that the file ever gives has it (F4). When the source cannot
give that version any more, the file starts again under the new one if nothing was told yet, neither bytes nor size;
afterwards the reader gets ESTALE, never a blend. Most consumers read less than a page at a time, so the file keeps
the page it read last: a read inside it is one slice, without a lock and without asking anybody (goal G10). The page
and its place are one tuple, so a second thread that moves on cannot pair one page's place with another page's bytes.
It is at most one page a file, and ends with the file.

*Writing.* The target's own file does it; we only say before and after that the name is written, so that nothing older
is given.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.spec import AbstractBufferedFile

if TYPE_CHECKING:
    from cleancache.backend import Buffer
    from cleancache.frontends._process import Shared, Writing
    from cleancache.frontends.fsspec import CleancacheFileSystem
    from cleancache.reader import Opened, Reader

A = TypeVar("A")
T = TypeVar("T")

TRIES = 5  # versions that a file goes through before it says that its name does not hold still
NOTHING = (0, -1, b"")  # a kept page that no read is inside of


def stale(name: str) -> OSError:
    """The error for a version that is gone: the caller holds parts of it, so new bytes would be a blend."""
    return OSError(errno.ESTALE, "changed at the source while it was read; open it again", name)


class CleancacheFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec ships no types
    """A file open to read through the cache.

    Laws: F4, F5. Raises: OSError(ESTALE) once its version is gone; else what the source raises.
    Threads: as any file: one position, so readers that share it take turns; torn bytes are impossible all the same.
    Cost: a read inside the page last read is a slice (bench/fsspec.py, G10).
    """

    def __init__(
        self,
        fs: Any,
        path: str,
        reader: Reader,
        opened: Opened,
        *,
        block_size: int | str | None = None,
    ) -> None:
        self._reader = reader
        self._opened = opened
        self._page_size = reader.page_size
        self._pid = os.getpid()
        self._kept = NOTHING  # (start, length, page)
        super().__init__(fs, path, "rb", block_size or "default", cache_type="none", size=opened.size)
        self._is_told = False  # whether the caller knows anything of this version: bytes, size or details

    @property
    def size(self) -> int:
        """The size of this version."""
        self._is_told = True
        return int(self._opened.size or 0)

    @size.setter
    def size(self, value: int) -> None:
        """fsspec's constructor sets it; the version's is the one that counts."""

    @property
    def details(self) -> dict[str, Any]:
        """What the source said about this version at open."""
        self._is_told = True
        return details(self.path, self._opened)

    @property
    def version(self) -> bytes:
        """The token of the version that this file gives."""
        return self._opened.version.token

    def seek(self, loc: int, whence: int = 0) -> int:
        """Move to *loc*; the new position."""
        if whence == 0 and type(loc) is int and loc >= 0 and not self._closed:
            self.loc = loc
            return loc
        return int(super().seek(loc, whence))

    def read(self, length: int | None = -1) -> bytes:
        """The next *length* bytes, fewer at the end; all that is left for -1 or None."""
        loc = self.loc
        start, held, page = self._kept
        at = loc - start
        if type(length) is int and length >= 0:
            if at >= 0 and at + length <= held:
                self.loc = loc + length
                return page[at : at + length]
            at = loc % self._page_size
            if at + length <= self._page_size and loc + length <= (self._opened.version.size or 0) and not self._closed:
                near = self._reader.at_hand(self._opened, loc // self._page_size)
                if near is None:
                    near = self._steadily(self._page, loc)
                else:
                    self._kept, self._is_told = (loc - at, len(near), near), True
                data = near[at : at + length]  # less, if the file starts again under a version that is shorter
                self.loc = loc + len(data)
                return data
        data = self._steadily(self._take, -1 if length is None else int(length))
        self.loc = loc + len(data)
        return data

    def readinto(self, b: Buffer) -> int:
        """Fill *b* from here; how many bytes it took."""
        view = memoryview(b).cast("B")
        loc, wanted = self.loc, view.nbytes
        start, held, page = self._kept
        at = loc - start
        if at >= 0 and at + wanted <= held:
            view[:] = memoryview(page)[at : at + wanted]
            self.loc = loc + wanted
            return wanted
        took = self._steadily(self._take_into, view)
        self.loc = loc + took
        return took

    def readuntil(self, char: bytes = b"\n", blocks: int | None = None) -> bytes:
        """Bytes up to and with *char*, or to the end."""
        line = b""
        while self._load():
            start, _, page = self._kept
            at = self.loc - start
            keep = len(char) - 1  # a mark of several bytes may lie across two pages
            tail = line[len(line) - keep :] if keep else b""
            found = (tail + page[at:]).find(char) if tail else page.find(char, at) - at
            if found >= 0:
                stop = at + found - len(tail) + len(char)
                self.loc = start + stop
                return line + page[at:stop]
            line += page[at:]
            self.loc = start + len(page)
        return line

    def readline(self, size: int | None = -1) -> bytes:
        """The next line, with its end; at most *size* bytes of it."""
        before = self.loc
        line = self.readuntil(b"\n")
        if size is not None and 0 <= size < len(line):
            self.loc = before + size
            return line[:size]
        return line

    def close(self) -> None:
        """Let go of the page; idempotent."""
        self._kept = NOTHING
        super().close()

    def _fetch_range(self, start: int, end: int) -> bytes:
        """For fsspec's own cache object, which consumers reach as `f.cache`."""
        return self._steadily(lambda at: self._reader.read(self._opened, at, end - at), start)

    def _steadily(self, take: Callable[[A], T], what: A) -> T:
        """*take* of *what*; once more under the new version if the old one is gone and nothing of it was told."""
        if self._closed:
            raise ValueError("I/O operation on closed file.")
        if self._pid != os.getpid():
            self._settle_here()
        for tries_left in reversed(range(TRIES)):
            try:
                taken = take(what)
            except OSError as problem:
                if problem.errno != errno.ESTALE or self._is_told or not tries_left:
                    raise
                self._opened, self._kept = self._reader.open(self.path), NOTHING
            else:
                break
        self._is_told = True
        return taken

    def _settle_here(self) -> None:
        """In a forked child: the same version through this process's own Reader, or ESTALE."""
        reader = self.fs.reader(self.path)
        opened = reader.open(self.path)
        if opened.version.token != self._opened.version.token:
            raise stale(self.path)
        self._reader, self._opened, self._pid, self._kept = reader, opened, os.getpid(), NOTHING

    def _take(self, length: int) -> bytes:
        """The bytes of a read, the page around them kept; the position stays."""
        loc, size, page_size = self.loc, self._opened.version.size or 0, self._page_size
        stop = loc + length
        if length < 0 or stop > size:
            stop = size
        if loc >= stop:
            return b""
        if stop - loc > page_size:
            return self._reader.read(self._opened, loc, stop - loc)
        first = self._page(loc)
        start, held, _ = self._kept
        if stop <= start + held:
            return first[loc - start : stop - start]
        head = first[loc - start :]
        rest = self._page(start + held)
        return head + rest[: stop - start - held]

    def _take_into(self, view: memoryview) -> int:
        loc, size = self.loc, int(self._opened.size or 0)
        wanted = max(0, min(view.nbytes, size - loc))
        if wanted > self._page_size:
            return self._reader.readinto(self._opened, loc, view[:wanted])
        data = self._take(wanted)
        view[: len(data)] = data
        return len(data)

    def _page(self, loc: int) -> bytes:
        """The page around *loc*, which is kept from now on."""
        start, held, page = self._kept
        if not start <= loc < start + held:
            start = loc - loc % self._page_size
            self._kept = NOTHING  # let go of the old one first: its memory is the next one's
            page = self._reader.read(self._opened, start, self._page_size)  # short at the end of the file
            self._kept = (start, len(page), page)
        return page

    def _load(self) -> bool:
        """Have the page around the position at hand; False at the end."""
        start, held, _ = self._kept
        if start <= self.loc < start + held:
            return True
        return bool(self._steadily(lambda loc: loc < int(self._opened.size or 0) and self._page(loc), self.loc))

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen, (self.fs, self.path, self._opened.version.token, self.loc, self.blocksize)


def details(path: str, opened: Opened) -> dict[str, Any]:
    """What a file's `details` hold: what the source said of this version, under fsspec's names."""
    said: Mapping[str, Any] = opened.version.details
    return {**said, "name": path, "size": opened.size, "type": "file", "version": opened.version.token.hex()}


def reopen(fs: CleancacheFileSystem, path: str, version: bytes, loc: int, block_size: int) -> CleancacheFile:
    """The unpickled file: the same version at the same place, or ESTALE."""
    file = fs.open(path, "rb", block_size=block_size)
    if not isinstance(file, CleancacheFile) or file.version != version:
        file.close()
        raise stale(path)
    file.loc = loc
    file._is_told = True
    return file


class WritingFile:
    """The target's own file, open to write; its name is not cached until it is closed.

    Threads: as the target's file.
    """

    def __init__(self, shared: Shared, writing: Writing, file: Any, note: Callable[[Iterable[str]], None]) -> None:
        self._shared = shared
        self._writing = writing
        self._file = file
        self._note = note

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_file":  # while being unpickled there is nothing behind us yet
            raise AttributeError(name)
        return getattr(self._file, name)

    def __enter__(self) -> WritingFile:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def __del__(self) -> None:
        writing = self.__dict__.get("_writing")  # not there while being unpickled
        if writing is not None:
            self._note(writing.names)
            writing.abandon()

    def close(self) -> None:
        """Close the target's file; what it wrote is what is read from now on."""
        try:
            self._file.close()
        finally:
            self._end()

    def commit(self) -> None:
        """Put the deferred file in its place."""
        self._moved(self._file.commit)

    def discard(self) -> None:
        """Throw the deferred file away."""
        self._moved(self._file.discard)

    def _moved(self, act: Callable[[], Any]) -> None:
        with self._shared.write(self._writing.names):
            act()

    def _end(self) -> None:
        self._note(self._writing.names)
        self._writing.end()
