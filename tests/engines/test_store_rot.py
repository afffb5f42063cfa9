"""Bits that flip in the arena while pages come and go: right bytes or a miss, and books that stay exact (C10, X20)."""

from __future__ import annotations

import os
import random

import pytest

from cleancache.handle import Handle, Scope
from cleancache.store import Evicted, Store

WORDS = [os.urandom(8) for _ in range(100)]


def contents(rng: random.Random) -> bytes:
    if rng.random() < 0.6:
        return b"".join(rng.choices(WORDS, k=600))
    return rng.randbytes(rng.choice([100, 4096, 9000]))


@pytest.mark.parametrize("seed", range(6))
def test_X20_bits_that_flip_before_a_reclaim_lose_pages_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    spilled: list[Evicted] = []

    def spill(evicted: Evicted) -> bool:
        spilled.append(evicted)
        return False

    store = Store(4 << 20, spill=spill if seed % 2 else None)
    held: dict[Handle, bytes] = {}
    seen: set[bytes] = set()
    handles = [Handle(bytes([rng.randrange(3)]) * 16, bytes([number % 5]) * 24, number) for number in range(400)]

    for _ in range(4000):
        handle, dice = rng.choice(handles), rng.random()
        if dice < 0.4:
            data = contents(rng)
            seen.add(data)
            if store.put(handle, data):
                held[handle] = data
            else:
                held.pop(handle, None)
        elif dice < 0.8:
            assert store.get(handle) in (None, held.get(handle)), f"seed {seed}"
        elif dice < 0.83:
            scope = Scope(handle.pool, handle.object)
            store.flush(scope)
            held = {other: data for other, data in held.items() if not scope.covers(other)}
        elif dice < 0.9:
            at = store._core.find(handle)
            if at is not None:
                store._core.view[at + rng.randrange(72 if rng.random() < 0.7 else 200)] ^= 1 << rng.randrange(8)
        elif dice < 0.91:
            store.set_limit(rng.randrange(1 << 20, 4 << 20))
        stats = store.stats()
        assert stats.used_bytes is not None
        assert stats.charged_bytes is not None
        assert stats.limit_bytes is not None
        assert stats.left is not None
        assert sum(stats.used_bytes.values()) == sum(stats.charged_bytes.values()) <= stats.limit_bytes
        assert stats.stored - sum(stats.left.values()) == stats.resident_pages

    assert store.stats().misses["corrupt"] > 0
    assert (store.stats().left or {})["corrupt"] > 0
    for evicted in spilled:  # what a lower tier is offered is right, too
        if evicted.codec == 0:
            assert evicted.stored in seen, f"seed {seed}: a damaged page was offered to the next tier"
    store.close()
