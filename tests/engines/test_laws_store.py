"""The public suite, the state machine and the campaigns on `Store`: every codec, inclusive and exclusive, with and
without its thread, wide and narrow. What only a Store promises is in test_store_*.py."""

from __future__ import annotations

from typing import ClassVar

import pytest

from cleancache.backend import Backend
from cleancache.store import Store
from cleancache.testing import Laws, Plan, Rig, Switch, campaign, first_seed
from cleancache.testing.machine import run_machine

MIB = 1 << 20


def rig(store: Store) -> Rig:
    """A Store with what disturbs it: frozen, no room at all, a limit that moves, its background work."""
    ceiling = store.stats().ceiling_bytes or 0
    return Rig(
        store,
        switches={
            "frozen": Switch(store.freeze, store.thaw, refuses="frozen"),
            "no room": Switch(lambda: store.set_limit(0), lambda: store.set_limit(ceiling), refuses="full"),
        },
        pokes={
            "limit": lambda number: (
                (store.set_limit(ceiling // 2 + number % (ceiling // 2 + 1)), None)[1] if store.limit_bytes else None
            ),
            "settle": lambda _: store.settle(),
        },
    )


class TestStore(Laws):
    keeps = True
    switches = True

    def make(self) -> Rig:
        return rig(Store(16 * MIB))


class TestStoreWithoutCodec(Laws):
    keeps = True

    def make(self) -> Backend:
        return Store(16 * MIB, codec="none")


class TestStoreWithZstd(Laws):
    def make(self) -> Backend:
        return Store(2 * MIB, codec="zstd")


class TestSmallStore(Laws):
    steps: ClassVar[int] = 6000

    def make(self) -> Rig:
        return rig(Store(MIB, segment_bytes=20_480))


class TestSmallStoreWithItsThread(Laws):
    steps: ClassVar[int] = 6000

    def make(self) -> Rig:
        return rig(Store(MIB, segment_bytes=20_480, background=True))


class TestSmallExclusiveStore(Laws):
    exclusive = True

    def make(self) -> Backend:
        return Store(MIB, segment_bytes=20_480, exclusive=True, background=True)


def small() -> Rig:
    """Room for a few dozen pages only, so that compressing and evicting happen all the time."""
    return rig(Store(256 << 10, segment_bytes=12_288))


def test_V15_the_machine_agrees_with_the_store() -> None:
    run_machine(small, max_page_bytes=small().backend.max_page_bytes)  # type: ignore[attr-defined]  # it is a Store


def test_V15_the_machine_agrees_with_the_exclusive_store() -> None:
    run_machine(lambda: Store(256 << 10, segment_bytes=12_288, exclusive=True), takes=True)


@pytest.mark.parametrize("pages", [6, 60])
def test_V15_a_campaign_agrees_with_the_store(pages: int) -> None:
    plan = Plan(page_bytes=4096, pages=pages, objects=4, sums_every=7)
    assert campaign(small(), seed=first_seed(), steps=20_000, plan=plan) > 20_000
