"""`Store.get_into`: the same answers and the same counts as `get`, into the caller's buffer."""

from __future__ import annotations

import os

import pytest

from cleancache.handle import Handle, Scope
from cleancache.store import Store

POOL, OBJECT = bytes(16), bytes(24)


@pytest.mark.parametrize("codec", ["lz4", "none", "zstd"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_V1_a_page_comes_into_the_buffer_as_it_was_put(codec: str, exclusive: bool) -> None:
    store = Store(2 << 20, codec=codec, exclusive=exclusive)
    pages = {number: (os.urandom(8) * 8192)[: 65536 - number] for number in range(40)}
    for number, data in pages.items():
        store.put(Handle(POOL, OBJECT, number), data)
    buffer = bytearray(65536)

    hits = 0
    for number, data in pages.items():
        length = store.get_into(Handle(POOL, OBJECT, number), memoryview(buffer))
        hits += length > 0
        is_same = length == 0 or bytes(buffer[:length]) == data
        assert is_same, number

    assert hits > 20
    stats = store.stats()
    assert (stats.gets, stats.hits) == (len(pages), hits)
    assert (stats.resident_pages == 0) is exclusive  # what an exclusive tier gives it does not keep
    store.close()


def test_V6_a_page_that_is_shared_too_long_damaged_or_flushed_is_never_given_in_part() -> None:
    store = Store(2 << 20)
    one, two = Handle(POOL, OBJECT, 1), Handle(POOL, OBJECT, 2)
    data = os.urandom(4096)
    store.put(one, data)
    store.put(two, data)
    buffer = bytearray(4096)

    assert store.get_into(two, memoryview(buffer)) == 4096
    assert bytes(buffer) == data
    assert store.get_into(one, memoryview(bytearray(100))) == 0
    at = store._core.find(one)
    assert at is not None
    store._core.view[at + 100] ^= 1
    assert store.get_into(one, memoryview(buffer)) == 0
    assert store.stats().misses["corrupt"] == 1
    store.flush(Scope(POOL))
    assert store.get_into(two, memoryview(buffer)) == 0
    assert store.get_into(Handle(b"", b"", -1), memoryview(buffer)) == 0
    stats = store.stats()
    assert stats.gets == stats.hits + sum(stats.misses.values())
    store.close()
    assert store.get_into(one, memoryview(buffer)) == 0
