"""Many of one thing: holders of equal contents, tiny objects. No time grows as a square, and all of it is charged."""

from __future__ import annotations

from cleancache.handle import Handle, Scope
from cleancache.store import Store
from cleancache.store.core import MOST_HOLDERS

POOL = bytes(16)


def test_V10_no_record_has_so_many_holders_that_dropping_them_holds_up_the_others() -> None:
    store = Store(16 << 20)
    handles = [Handle(POOL, bytes(24), page) for page in range(4 * MOST_HOLDERS)]
    for handle in handles:
        assert store.put(handle, b"zero" * 1024)

    assert len(store._core.shared) == 4
    assert all(len(shared.holders) <= MOST_HOLDERS for shared in store._core.shared.values())
    stats = store.stats()
    assert stats.logical_bytes == 4096 * len(handles)
    assert stats.unique_bytes == 4096 * 4
    assert all(store.get(handle) == b"zero" * 1024 for handle in handles)
    store.flush(Scope(POOL))
    assert store.stats().logical_bytes == store.stats().unique_bytes == store.stats().resident_pages == 0
    store.close()


def test_M1_a_million_tiny_objects_cannot_pass_the_limit() -> None:
    store = Store(2 << 20)
    for number in range(30_000):
        store.put(Handle(POOL, number.to_bytes(24, "big"), 0), b"%d" % number)

    stats = store.stats()
    assert stats.used_bytes is not None
    assert stats.limit_bytes is not None
    assert sum(stats.used_bytes.values()) <= stats.limit_bytes
    assert (
        stats.used_bytes["index"] > stats.used_bytes["pages"]
    )  # what they cost is mostly their names, and it is charged
    store.close()
