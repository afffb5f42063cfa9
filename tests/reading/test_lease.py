"""The lease that stops torn fills of local files (§3.2; S2, S4)."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading

import pytest

from cleancache.errors import Changed
from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source.local import LocalSource
from tests.reading.aging import CONTENT, Wall
from tests.reading.sources import DictBackend


def test_S2_a_writer_that_has_the_file_open_refuses_the_lease(reader: Reader, path: str, backend: DictBackend) -> None:
    with open(path, "r+b"):
        assert reader.fetch(path) == CONTENT
        assert backend.pages == {}
        assert (reader.stats().unleased or 0) > 0

    assert reader.fetch(path) == CONTENT
    assert len(backend.pages) == 3


def test_S4_a_writable_mapping_refuses_the_lease(reader: Reader, path: str, backend: DictBackend) -> None:
    with open(path, "r+b") as file:
        view = mmap.mmap(file.fileno(), 0)
    try:
        assert reader.fetch(path) == CONTENT
        assert backend.pages == {}
    finally:
        view.close()


def test_the_lease_is_gone_after_the_read_and_costs_no_signal(source: LocalSource, path: str) -> None:
    """§3.2: held for one read; a writer that comes meanwhile waits for us, not the other way round."""
    version = source.version(path)
    reading, wrote = threading.Event(), threading.Event()

    def write() -> None:
        reading.wait(60)
        with open(path, "r+b") as file:
            file.write(b"x")
        wrote.set()

    thread = threading.Thread(target=write)
    thread.start()
    reading.set()
    while not wrote.is_set():
        try:
            fetched = source.read(path, version, 0, 100_000)
        except Changed:
            break
        assert fetched.data == CONTENT[:100_000] or not fetched.fit
    thread.join(60)
    assert wrote.is_set()


def test_lease_require_caches_nothing_without_one(path: str, wall: Wall, open_pool: Pool, backend: DictBackend) -> None:
    if os.geteuid() == 0:
        source = LocalSource(wall_ns=wall, lease="require")
        assert Reader(source, open_pool).fetch(path) == CONTENT
        assert len(backend.pages) == 3
        Reader(source, open_pool).flush(path)
        backend.pages.clear()

    class Refused(LocalSource):
        def _take_lease(self, fd: int) -> tuple[bool, bool]:
            return False, False  # as for another user's file

    reader = Reader(Refused(wall_ns=wall, lease="require"), open_pool)
    assert reader.fetch(path) == CONTENT
    assert backend.pages == {}
    assert (reader.stats().unleased or 0) > 0
    reader = Reader(Refused(wall_ns=wall, lease="auto"), open_pool)
    assert reader.fetch(path) == CONTENT
    assert len(backend.pages) == 3
    with pytest.raises(ValueError, match="auto, require or off"):
        LocalSource(lease="maybe")


def test_lease_off_asks_for_none(path: str, wall: Wall, open_pool: Pool, backend: DictBackend) -> None:
    reader = Reader(LocalSource(wall_ns=wall, lease="off"), open_pool)
    with open(path, "r+b"):
        assert reader.fetch(path) == CONTENT
    assert len(backend.pages) == 3
    assert reader.stats().unleased == 0


def test_the_lease_numbers_are_those_of_the_fcntl_module() -> None:
    from cleancache.source import local

    assert local.F_SETLEASE == fcntl.F_SETLEASE
    assert local.F_GETLEASE == fcntl.F_GETLEASE
    assert getattr(fcntl, "F_SETSIG", 10) == local.F_SETSIG
