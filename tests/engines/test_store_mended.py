"""A change of a Store that ends in the middle: the next verb begins with nothing, and the sums hold (M13, X30, A5)."""

from __future__ import annotations

import random
import sys
from types import FrameType
from typing import Any

import pytest

from cleancache.handle import Handle, Scope
from cleancache.store import Store

FILES = (
    "store/puts.py",
    "store/core.py",
    "store/books.py",
    "store/index.py",
    "store/reclaim.py",
    "cleancache/ledger.py",
)
POOL = bytes(16)


class Interrupt(BaseException):
    """Comes from outside, as KeyboardInterrupt does."""


def interrupted_at(number: int) -> Any:
    """A trace function that raises at the line of this *number* in the Store's files, once."""
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Interrupt
        return trace

    return trace


def busy(store: Store, rng: random.Random) -> None:
    """Puts, replacements, duplicates and flushes, with room running out."""
    for number in range(40):
        handle = Handle(POOL, bytes([number % 3]) * 24, rng.randrange(30))
        store.put(handle, rng.choice([b"same" * 1024, rng.randbytes(4096), b"x" * rng.randrange(1, 4096)]))
        if number % 13 == 0:
            store.flush(Scope(POOL, bytes([number % 3]) * 24))


@pytest.mark.parametrize("start", range(6))
def test_M13_X30_an_interrupt_at_any_line_of_a_change_leaves_a_store_that_works(start: int) -> None:
    before = sys.gettrace()
    for number in range(start * 7, 6000, 173):
        store = Store(256 << 10)
        rng = random.Random(number)
        busy(store, rng)
        sys.settrace(interrupted_at(number))
        try:
            busy(store, rng)
        except Interrupt:
            pass
        finally:
            sys.settrace(before)

        handle = Handle(POOL, b"n" * 24, 7)
        assert store.put(handle, b"new"), f"line {number}: a put is refused: {store.stats().refused}"
        assert store.get(handle) == b"new"
        busy(store, rng)
        stats = store.stats()
        assert stats.left is not None
        assert stats.used_bytes is not None
        assert stats.charged_bytes is not None
        assert stats.limit_bytes is not None
        assert stats.stored - sum(stats.left.values()) == stats.resident_pages, f"R3 at line {number}"
        assert sum(stats.used_bytes.values()) == sum(stats.charged_bytes.values()) <= stats.limit_bytes, (
            f"R4 at {number}"
        )
        assert abs(stats.puts - stats.stored - stats.replaced - sum(stats.refused.values())) <= 1, (
            f"R2 at line {number}"
        )
        store.flush(Scope(POOL))
        assert store.stats().resident_pages == store.stats().logical_bytes == store.stats().unique_bytes == 0
        store.close()
