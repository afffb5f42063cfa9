"""What the tests of reading share: a pool over a real Store, one over a dict, and a web server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source.local import LocalSource
from cleancache.source.stamp import stamp_of
from tests.conftest import cannot
from tests.reading.aging import CONTENT, Wall
from tests.reading.sources import DictBackend
from tests.servers import FileServer


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A private pool in a Store of 32 MiB."""
    from cleancache.store import Store

    store = Store(32 << 20, background=False)
    pool = Pool(store)
    yield pool
    pool.close()
    store.close()


@pytest.fixture
def backend() -> DictBackend:
    """A back end that can be looked into."""
    return DictBackend()


@pytest.fixture
def open_pool(backend: DictBackend) -> Iterator[Pool]:
    """A pool whose pages the test can see."""
    pool = Pool(backend)
    yield pool
    pool.close()


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A web server that does as it is told."""
    with FileServer() as server:
        yield server


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def source(wall: Wall) -> LocalSource:
    return LocalSource(wall_ns=wall)


@pytest.fixture
def reader(source: LocalSource, open_pool: Pool) -> Reader:
    return Reader(source, open_pool, readahead=0)


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    with open(file, "rb") as opened:
        if stamp_of(opened.fileno()).is_ram:
            cannot("the temporary directory is on a RAM file system, which is never cached")
    return str(file)
