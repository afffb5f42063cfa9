"""Random campaigns for as long as `CLEANCACHE_SOAK_S` says (`make soak MINUTES=n`), with fresh seeds.

A failure names its seed, and `CLEANCACHE_SEED` starts there. Four of them share the time, as two workers do. Law V15.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from cleancache.store import Store
from cleancache.testing import Plan, Rig, campaign, first_seed, race, soak_s
from cleancache.testing.laws import OTHER_POOL, POOL
from cleancache.testing.machine import run_machine
from tests.engines.test_laws_binding import guard_rig, pool_rig, slot_rig
from tests.engines.test_laws_store import rig as store_rig

pytestmark = [pytest.mark.soak, pytest.mark.expects_logs]

SHARE_S = soak_s(4) / 2


def small() -> Rig:
    """A Store with its thread that is always full."""
    return store_rig(Store(512 << 10, segment_bytes=16_384, background=True))


def wide() -> Rig:
    """A Store that makes its own room."""
    return store_rig(Store(4 << 20, segment_bytes=65_536, codec="zstd"))


RIGS: dict[str, tuple[Callable[[], Rig], Plan]] = {
    "small": (small, Plan(page_bytes=3000, pages=30, sums_every=11)),
    "wide": (wide, Plan(page_bytes=9000, pages=200, sums_every=11)),
    "guard": (guard_rig, Plan(weights=(40, 1, 40, 6, 3, 1, 4, 4), sums_every=11)),
    "slot": (slot_rig, Plan(pools=(POOL, OTHER_POOL), weights=(40, 1, 40, 6, 3, 1, 4, 4), sums_every=11)),
    "pool": (pool_rig, Plan(pools=(POOL,), weights=(40, 1, 40, 6, 3, 1, 4, 4), sums_every=11)),
}


def test_V15_campaigns() -> None:
    end, seeds = time.monotonic() + SHARE_S, itertools.count(first_seed())
    for name in itertools.cycle(RIGS):
        make, plan = RIGS[name]
        rig = make()
        campaign(rig, seed=next(seeds), steps=20_000, plan=plan)
        rig.close()
        if time.monotonic() > end:
            return


def test_V15_races_of_a_store() -> None:
    rig = small()
    race(rig, seed=first_seed(), seconds=SHARE_S, threads=8, plan=Plan(page_bytes=3000, pages=20))
    rig.close()


def test_V15_races_of_all_of_them() -> None:
    end, seeds = time.monotonic() + SHARE_S, itertools.count(first_seed())
    for name in itertools.cycle(RIGS):
        make, plan = RIGS[name]
        rig = make()
        race(rig, seed=next(seeds), seconds=min(5.0, SHARE_S), threads=1 + next(seeds) % 8, plan=plan)
        rig.close()
        if time.monotonic() > end:
            return


def test_V15_machines() -> None:
    end = time.monotonic() + SHARE_S
    for name in itertools.cycle(RIGS):
        run_machine(RIGS[name][0], pools=RIGS[name][1].pools, examples=50, steps=100)
        if time.monotonic() > end:
            return
