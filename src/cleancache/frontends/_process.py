"""What all file systems of this process share: worker threads, and for each target its Readers.

Instances with equal targets and equal settings read through one Reader and one Pool, so they share pages; targets
with other credentials are other identities and get another Pool (law P12). Everything here belongs to one process: a
forked child forgets it in one assignment, locks included, and builds its own at first use (law I14); an inherited
executor, event loop or socket is never touched.

Locks: `_Process.lock` guards its tables, `Shared._lock` the Readers and writers of one target; neither is held across
I/O or taken under the other. `Writing._lock` belongs to one write and is held while its names are flushed, which may
ask a tier: only who begins or ends that write, or makes a Reader meanwhile, waits for it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import fsspec.asyn  # first: its own hook must have renewed the loop and the instances before ours runs
from fsspec import AbstractFileSystem

if TYPE_CHECKING:
    from cleancache.config import Settings
    from cleancache.pool import Pool
    from cleancache.reader import Reader
    from cleancache.source import Source

WORKERS = 64  # zarr's concurrency; the loop's own executor has cores + 4 threads, 4.5 times slower at 40 x 100 ms


class Shared:
    """The Readers over one target, and the writes to it that go through us.

    Threads: any.
    """

    def __init__(self, process: _Process, target: AbstractFileSystem) -> None:
        self.target = target
        self._process = process
        self._lock = threading.RLock()  # guards the two below
        self._readers: dict[Settings, Reader] = {}
        self._writings: set[Writing] = set()

    def reader(self, settings: Settings) -> Reader:
        """The Reader of these settings, made at first use."""
        reader = self._readers.get(settings)
        if reader is None:
            from cleancache.reader import Reader
            from cleancache.source import source_for

            source = source_for(self.target, lease=settings.lease)
            pool = self._process.pool(source, settings)
            made = Reader(
                source,
                pool,
                page_size=settings.page_size,
                readahead=settings.readahead,
                max_stale=settings.max_stale,
                immutable=settings.immutable,
            )
            with self._lock:
                reader = self._readers.setdefault(settings, made)
                writings = list(self._writings)
            for writing in writings:  # what it kept before it heard of them is flushed as it does
                writing.join(reader)
        return reader

    def write(self, names: Iterable[str]) -> Writing:
        """Begin to write *names*: what is cached of them ends, and nothing of them is kept until the result ends."""
        writing = Writing(self, names)
        with self._lock:
            self._writings.add(writing)
            readers = list(self._readers.values())
        for reader in readers:
            writing.join(reader)
        return writing

    def ended(self, writing: Writing) -> None:
        """*writing* is over: the target's listings of its names are dropped."""
        with self._lock:
            self._writings.discard(writing)
        for place in {self.target._parent(name) for name in writing.names}:
            self.target.invalidate_cache(place)

    def is_written(self, name: str) -> bool:
        """Say whether *name* is being written through us right now."""
        with self._lock:
            return any(name in writing.names for writing in self._writings)


class Writing:
    """Names that are being written through us: every Reader flushes them before and after, and keeps none in between.

    Threads: begun by one, ended by any, once.
    """

    def __init__(self, shared: Shared, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self._shared = shared
        self._lock = threading.RLock()  # guards the two below; a finaliser may end what its own thread is joining
        self._told = ExitStack()
        self._is_over = False

    def join(self, reader: Reader) -> None:
        """Tell *reader*."""
        with self._lock:
            if not self._is_over:
                for name in self.names:
                    self._told.enter_context(reader.writing(name))

    def end(self) -> None:
        """All is written; idempotent."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            self._told.close()
        self._shared.ended(self)

    def abandon(self) -> None:
        """Its file was collected without being closed. Takes no lock: finalisers call it, in the middle of anything;
        the next call through us ends it (T3)."""
        if not self._is_over:
            _process.abandoned.append(self)

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *problem: object) -> None:
        self.end()


class _Process:
    """The tables of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()  # guards the three below
        self._shared: dict[tuple[type, str], Shared] = {}
        self._pools: dict[tuple[str, ...], Pool] = {}
        self._threads: ThreadPoolExecutor | None = None
        self.abandoned: deque[Writing] = deque()

    def shared(self, target: AbstractFileSystem) -> Shared:
        """What belongs to *target*; equal targets share it."""
        while self.abandoned:
            with suppress(IndexError):  # another thread ends it
                self.abandoned.popleft().end()
        given = (type(target), str(target._fs_token))
        with self.lock:
            if given not in self._shared:
                self._shared[given] = Shared(self, target)
            return self._shared[given]

    def pool(self, source: Source, settings: Settings) -> Pool:
        """The Pool of this identity and stack."""
        import cleancache

        given = (source.identity, str(settings.stack), str(settings.pool), str(settings.limit))
        with self.lock:
            found = self._pools.get(given)
        if found is None:
            made = cleancache.connect(settings.stack, pool=settings.pool, limit=settings.limit)
            with self.lock:
                found = self._pools.setdefault(given, made)
            if found is not made:  # another thread was first
                made.close()
        return found

    def threads(self) -> ThreadPoolExecutor:
        """The workers that async callers hop into."""
        if self._threads is None:
            with self.lock:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="cleancache-fsspec")
        return self._threads

    def forget(self) -> None:
        """Drop Readers and Pools; files that are open keep theirs."""
        with self.lock:
            self._shared.clear()
            self._pools.clear()

    def close(self) -> None:
        """For the end of a test: nothing of ours is left running; what is used next is made anew."""
        self.forget()
        with self.lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()


_process = _Process()


def here() -> _Process:
    """The tables of this process."""
    return _process


def _after_fork() -> None:
    global _process
    _process = _Process()


os.register_at_fork(after_in_child=_after_fork)


def make_target(protocol: str, options: dict[str, Any]) -> AbstractFileSystem:
    """The file system behind us, in sync mode: worker threads may call it, a running loop may not."""
    options = {name: value for name, value in options.items() if name not in ("asynchronous", "loop")}
    return fsspec.filesystem(protocol, **options)


def remake_target(fs: AbstractFileSystem, *, is_foreign: bool) -> AbstractFileSystem:
    """*fs*, or one like it where it cannot be used: made in another process (*is_foreign*), or for a running loop."""
    if not is_foreign and not getattr(fs, "asynchronous", False):
        return fs
    options = {name: value for name, value in fs.storage_options.items() if name not in ("asynchronous", "loop")}
    return type(fs)(*fs.storage_args, **options)
