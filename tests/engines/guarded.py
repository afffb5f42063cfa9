"""A tier that does what it is told and then fails, and a guard before it."""

from __future__ import annotations

from cleancache.backend import Buffer
from cleancache.guard import Guard
from cleancache.handle import Handle, Scope
from cleancache.testing import FakeClock
from tests.binding.dicts import Dict

POOL, OBJECT = b"p" * 16, b"o" * 24
PAGE = Handle(POOL, OBJECT, 0)
OTHER = Handle(POOL, b"x" * 24, 0)


class Broken(Dict):
    """Does what it is told, then raises or answers what it must not."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: BaseException | None = None
        self.answer: object = None
        self.lies = False

    def _end(self, answer: object) -> object:
        if self.fault is not None:
            raise self.fault
        return self.answer if self.lies else answer

    def put(self, handle: Handle, data: Buffer) -> bool:
        return self._end(super().put(handle, data))  # type: ignore[return-value]  # the lie under test

    def get(self, handle: Handle) -> bytes | None:
        return self._end(super().get(handle))  # type: ignore[return-value]  # the lie under test

    def flush(self, scope: Scope) -> bool:
        return self._end(super().flush(scope))  # type: ignore[return-value]  # the lie under test


def guarded() -> tuple[Broken, Guard, FakeClock]:
    tier, clock = Broken(), FakeClock()
    return tier, Guard(tier, clock=clock), clock
