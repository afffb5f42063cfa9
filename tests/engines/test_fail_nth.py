"""The n-th call of each site fails, n = 1, 2, 3 …: a put is refused or a get misses, bytes are right, the books exact,
no lock is kept (M13, X12). The sites are the allocations, reservations and codecs that a Store uses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from lz4.block import LZ4BlockError

from cleancache import codec as codecs
from cleancache.guard import Guard
from cleancache.handle import Handle, Scope
from cleancache.store import Store
from cleancache.store.arena import Arena
from cleancache.testing import check_sums, contents
from cleancache.testing.faults import each_nth, nth

# the guard reports the first failure of its tier
pytestmark = pytest.mark.expects_logs

POOL, PAGE = b"fail-nth" * 2, 3000


def scenario(codec: str) -> None:
    """Fill, compress, evict, read, flush, shrink; whatever fails, only pages may be missing."""
    store = Store(256 << 10, segment_bytes=12_288, codec=codec)
    guard = Guard(store, deadline_s=None)
    try:
        kept = {}
        for number in range(150):
            handle = Handle(POOL, bytes(24), number % 90)
            data = contents(handle, number, PAGE)
            kept[handle] = data if guard.put(handle, data) else None
            again = Handle(POOL, bytes(24), number * 7 % 90)
            got = guard.get(again)
            assert got is None or got == kept.get(again), "a failure gave other bytes"
            check_sums(store.stats())
        store.set_limit(128 << 10)
        check_sums(store.stats())
        guard.flush(Scope(POOL))
        for handle in kept:
            assert guard.get(handle) is None, "a flushed page was given after a failure"
        check_sums(store.stats())
        check_sums(guard.stats(), is_holder=False)
        _no_lock_is_kept(store)
    finally:
        guard.close()


def _no_lock_is_kept(store: Store) -> None:
    answers: list[Any] = []
    other = threading.Thread(target=lambda: answers.append(store.stats()), name="other")
    other.start()
    other.join(60)
    assert answers, "M13: a lock was kept by a call that failed"


SITES: list[tuple[str, Any, str, Callable[[], Any], str]] = [
    ("reserving the arena", Arena, "__init__", lambda: OSError(12, "no address space"), "lz4"),
    ("reserving the arena, no memory", Arena, "__init__", MemoryError, "lz4"),
    ("compressing", codecs, "_lz4_compress", MemoryError, "lz4"),
    ("decompressing", codecs, "_lz4_decompress", lambda: LZ4BlockError("bad"), "lz4"),
    ("decompressing, no memory", codecs, "_lz4_decompress", MemoryError, "lz4"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "owner", "site", "error", "codec"), SITES, ids=[site[0] for site in SITES])
def test_M13_X12_A5_the_nth_call_of_a_site_fails(
    name: str, owner: Any, site: str, error: Callable[[], Any], codec: str
) -> None:
    assert each_nth(lambda: scenario(codec), owner, site, error, most=400, stride=17) >= 1


def test_M13_a_store_whose_reservation_is_refused_refuses_puts_and_recovers() -> None:
    store = Store(1 << 20)
    handle = Handle(POOL, bytes(24), 0)

    with nth(Arena, "__init__", 1, lambda: OSError(12, "no address space")) as fault:
        assert store.put(handle, b"page") is False
    assert fault.fired == 1
    assert sum(store.stats().refused.values()) == store.stats().refused["full"] == 1
    check_sums(store.stats())

    assert store.put(handle, b"page")
    assert store.get(handle) == b"page"
    store.close()


# two failures: what does not verify is looked at a second time, under the lock, where nothing moves
def test_X20_a_page_that_does_not_decompress_is_a_miss_and_counted() -> None:
    store = Store(256 << 10, segment_bytes=12_288)
    handles = [Handle(POOL, bytes(24), number) for number in range(120)]
    for handle in handles:
        store.put(handle, contents(handle, 1, PAGE))

    with nth(codecs, "_lz4_decompress", 1, lambda: LZ4BlockError("bad"), times=2) as fault:
        got = [store.get(handle) for handle in handles]

    assert fault.fired == 2, "no page was compressed"
    assert store.stats().misses.get("corrupt") == 1
    assert all(page is None or page == contents(handle, 1, PAGE) for handle, page in zip(handles, got, strict=True))
    check_sums(store.stats())
    store.close()


def test_D5_a_page_that_decompresses_too_short_is_a_miss() -> None:
    store = Store(256 << 10, segment_bytes=12_288)
    handles = [Handle(POOL, bytes(24), number) for number in range(120)]
    for handle in handles:
        store.put(handle, contents(handle, 1, PAGE))

    with nth(codecs, "_lz4_decompress", 1, lambda: b"short", times=2) as fault:
        for handle in handles:
            assert store.get(handle) in (None, contents(handle, 1, PAGE))

    assert fault.fired == 2, "no page was compressed"
    assert store.stats().misses.get("corrupt") == 1
    store.close()
