"""`cleancache::` in front of any fsspec URL: reads go through pages, everything else goes to the target.

Three lists say what happens to each method of fsspec (a test compares them with fsspec itself, so a new method cannot
slip past): `CACHED` reads through the Reader; `FLUSHED` is the target's, with a flush of each name it touches before
and after: the first ends what is cached, the second voids what was fetched in between; `DELEGATED` is the target's,
as fresh as the target. There is no listing cache of ours.

Each method has two twins. The sync one is the real one and needs no event loop; the async one hops into worker
threads of our own. The target is always in sync mode, so that these threads may call it; `asynchronous` and `loop`
are ours alone. A class with sync methods only would lose all concurrency of the bulk calls: 40 objects at 100 ms took
4.1 s, with twins 0.18 s.

Fork: nothing inherited is used. The target, the loop, the threads and the Readers are made anew when the pid has
changed (law I14).
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.chained import ChainedFileSystem

from cleancache import config
from cleancache.frontends import _options, _process
from cleancache.frontends._reads import CachedReads
from cleancache.frontends._wrapped import plain, protocols
from cleancache.frontends._writes import FlushedWrites, TargetTransaction

T = TypeVar("T")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CACHED = _words(
    "cat cat_file cat_ranges download get get_file get_mapper head open read_block read_bytes read_text tail"
)
FLUSHED = _words(
    "copy cp cp_file delete move mv pipe pipe_file put put_file rename rm rm_file touch upload write_bytes write_text "
    "end_transaction start_transaction transaction"
)
DELEGATED = _words(
    "checksum created disk_usage du exists expand_path find fsid glob info invalidate_cache isdir isfile lexists "
    "listdir ls makedir makedirs mkdir mkdirs modified rmdir sign size sizes stat tree ukey unstrip_protocol walk"
)
MACHINERY = _words(  # the object itself: no name of a file is in these
    "async_impl blocksize cachable clear_instance_cache current disable_throttling from_dict from_json loop "
    "mirror_sync_methods open_async protocol root_marker sep to_dict to_json transaction_type"
)
LISTED_STAMPS = ("mtime", "modified", "last_modified", "LastModified", "Last-Modified", "updated", "timeModified")


class CleancacheFileSystem(CachedReads, FlushedWrites, AsyncFileSystem, ChainedFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Any fsspec file system, read through one bounded pool of RAM.

    Exactly one of *target_protocol* and *fs* says what is behind; *target_options* are its options, and so is every
    keyword that is not ours. Ours: *stack*, *pool*, *max_stale*, *immutable*, *page_size*, *readahead*, *limit*,
    *lease* (`docs/fsspec.md`). Laws: F4, F5, F7, P12, I14. Raises: SpecError (a ValueError) for a mistake in an
    option, at once; later only what the target raises, and OSError(ESTALE) where a version is gone that was partly
    given out. Threads: any.
    """

    protocol = ("cleancache",)
    cachable = True
    local_file = False  # a path of the target is no way into the cache
    transaction_type = TargetTransaction
    _strip_tokenize_options = ("fo",)  # without it every file makes a new instance

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        fs: AbstractFileSystem | None = None,
        fo: str | None = None,
        *,
        stack: str | None = None,
        pool: str | None = None,
        max_stale: str | float | None = None,
        immutable: bool | None = None,
        page_size: str | int | None = None,
        readahead: str | int | None = None,
        limit: str | int | None = None,
        lease: str | None = None,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        batch_size: int | None = None,
        **other: Any,
    ) -> None:
        if self._cached:
            return
        if (fs is None) == (target_protocol is None):
            raise ValueError(
                "cleancache needs exactly one of fs and target_protocol, as in cleancache::s3://bucket/name"
            )
        ours = {
            "stack": stack,
            "pool": pool,
            "max_stale": max_stale,
            "immutable": immutable,
            "page_size": page_size,
            "readahead": readahead,
            "limit": limit,
            "lease": lease,
        }
        self._given, forwarded = _options.split(ours, other, target_protocol)
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        self._of_target = {**forwarded, **(target_options or {})}
        self._target_protocol = target_protocol
        self._template = fs
        self._template_pid = os.getpid()
        self._target: AbstractFileSystem | None = None
        self._target_pid = 0
        self._touched: set[str] = set()  # names written in the transaction that is open
        self.__dict__["protocol"] = protocols(get_filesystem_class(target_protocol) if fs is None else fs)
        self.__dict__["_strip_protocol"] = self._strip  # from now on ours, then the target's
        self._config, self._anywhere = config.read(), None
        self._settings(None)  # a mistake in an option is told here, not at the first read

    def invalidate_cache(self, path: str | None = None) -> None:
        """Drop the target's listings; pages need no such call."""
        self.fs.invalidate_cache(None if path is None else plain(path))

    def sizes(self, paths: list[str]) -> list[Any]:
        """The size of each name."""
        return list(self.fs.sizes([plain(path) for path in paths]))

    def modified(self, path: str) -> datetime.datetime:
        """When *path* changed last; now, if the target cannot say (DuckDB keeps what is older)."""
        try:
            return self.fs.modified(plain(path))  # type: ignore[no-any-return]  # fsspec ships no types
        except NotImplementedError:
            info = self.fs.info(plain(path))
            return _stamp(next((info[key] for key in LISTED_STAMPS if info.get(key)), None))

    async def _hop(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """*call* in a worker thread."""
        threads = _process.here().threads()
        return await asyncio.get_running_loop().run_in_executor(threads, functools.partial(call, *args, **kwargs))

    async def _walk(self, path: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        steps = self.walk(path, *args, **kwargs)
        while (step := await self._hop(next, steps, None)) is not None:
            yield step

    async def _mv_file(self, path1: str, path2: str) -> None:
        await self._hop(self.mv, path1, path2)

    @classmethod
    def clear_instance_cache(cls) -> None:
        """Forget the instances, and the Readers they share."""
        super().clear_instance_cache()
        _process.here().forget()


def _stamp(value: Any) -> datetime.datetime:
    now = datetime.datetime.now(datetime.UTC)
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, (int, float)):
        return datetime.datetime.fromtimestamp(value, datetime.UTC)
    if isinstance(value, str):
        from email.utils import parsedate_to_datetime

        for parse in (datetime.datetime.fromisoformat, parsedate_to_datetime):
            with suppress(ValueError, TypeError):
                return parse(value)
    return now


def _delegate(name: str) -> Callable[..., Any]:
    base = getattr(AbstractFileSystem, name)

    @functools.wraps(base)
    def method(self: CleancacheFileSystem, path: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.fs, name)(plain(path), *args, **kwargs)

    return method


def _twin(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(CleancacheFileSystem, name))
    async def method(self: CleancacheFileSystem, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("batch_size", None)
        return await self._hop(getattr(self, name), *args, **kwargs)

    return method


# Delegated whole, so that a target which lists a prefix in one request is not walked one request a directory
for _name in _words(
    "checksum created du exists expand_path find glob info isdir isfile lexists ls makedirs mkdir rmdir sign size ukey "
    "walk"
):
    setattr(CleancacheFileSystem, _name, _delegate(_name))

for _name in _words(
    "cat_file copy cp_file created du exists expand_path find get_file glob info isdir isfile lexists ls makedirs "
    "mkdir modified pipe pipe_file put put_file rm rm_file rmdir size sizes touch"
):
    setattr(CleancacheFileSystem, f"_{_name}", _twin(_name))
