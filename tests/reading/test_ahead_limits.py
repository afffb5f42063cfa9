"""How far ahead many readers of a small pool may read: together a part of what the pool may hold."""

from __future__ import annotations

from cleancache.handle import private_pool
from cleancache.pool import Pool
from cleancache.reader.ahead import SHARE, Windows
from cleancache.reader.opened import Opened
from cleancache.source import Version
from cleancache.store import Store
from cleancache.testing import FakeClock

PAGE = 65536


def opened(number: int) -> Opened:
    version = Version(token=b"v", size=1 << 30, strength="strong", why="", details={})
    return Opened(f"file{number}", version, bytes(24), is_cached=True, why="")


def test_M1_what_is_read_ahead_of_all_readers_is_a_part_of_the_limit() -> None:
    clock = FakeClock()
    store = Store(64 << 20)
    windows = Windows(Pool(store, private_pool()), PAGE, 64, clock)
    readers = [opened(number) for number in range(16)]

    assert windows.most() == 64
    for reader in readers:
        windows.begin(reader)
        reader.window_pages = 1
    each = windows.most()
    assert each * PAGE * len(readers) <= (64 << 20) // SHARE

    for reader in readers[1:]:
        windows.end(reader)
    assert windows.most() == 64
    store.set_limit(8 << 20)
    clock.advance(2.0)
    assert windows.most() * PAGE <= (8 << 20) // SHARE
    store.set_limit(0)
    clock.advance(2.0)
    assert windows.most() == 0
    store.close()
