"""Cached reads: `open`, `cat_file`, `cat_ranges`, `get_file` and what is made of them.

Whatever a target's own file does better stays with it: a name without a usable version, one that is being written
through us, a keyword that only the target understands (`version_id=…`).
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.asyn import _run_coros_in_chunks, sync
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike, stringify_path

from cleancache.frontends import _process, _ranges
from cleancache.frontends._file import TRIES, CleancacheFile
from cleancache.frontends._wrapped import Wrapped, plain

if TYPE_CHECKING:
    from cleancache.reader import Opened

# keywords of `open` that mean nothing here; any other asks for something only the target can do
IGNORED = frozenset(
    ("autocommit", "block_size", "cache_options", "cache_type", "encoding", "errors", "fill_cache", "newline", "size")
)
COPY_BYTES = 4 << 20  # one step of get_file; many pages, so that neighbours merge into one request


class CachedReads(Wrapped):
    """The methods that read through pages."""

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        name = self._strip(path)
        if mode != "rb":
            if not autocommit:
                kwargs["autocommit"] = False
            return self._open_to_write(name, mode, block_size, cache_options, kwargs)
        shared = self._shared()
        if IGNORED.issuperset(kwargs):
            reader = shared.reader(self._settings(name))
            opened = reader.open(name)
            if self._keeps_version(opened):
                return CleancacheFile(self, name, reader, opened, block_size=block_size)
        return self.fs.open(name, mode, block_size=block_size, cache_options=cache_options, **kwargs)

    def _keeps_version(self, opened: Opened) -> bool:
        """Whether a file of ours does better than the target's own: it has a version, or is at hand to be asked."""
        return opened.size is not None and (opened.is_cached or self._is_local())

    def _is_local(self) -> bool:
        protocol = self.fs.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """The bytes [*start*:*end*] of *path*, by the rules of slices."""
        name = self._strip(path)
        if kwargs:
            return self.fs.cat_file(name, start=start, end=end, **kwargs)  # type: ignore[no-any-return]  # fsspec ships no types
        return self._shared().reader(self._settings(name)).fetch(name, start, end)

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        """The bytes of one name, or a dict of those of many, fetched side by side."""
        if isinstance(path, str) and not recursive and not any(mark in path for mark in "*?["):
            with suppress(FileNotFoundError) if on_error == "omit" else _nothing():
                return self.cat_file(path, **kwargs)
            return {}
        if self.loop is None:
            return AbstractFileSystem.cat(self, path, recursive=recursive, on_error=on_error, **kwargs)
        return sync(self.loop, self._cat, path, recursive=recursive, on_error=on_error, **kwargs)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """The bytes of many ranges, several a name merged; an exception in the place of a range that failed."""
        calls = self._by_name(paths, *_ranges.align(paths, starts, ends), max_gap, kwargs)
        if len(calls) < 2:
            done = [(numbers, _tried(call)) for numbers, call in calls]
        else:
            futures = [(numbers, _process.here().threads().submit(_tried, call)) for numbers, call in calls]
            done = [(numbers, future.result()) for numbers, future in futures]
        return _in_order(done, len(paths), on_error)

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        calls = self._by_name(paths, *_ranges.align(paths, starts, ends), max_gap, kwargs)
        results = await _run_coros_in_chunks(
            [self._hop(_tried, call) for _, call in calls], batch_size=batch_size or self.batch_size, nofiles=True
        )
        return _in_order(
            [(numbers, got) for (numbers, _), got in zip(calls, results, strict=True)], len(paths), on_error
        )

    def _by_name(
        self, paths: list[str], starts: list[Any], ends: list[Any], max_gap: int | None, kwargs: dict[str, Any]
    ) -> list[tuple[list[int], Callable[[], list[bytes]]]]:
        """One call for each name, with the numbers of the ranges it answers."""
        of_name: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            of_name.setdefault(path, []).append(number)
        return [
            (
                numbers,
                functools.partial(self._ranges_of, path, [(starts[n], ends[n]) for n in numbers], max_gap, kwargs),
            )
            for path, numbers in of_name.items()
        ]

    def _ranges_of(
        self, path: str, wanted: list[tuple[int | None, int | None]], max_gap: int | None, kwargs: dict[str, Any]
    ) -> list[bytes]:
        name = self._strip(path)
        if len(wanted) == 1 or kwargs:
            return [self.cat_file(path, start, end, **kwargs) for start, end in wanted]
        reader = self._shared().reader(self._settings(name))
        for tries_left in reversed(range(TRIES)):
            opened = reader.open(name)
            if opened.size is None or not self._keeps_version(opened):
                break
            ranges = [_ranges.resolve(start, end, opened.size) for start, end in wanted]
            try:
                return _ranges.read_merged(ranges, max_gap, functools.partial(reader.read_ranges, opened))
            except OSError as problem:  # nothing was handed out yet, so once more, all of it under the new version
                if problem.errno != errno.ESTALE or not tries_left:
                    raise
        starts, ends = zip(*wanted, strict=True)
        return list(self.fs.cat_ranges([name] * len(wanted), list(starts), list(ends), on_error="raise"))

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **kwargs: Any
    ) -> None:
        """Copy one file to *lpath*, through pages; what is left of a failed copy is removed."""
        target = outfile if outfile is not None else lpath if isfilelike(lpath) else None
        if target is None and not kwargs:
            try:
                return self._copy_out(rpath, stringify_path(lpath), callback)
            except (FileNotFoundError, IsADirectoryError, PermissionError):
                if not self.isdir(rpath):
                    raise
                os.makedirs(lpath, exist_ok=True)
                return None
        if target is None:
            return self.fs.get_file(plain(rpath), lpath, callback=callback, **kwargs)  # type: ignore[no-any-return]  # fsspec ships no types
        with self.open(rpath, "rb", **kwargs) as file:
            _pour(file, target, callback)
        return None

    def _copy_out(self, rpath: str, lpath: str, callback: Any) -> None:
        with self.open(rpath, "rb") as file:
            os.makedirs(os.path.dirname(os.path.abspath(lpath)), exist_ok=True)
            with open(lpath, "wb") as out:
                try:
                    _pour(file, out, callback)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(lpath)
                    raise


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _tried(call: Callable[[], list[bytes]]) -> list[bytes] | Exception:
    try:
        return call()
    except Exception as problem:  # a value to the caller of cat_ranges, who asked for it by on_error
        return problem


def _in_order(done: list[tuple[list[int], Any]], count: int, on_error: str) -> list[Any]:
    results: list[Any] = [None] * count
    for numbers, got in done:
        if isinstance(got, Exception) and on_error != "return":
            raise got
        for place, number in enumerate(numbers):
            results[number] = got if isinstance(got, Exception) else got[place]
    return results


def _pour(file: Any, out: Any, callback: Any) -> None:
    """All of *file* into *out*, telling *callback*."""
    callback.set_size(getattr(file, "size", None))
    while data := file.read(COPY_BYTES):
        out.write(data)
        callback.relative_update(len(data))
