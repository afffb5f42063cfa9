"""Sources whose version is weak (a real SFTP server) or missing (fsspec's memory and zip), and what the stores
without a server here say."""

from __future__ import annotations

import os
import random
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source import NONE, STRONG, WEAK, abfs, gcs, source_for
from cleancache.source.base import fingerprint, token
from cleancache.source.plain import PlainSource
from tests.reading.sftp import SftpServer
from tests.reading.sources import DictBackend

OLD = random.Random(5).randbytes(150_000)
NEW = random.Random(6).randbytes(150_000)


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "a").write_bytes(OLD)
    os.utime(tmp_path / "a", (1_000_000, 1_000_000))
    with SftpServer(tmp_path) as server:
        fs = fsspec.filesystem(
            "sftp", host="127.0.0.1", port=server.port, username="u", password="p", skip_instance_cache=True,
            look_for_keys=False, allow_agent=False,
        )  # fmt: skip
        yield fs
        fs.client.close()


def test_S28_a_weak_version_is_off_unless_asked_for(sftp: Any, open_pool: Pool, backend: DictBackend) -> None:
    reader = Reader(source_for(sftp), open_pool, readahead=0)

    assert reader.fetch("/a") == reader.fetch("/a") == OLD
    assert reader.open("/a").version.strength == WEAK
    assert reader.stats().unversioned == 3
    assert backend.pages == {}


def test_S28_with_max_stale_it_is_cached_by_size_and_stamp(
    sftp: Any, open_pool: Pool, backend: DictBackend, tmp_path: Path
) -> None:
    now = [0.0]
    reader = Reader(source_for(sftp), open_pool, readahead=0, max_stale=30.0, clock=lambda: now[0])
    assert reader.fetch("/a") == OLD
    assert len(backend.pages) == 3
    (tmp_path / "a").write_bytes(NEW)

    assert reader.fetch("/a", 0, 100) == OLD[:100]  # as old as the user allowed
    now[0] += 31
    assert reader.fetch("/a") == NEW


def test_S28_a_young_stamp_is_read_but_not_put(
    tmp_path: Path, sftp: Any, open_pool: Pool, backend: DictBackend
) -> None:
    now = [0.0]
    (tmp_path / "b").write_bytes(OLD)
    reader = Reader(PlainSource(sftp, clock=lambda: now[0]), open_pool, readahead=0, max_stale=30.0)
    assert reader.fetch("/b") == OLD
    assert backend.pages == {}

    now[0] += 2.1  # seen twice, two seconds apart on our clock

    assert reader.fetch("/b") == OLD
    assert len(backend.pages) == 3


def test_X33_errors_are_those_of_the_file_system(sftp: Any, open_pool: Pool) -> None:
    with pytest.raises(FileNotFoundError):
        Reader(source_for(sftp), open_pool).fetch("/absent")


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory", skip_instance_cache=True)
    fs.store.clear()
    fs.pipe_file("/a", OLD)
    yield fs
    fs.store.clear()


def test_F7_memory_has_no_version_and_is_not_cached(memory: Any, open_pool: Pool, backend: DictBackend) -> None:
    reader = Reader(source_for(memory), open_pool)
    opened = reader.open("/a")
    assert opened.version.strength == NONE

    for content in (OLD, NEW, NEW + b"longer", b"short"):
        memory.pipe_file("/a", content)
        assert reader.fetch("/a") == content
        assert reader.fetch("/a", 1, 3) == content[1:3]
        assert reader.fetch("/a", -3, None) == content[-3:]
        assert reader.fetch("/a", 0, 10**7) == content
        assert reader.fetch_ranges("/a", [(0, 2), (-2, None)]) == [content[:2], content[-2:]]
    assert reader.read(opened, 0, 100) == b"short"
    assert backend.pages == {}


def test_immutable_caches_what_has_no_version(memory: Any, open_pool: Pool, backend: DictBackend) -> None:
    reader = Reader(source_for(memory), open_pool, immutable=True)

    assert reader.fetch("/a") == OLD
    assert len(backend.pages) == 3
    memory.pipe_file("/a", NEW)
    assert reader.fetch("/a") == OLD  # the user's word
    assert reader.flush("/a")
    assert reader.fetch("/a") == NEW


def test_archives_have_no_version(tmp_path: Path, open_pool: Pool) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a", OLD)
    fs = fsspec.filesystem("zip", fo=str(tmp_path / "z.zip"), skip_instance_cache=True)
    reader = Reader(source_for(fs), open_pool)

    assert reader.fetch("a", 5, 10) == OLD[5:10]
    assert not reader.open("a").is_cached
    fs.close()


def test_directories_are_refused(memory: Any, open_pool: Pool) -> None:
    memory.mkdir("/d")
    with pytest.raises(IsADirectoryError):
        Reader(source_for(memory), open_pool).open("/d")


def test_a_generation_is_the_version_of_google_cloud_storage() -> None:
    """No server here: what becomes of gcsfs's answers."""
    one, two = ({"size": 3, "generation": str(number), "etag": "same"} for number in (1, 2))

    assert gcs.version_of(one).strength == STRONG
    assert gcs.version_of(one).token != gcs.version_of(two).token
    assert gcs.version_of({"size": 3}).strength == NONE


def test_a_version_id_else_the_etag_is_the_version_of_azure() -> None:
    """No server here: what becomes of adlfs's answers."""
    assert (
        abfs.version_of({"size": 3, "version_id": "1", "etag": "x"}).token
        == abfs.version_of({"size": 3, "version_id": "1", "etag": "y"}).token
    )
    assert abfs.version_of({"size": 3, "etag": "x"}).token != abfs.version_of({"size": 3, "etag": "y"}).token
    assert abfs.version_of({"size": 3, "etag": 'W/"x"'}).strength == WEAK
    assert abfs.version_of({"size": 3}).strength == NONE


def test_P12_options_that_say_nothing_about_the_bytes_do_not_change_the_identity() -> None:
    base = fingerprint("x", [("host", "h"), ("token", "t")])

    assert fingerprint("x", [("token", "t"), ("host", "h"), ("asynchronous", True), ("block_size", 5)]) == base
    assert fingerprint("x", [("host", "h"), ("token", "u")]) != base
    assert fingerprint("x", [("opts", {"b": 1, "a": 2})]) == fingerprint("x", [("opts", {"a": 2, "b": 1})])


def test_tokens_of_different_parts_differ() -> None:
    assert token("a", "bc") != token("ab", "c")
    assert token(datetime(2026, 1, 1, tzinfo=UTC)) != token(datetime(2026, 1, 2, tzinfo=UTC))
