"""Things that are small and many: what they cost beside their bytes counts too."""

from __future__ import annotations

import gc
import tracemalloc

from cleancache.handle import Handle, Scope, private_pool
from cleancache.reader.raw import RawPages
from cleancache.store import Store


def test_M1_X23_tiny_raw_pages_are_not_free() -> None:
    """A table of a MiB of pages of one byte had a million entries, and 290 MiB."""
    gc.collect()
    tracemalloc.start()
    table = RawPages(100_000)
    for number in range(3000):
        table.keep((bytes(16), number.to_bytes(24, "little"), 0), b"x", 0)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < 110_000
    assert table.used_bytes <= 100_000


def test_M10_M1_pools_that_came_and_went_leave_no_account() -> None:
    store = Store(4 << 20)
    for _ in range(200):
        pool = private_pool()
        store.put(Handle(pool, bytes(24), 0), b"page")
        store.flush(Scope(pool))
    accounts = len(store._core.ledger.charges)
    store.close()

    assert accounts == 1, "only the Store's own is left"
