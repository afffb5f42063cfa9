"""A source in memory that tests command: contents with version numbers, faults, gates, and a log of what was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cleancache.backend import Stats
from cleancache.errors import Changed
from cleancache.handle import Handle, Scope
from cleancache.source import NONE, STRONG, Fetched, Version
from cleancache.source.base import token


class DictSource:
    """Strong versions, conditional reads, like a well-behaved object store.  Threads: any."""

    identity = "dict"
    is_near = False

    def __init__(self, contents: dict[str, bytes] | None = None) -> None:
        self._lock = threading.Lock()
        self.contents = dict(contents or {})
        self.numbers = dict.fromkeys(self.contents, 1)
        self.asked: list[str] = []
        self.reads: list[tuple[str, int, int | None]] = []
        self.strength = STRONG
        self.fit = True
        self.has_first = False
        self.error: Exception | None = None
        self.hook: Callable[[str, int, int | None], None] | None = (
            None  # after the bytes were taken, before they are given
        )
        self.spoil: Callable[[bytes], bytes] | None = None

    def change(self, name: str, data: bytes, *, is_seen: bool = True) -> None:
        """Other contents; *is_seen* False: under the same version, as a source that lies."""
        with self._lock:
            self.contents[name] = data
            self.numbers[name] = self.numbers.get(name, 0) + is_seen

    def _version(self, name: str) -> Version:
        if name not in self.contents:
            raise FileNotFoundError(name)
        size, number = len(self.contents[name]), self.numbers[name]
        why = "" if self.strength == STRONG else "the test says so"
        return Version(
            token(number, size) if self.strength != NONE else b"", size, self.strength, why, {"number": number}
        )

    def version(self, name: str) -> Version:
        """The number of the contents."""
        with self._lock:
            self.asked.append(name)
            if self.error is not None:
                raise self.error
            return self._version(name)

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """A slice of the contents that have this number."""
        with self._lock:
            self.reads.append((name, offset, size))
            if self.error is not None:
                raise self.error
            if self._version(name).token != version.token:
                raise Changed(name)
            data = self.contents[name][offset : None if size is None else offset + size]
        if self.hook is not None:
            self.hook(name, offset, size)
        if self.spoil is not None:
            data = self.spoil(data)
        return Fetched(data, offset, version, self.fit)

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """The same with the version, if the test wants that."""
        if not self.has_first:
            return None
        with self._lock:
            version = self._version(name)
        return self.read(name, version, offset, size)


class DictBackend:
    """Pages in a dict, with a log of the verbs; for tests that look at what the Reader asks of a pool."""

    def __init__(self) -> None:
        self.pages: dict[Handle, bytes] = {}
        self.flushes: list[Scope] = []

    def put(self, handle: Handle, data: bytes | bytearray | memoryview) -> bool:
        """Keep it."""
        self.pages[handle] = bytes(data)
        return True

    def get(self, handle: Handle) -> bytes | None:
        """Give it."""
        return self.pages.get(handle)

    def flush(self, scope: Scope) -> bool:
        """Forget it."""
        self.flushes.append(scope)
        for handle in [handle for handle in list(self.pages) if scope.covers(handle)]:  # threads
            self.pages.pop(handle, None)
        return True

    def stats(self) -> Stats:
        """Nothing is counted here."""
        return Stats()

    def close(self) -> None:
        """Nothing to give back."""
