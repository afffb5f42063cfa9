"""Planted bugs in the real classes: each must be caught by the laws, the campaign, the race, or a proof of the Store.

A mutant is the class itself with one thing changed. If a change of the product makes a mutant impossible, plant the bug
anew where it could now be made; a mutant that nobody catches is a hole in the suite.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from cleancache.backend import Buffer, Stats
from cleancache.codec import HEADER, HEADER_BYTES
from cleancache.guard import Guard
from cleancache.handle import Handle, Scope
from cleancache.pool import Pool
from cleancache.store import Store
from cleancache.store.core import Core
from cleancache.testing import FakeClock, Flaky, Plan, Rig, Shelf, Switch, campaign, race, run_laws
from tests.engines.store_proofs import PROOFS, SEGMENT

pytestmark = pytest.mark.expects_logs
MIB = 1 << 20


def changed(name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> type[Store]:
    """A Store whose core has one method made from the right one."""

    class Mutant(Store):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            setattr(self._core, name, make(getattr(self._core, name)))

    return Mutant


class StaleGets(Store):
    """B1: one get in fifty gives what the handle held before."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._old: dict[Handle, bytes] = {}
        self._random = Random(1)

    def put(self, handle: Handle, data: Buffer) -> bool:
        old = Store.get(self, handle)
        if old is not None:
            self._old[handle] = old
        return super().put(handle, data)

    def get(self, handle: Handle) -> bytes | None:
        got = super().get(handle)
        return self._old.get(handle, got) if got is not None and self._random.random() < 0.02 else got


class LostFlush(Store):
    """B2: one flush in twenty is not done."""

    _calls = 0

    def flush(self, scope: Scope) -> bool:
        self._calls += 1
        if self._calls % 20:
            return super().flush(scope)
        return super().flush(Scope(bytes(16), scope.object, scope.page))


class MissedPage(Store):
    """B2: a flush of an object misses its last page."""

    def _pages(self, scope: Scope) -> list[tuple[Handle, int]]:
        found = super()._pages(scope)
        return found[:-1] if scope.kind == "object" else found


class EarlyFlush(Store):
    """B3: flush returns before it is done."""

    def flush(self, scope: Scope) -> bool:
        def later() -> None:
            time.sleep(0.002)
            super(EarlyFlush, self).flush(scope)

        threading.Thread(target=later, name="cleancache-late", daemon=True).start()
        return True


class RefusalKeepsTheOldPage(Store):
    """B4: a refused put leaves the older copy."""

    def _refuse_here(self, handle: Handle, reason: str) -> bool:
        core = self._core
        core.refused[reason] = core.refused.get(reason, 0) + 1
        return False


class PublishedTooEarly(Store):
    """B8: a page can be got while its second half is still to come; the checksum is made for what is there."""

    def put(self, handle: Handle, data: Buffer) -> bool:
        if len(data) > 1:
            super().put(handle, bytes(data)[: len(data) // 2])
            time.sleep(0)
        return super().put(handle, data)


class GetRaises(Store):
    """B19: a get of what is absent raises."""

    def get(self, handle: Handle) -> bytes | None:
        got = super().get(handle)
        if got is None:
            raise KeyError(handle)
        return got


def _read_unchecked(real: Callable[..., Any]) -> Callable[..., Any]:
    core: Core = real.__self__  # type: ignore[attr-defined]  # a bound method

    def read(at: int, name: bytes, page: int) -> bytes | None:
        got = real(at, name, page)
        if got is None:
            size = core.locate(at)[2]
            return bytes(core.view[at + HEADER_BYTES : at + size])
        return bytes(got)

    return read


def _read_whoever(real: Callable[..., Any]) -> Callable[..., Any]:
    core: Core = real.__self__  # type: ignore[attr-defined]  # a bound method

    def read(at: int, name: bytes, page: int) -> Any:
        found = HEADER.unpack_from(core.view, at)
        return real(at, found[3], found[4])

    return read


def _release_less(real: Callable[..., Any]) -> Callable[..., Any]:
    core: Core = real.__self__  # type: ignore[attr-defined]  # a bound method

    def release(at: int, owner: str) -> None:
        real(at, owner)
        core.ledger.charge(owner, HEADER_BYTES)

    return release


class OverTheLimit(Store):
    """B12: more is used than the limit says."""

    def __init__(self, limit_bytes: int, **kwargs: Any) -> None:
        segment_bytes = kwargs.get("segment_bytes") or SEGMENT
        super().__init__(limit_bytes + 2 * segment_bytes, **kwargs)
        self._over = 2 * segment_bytes

    def stats(self) -> Stats:
        stats = super().stats()
        limit, ceiling = stats.limit_bytes or 0, stats.ceiling_bytes or 0
        return replace(stats, limit_bytes=max(0, limit - self._over), ceiling_bytes=ceiling - self._over)


class NotCompared(Store):
    """B13: contents are taken to be equal when eight bits of their digest and their lengths are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        core = self._core
        append: Callable[..., int | None] = core.append
        remember, twin, read = core.remember, core.twin, core.read

        def append_short(*given: Any, **named: Any) -> int | None:
            return append(*given[:4], given[4] & 0xFF, *given[5:], **named)

        def twin_unseen(tag: int, data: Buffer, domain: str) -> int | None:
            core.read = lambda *_: bytes(data)  # type: ignore[method-assign]  # the planted bug
            try:
                return twin(tag & 0xFF, data, domain)
            finally:
                core.read = read  # type: ignore[method-assign]  # the planted bug

        core.append = append_short  # type: ignore[method-assign]  # the planted bug
        core.remember = lambda tag, at: remember(tag & 0xFF, at)  # type: ignore[method-assign]  # the planted bug
        core.twin = twin_unseen  # type: ignore[method-assign]  # the planted bug


def _everybody(real: Callable[..., Any]) -> Callable[..., Any]:
    def owner_of(pool: bytes) -> tuple[str, int, str]:
        owner, *_ = real(pool)
        return owner, 0, ""

    return owner_of


class WrongOwner(Store):
    """B20: the owner that is least over its share loses pages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ledger = self._core.ledger

        def over_share(limit_bytes: int) -> list[str]:
            return sorted(ledger.weights, key=lambda owner: ledger.charges[owner])

        ledger.over_share = over_share  # type: ignore[method-assign]  # the planted bug


class Raw(Store):
    """The cap of an owner is not looked at."""

    def enroll(self, pool: bytes, owner: str, **options: Any) -> None:
        super().enroll(pool, owner, **{**options, "cap_bytes": None})


# what is planted -> who must find it, and the law it must name
STORES: dict[str, tuple[type[Store], str]] = {
    "B1 stale gets": (StaleGets, "V"),
    "B2 lost flush": (LostFlush, "V12|V3"),
    "B2 an object flush misses a page": (MissedPage, "V12|V3"),
    "B3 flush returns early": (EarlyFlush, "V12|V3"),
    "B4 a refused put keeps the old page": (RefusalKeepsTheOldPage, "V2|V3"),
    "B8 published before the copy is done": (PublishedTooEarly, "V9"),
    # the checksum is also what tells a read without the lock that it is torn
    "B9 checksum not checked": (changed("read", _read_unchecked), "C10|V9"),
    "B10 handle not checked": (changed("read", _read_whoever), "C10"),
    "B11 ledger off by a header a record": (changed("release", _release_less), "R4"),
    "B12 limit passed": (OverTheLimit, "R4"),
    "B13 dedup without compare": (NotCompared, "V1|V3|V9|V15|M8"),
    "B19 get raises": (GetRaises, "raised KeyError"),
    "B20 the wrong owner loses": (WrongOwner, "M5"),
    "cap not enforced": (Raw, "M5"),
    "one domain for all": (changed("owner_of", _everybody), "M9"),
}


def notices(mutant: type[Store]) -> None:
    """All that judges a Store, cheapest first; raises AssertionError at the first fault."""

    def small() -> Rig:
        store = mutant(256 << 10, segment_bytes=12_288)
        switch = Switch(store.freeze, store.thaw, refuses="frozen")
        return Rig(store, {"frozen": switch}, {"settle": lambda _: store.settle()})

    run_laws(lambda: mutant(MIB, segment_bytes=20_480), steps=600, seconds=0.2, switches=False)
    campaign(small(), seed=1, steps=6000, plan=Plan(page_bytes=2048, pages=30))
    for proof in PROOFS.values():
        try:
            proof(mutant)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"a verb raised {error!r}") from error
    race(small(), seed=1, seconds=3, threads=6)


@pytest.mark.parametrize("name", STORES)
def test_a_planted_bug_in_the_store_is_noticed(name: str) -> None:
    mutant, law = STORES[name]

    with pytest.raises(AssertionError, match=law):
        notices(mutant)


def test_nothing_is_noticed_in_the_store_itself() -> None:
    notices(Store)


class ForgetsADebt(Guard):
    """B17: what is owed is forgotten on the way back to the tier."""

    def owe(self, scope: Scope, *, refused: bool = False) -> None:
        if refused or scope.page is None:
            super().owe(scope, refused=refused)


class ForgetsARefusal(Guard):
    """B17: a put of unknown outcome owes nothing."""

    def owe(self, scope: Scope, *, refused: bool = False) -> None:
        if not refused:
            super().owe(scope, refused=refused)


class TellsNobody(Guard):
    """B19: the tier's exceptions reach the caller."""

    def get(self, handle: Handle) -> bytes | None:
        return self._backend.get(handle)


@pytest.mark.parametrize("mutant", [ForgetsADebt, ForgetsARefusal, TellsNobody])
def test_B17_B19_a_planted_bug_in_the_guard_is_noticed(mutant: type[Guard]) -> None:
    clock = FakeClock()
    flaky = Flaky(Shelf())
    rig = Rig(
        mutant(flaky, clock=clock),
        {
            name: Switch(
                lambda name=name: setattr(flaky, name, True),  # type: ignore[misc]  # a lambda with a default
                lambda name=name: setattr(flaky, name, False),  # type: ignore[misc]  # a lambda with a default
                is_fault=True,
            )
            for name in ("is_down", "loses_answers")
        },
        {"time": lambda number: clock.advance(number % 40)},
    )

    with pytest.raises(AssertionError):
        campaign(rig, seed=1, steps=20_000, plan=Plan(weights=(40, 0, 40, 6, 3, 1, 6, 4)))


class LandsAlways(Pool):
    """C7, F8: a fetch lands although a flush began meanwhile."""

    def land(self, handle: Handle, data: Buffer, mark: int) -> bool:
        return self.put(handle, data)


def test_C7_a_planted_bug_in_the_pool_is_noticed() -> None:
    for kind, expected in ((Pool, None), (LandsAlways, b"old bytes")):
        pool = kind(Shelf())
        handle = Handle(pool.id, bytes(24), 0)
        mark = pool.mark(handle.object)

        pool.flush(Scope(pool.id))
        pool.land(handle, b"old bytes", mark)

        assert pool.get(handle) == expected
        pool.close()
