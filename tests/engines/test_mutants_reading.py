"""Planted bugs in what decides about freshness: B14, B15, B21, B22. Each check passes on the real source first.

The sources' own tests are in tests/reading; here a source is made wrong in one way, and the reader over it must be
seen to give old or blended bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source import Fetched, Version, source_for
from cleancache.source import http as http_module
from cleancache.source import local as local_module
from cleancache.source.base import token
from cleancache.source.local import LocalSource
from cleancache.source.stamp import Stamp, stamp_of
from cleancache.testing import Shelf
from tests.conftest import cannot
from tests.servers import FileServer, http_file_system

OLD, NEW = os.urandom(150_000), os.urandom(150_000)
GRAIN_NS = 200_000_000  # coarser than any file system's, and less than the age that is trusted
LATER_NS = 3_000_000_000


def same(one: bytes, other: bytes) -> bool:
    """Whether they are equal, without the comparison that pytest would print of long bytes, which takes minutes."""
    return one == other


def reading(source: Any) -> Reader:
    """A Reader over *source* and a pool of its own."""
    return Reader(source, Pool(Shelf()), readahead=0)


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "file"
    file.write_bytes(OLD)
    with open(file, "rb") as opened:
        if stamp_of(opened.fileno()).is_ram:
            cannot("the temporary directory is on a RAM file system, which is never cached")
    return str(file)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"/a": OLD}) as server:
        yield server


def rewritten(path: str) -> None:
    """In place, of equal size, and the time of the last change set back to what it was."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.write(NEW)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def check_mtime_set_back(path: str) -> None:
    """S5: a change whose mtime was set back is seen."""
    os.utime(path, ns=(0, 10**18))
    ahead = LATER_NS
    reader = reading(LocalSource(wall_ns=lambda: time.time_ns() + ahead))
    assert same(reader.fetch(path), OLD)

    rewritten(path)

    assert same(reader.fetch(path), NEW), "S5: old bytes after a rewrite with its mtime set back"


def test_B14_a_version_without_ctime_is_noticed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_mtime_set_back(path)
    Path(path).write_bytes(OLD)

    def without_ctime(fd: int) -> Stamp:
        stamp = stamp_of(fd)
        return stamp._replace(token=token("local", stamp.inode, stamp.size, stamp.mtime_ns), ctime_ns=0)

    monkeypatch.setattr(local_module, "stamp_of", without_ctime)
    with pytest.raises(AssertionError, match="S5"):
        check_mtime_set_back(path)


def check_rewrite_in_one_grain(path: str) -> None:
    """S1, F2: of two writes inside one grain of the clock the second one is seen."""
    for turn in range(20):
        content = bytes([turn]) * 1000
        with open(path, "r+b") as file:
            file.write(content)
        reader = reading(LocalSource())
        assert same(reader.fetch(path, 0, 1000), content)
        with open(path, "r+b") as file:
            file.write(NEW[:1000])

        assert same(reader.fetch(path, 0, 1000), NEW[:1000]), "S1: old bytes after a rewrite inside the clock's grain"


def test_B15_a_young_file_that_is_trusted_is_noticed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def coarse(fd: int) -> Stamp:
        stamp = stamp_of(fd)
        mtime, ctime = stamp.mtime_ns // GRAIN_NS * GRAIN_NS, stamp.ctime_ns // GRAIN_NS * GRAIN_NS
        return stamp._replace(
            token=token("local", stamp.inode, stamp.size, mtime, ctime), mtime_ns=mtime, ctime_ns=ctime
        )

    monkeypatch.setattr(local_module, "stamp_of", coarse)  # a kernel with a coarse clock, such as 6.1
    check_rewrite_in_one_grain(path)

    monkeypatch.setattr(local_module, "YOUNG_NS", 0)
    with pytest.raises(AssertionError, match="S1"):
        check_rewrite_in_one_grain(path)


def check_change_between_pages(server: FileServer) -> None:
    """F4, X36: an object that changes while it is open is never blended."""
    server.objects["/a"] = OLD
    reader = reading(source_for(http_file_system()))
    opened = reader.open(server.url("/a"))
    assert same(reader.read(opened, 0, 1000), OLD[:1000])

    server.objects["/a"] = NEW
    try:
        second = reader.read(opened, 70_000, 1000)
    except OSError:
        return  # ESTALE: the version that was opened can no longer be read
    assert same(second, OLD[70_000:71_000]), "F4: two versions in one open file"


def test_B21_a_read_without_a_condition_is_noticed(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    check_change_between_pages(server)
    real = http_module.HttpSource._request

    def unconditional(self: Any, session: Any, method: str, name: str, headers: dict[str, str]) -> Any:
        return real(self, session, method, name, {key: text for key, text in headers.items() if key != "If-Match"})

    monkeypatch.setattr(http_module.HttpSource, "_request", unconditional)
    check_change_between_pages(server)  # the answer is still checked: two locks on one door
    monkeypatch.setattr(http_module, "_is_same", lambda found, asked: True)
    with pytest.raises(AssertionError, match="F4"):
        check_change_between_pages(server)


class FromTheListing:
    """B22: the version comes from a listing that was remembered."""

    def __init__(self, source: Any) -> None:
        self.identity: str = source.identity
        self.is_near: bool = source.is_near
        self._source = source
        self._listing: dict[str, Version] = {}

    def version(self, name: str) -> Version:
        if name not in self._listing:
            self._listing[name] = self._source.version(name)
        return self._listing[name]

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        fetched: Fetched = self._source.read(name, version, offset, size)
        return fetched

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        return None


def check_change_between_opens(server: FileServer, wrap: Callable[[Any], Any]) -> None:
    """F5, S26: the version is asked at every open."""
    server.objects["/a"] = OLD
    reader = reading(wrap(source_for(http_file_system())))
    assert same(reader.fetch(server.url("/a"), 0, 1000), OLD[:1000])

    server.objects["/a"] = NEW

    assert same(reader.fetch(server.url("/a"), 0, 1000), NEW[:1000]), "F5: old bytes at a new open"


def test_B22_a_version_from_the_listing_is_noticed(server: FileServer) -> None:
    check_change_between_opens(server, lambda source: source)

    with pytest.raises(AssertionError, match="F5"):
        check_change_between_opens(server, FromTheListing)
