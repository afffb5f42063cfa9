"""What the tests of reading share: a pool over a real Store, one over a dict, and a web server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cleancache.pool import Pool
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
