"""The suite on its own reference: `Shelf`, `Full` around it, and the five lines that prove a stranger's back end."""

from __future__ import annotations

from cleancache.backend import Backend
from cleancache.testing import Full, Laws, Rig, Shelf, Switch


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
