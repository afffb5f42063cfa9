"""The suite on its own reference: `Shelf`, `Full` around it, and the five lines that prove a stranger's back end."""

from __future__ import annotations

from cleancache.backend import Backend
from cleancache.store import Store
from cleancache.testing import Full, Laws, Rig, Shelf, Switch
from cleancache.testing.laws import law_names


class TestExclusiveStore(Laws):
    keeps = True
    exclusive = True

    def make(self) -> Backend:
        return Store(1 << 24, exclusive=True)


class TestShelf(Laws):
    keeps = True

    def make(self) -> Backend:
        return Shelf()


class TestSmallShelf(Laws):
    def make(self) -> Backend:
        return Shelf(max_pages=7)


class TestFull(Laws):
    keeps = True
    switches = True

    def make(self) -> Rig:
        full = Full(Shelf(), None)
        fuller = Full(full, None)
        return Rig(fuller, {"full": _refusing(full, "full"), "quota": _refusing(fuller, "quota")})


def _refusing(full: Full, reason: str) -> Switch:
    return Switch(lambda: setattr(full, "reason", reason), lambda: setattr(full, "reason", None), refuses=reason)


def test_every_case_of_the_suite_runs_somewhere() -> None:
    """What a back end does not offer is not asked of it; what nobody offers would be asked of nobody."""
    suites = [TestShelf, TestFull, TestExclusiveStore]

    assert {name for suite in suites for name in law_names(suite)} == set(law_names())
