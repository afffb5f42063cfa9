"""Planted bugs in the simplest back end: the kit must notice each of them, within a second or two.

The same bugs in the real classes are in test_mutants_store.py and its neighbours; here the kit itself is on trial, so
that a stranger's back end is judged by a suite that can fail.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from random import Random

import pytest

from cleancache.backend import Backend, Buffer, Stats
from cleancache.handle import Handle, Scope
from cleancache.testing import Plan, Rig, Shelf, campaign, race, run_laws
from cleancache.testing.machine import run_machine


class StaleGets(Shelf):
    """B1: one get in fifty gives what the handle held before."""

    def __init__(self) -> None:
        super().__init__()
        self._old: dict[Handle, bytes] = {}
        self._random = Random(1)

    def put(self, handle: Handle, data: Buffer) -> bool:
        old = self._pages.get(handle)
        if old is not None:
            self._old[handle] = old
        return super().put(handle, data)

    def get(self, handle: Handle) -> bytes | None:
        page = super().get(handle)
        return self._old.get(handle, page) if page is not None and self._random.random() < 0.02 else page


class LostFlush(Shelf):
    """B2: one flush in five is not done."""

    def flush(self, scope: Scope) -> bool:
        if (sum(self._flushes.values()) + 1) % 5:
            return super().flush(scope)
        return super().flush(
            Scope(bytes(16), bytes(24) if scope.object else None, 0 if scope.page is not None else None)
        )


class MissedPage(Shelf):
    """B2: a flush of an object misses one of its pages."""

    def flush(self, scope: Scope) -> bool:
        kept = None
        if scope.kind == "object":
            kept = next((item for item in self._pages.items() if scope.covers(item[0])), None)
        answer = super().flush(scope)
        if kept is not None:
            self._pages[kept[0]] = kept[1]
            self._left["flushed"] -= 1
        return answer


class EarlyFlush(Shelf):
    """B3: flush returns before it is done."""

    def flush(self, scope: Scope) -> bool:
        def later() -> None:
            time.sleep(0.002)
            super(EarlyFlush, self).flush(scope)

        threading.Thread(target=later, name="cleancache-late", daemon=True).start()
        return True


class RefusalKeepsTheOldPage(Shelf):
    """B4: a refused put leaves the older copy."""

    def put(self, handle: Handle, data: Buffer) -> bool:
        old = self._pages.get(handle)
        if super().put(handle, data):
            return True
        if old is not None:
            self._pages[handle] = old
            self._left["dropped"] -= 1
        return False


class PublishedTooEarly(Shelf):
    """B8: the page can be got while it is being copied."""

    def put(self, handle: Handle, data: Buffer) -> bool:
        self._pages[handle] = bytes(memoryview(data)[: len(data) // 2])
        time.sleep(0)
        return super().put(handle, data)


class HalfPublished(Shelf):
    """B8: what is kept is the caller's own buffer."""

    def put(self, handle: Handle, data: Buffer) -> bool:
        answer = super().put(handle, data)
        if answer:
            self._pages[handle] = data  # type: ignore[assignment]  # the planted bug
        return answer


class WrongCount(Shelf):
    """B11: a replaced page is counted as a new one."""

    def stats(self) -> Stats:
        self._stored, self._replaced = self._stored + self._replaced, 0
        return super().stats()


class GetRaises(Shelf):
    """B19: a get of what is absent raises."""

    def get(self, handle: Handle) -> bytes | None:
        if handle not in self._pages:
            raise KeyError(handle)
        return super().get(handle)


class Padded(Shelf):
    """A short page comes back padded."""

    def get(self, handle: Handle) -> bytes | None:
        page = super().get(handle)
        return page if page is None else page.ljust(64, b"\0")


class Forgotten(Shelf):
    """An exit path that does not count."""

    def get(self, handle: Handle) -> bytes | None:
        page = super().get(handle)
        if page is None:
            self._misses["absent"] -= 1
        return page


class Resurrected(Shelf):
    """A page that missed comes back: get-get."""

    def get(self, handle: Handle) -> bytes | None:
        page = super().get(handle)
        if page is not None and self._gets % 5 == 0:
            self._hits -= 1
            self._misses["absent"] += 1
            return None
        return page


MUTANTS: list[Callable[[], Backend]] = [
    StaleGets,
    LostFlush,
    MissedPage,
    EarlyFlush,
    RefusalKeepsTheOldPage,
    PublishedTooEarly,
    HalfPublished,
    WrongCount,
    GetRaises,
    Padded,
    Forgotten,
    Resurrected,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_laws_notice(mutant: Callable[[], Backend]) -> None:
    with pytest.raises(AssertionError):
        run_laws(mutant, seconds=0.3)


SERIAL = [mutant for mutant in MUTANTS if mutant not in (PublishedTooEarly, HalfPublished)]


@pytest.mark.parametrize("mutant", SERIAL)
def test_the_campaign_notices(mutant: Callable[[], Backend]) -> None:
    with pytest.raises(AssertionError, match="CLEANCACHE_SEED=5"):
        campaign(mutant(), seed=5, steps=20_000, plan=Plan(max_page_bytes=1 << 20))


@pytest.mark.parametrize("mutant", [mutant for mutant in SERIAL if mutant not in (StaleGets, EarlyFlush)])
def test_the_machine_notices(mutant: Callable[[], Backend]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        run_machine(mutant, examples=100, steps=50, shrinks=False, max_page_bytes=1 << 20)


@pytest.mark.parametrize("mutant", [StaleGets, LostFlush, MissedPage, EarlyFlush, PublishedTooEarly, Resurrected])
def test_the_race_notices(mutant: Callable[[], Backend]) -> None:
    with pytest.raises(AssertionError, match="CLEANCACHE_SEED=5"):
        race(Rig(mutant()), seed=5, seconds=5, threads=4)
