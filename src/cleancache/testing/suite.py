"""What the laws are run on: options of the suite, a fresh back end for each case, and the checks that cases share.

A case that needs something the back end does not offer (switches, an exclusive get) is set to None in the suite of that
back end, and so is not collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from cleancache.backend import MAX_PAGE_BYTES, Backend
from cleancache.handle import Handle
from cleancache.testing.campaign import Plan
from cleancache.testing.contents import contents, described
from cleancache.testing.model import Mode
from cleancache.testing.rig import Rig, rig_of
from cleancache.testing.sums import check_sums

POOL, OTHER_POOL = b"laws" * 4, b"more" * 4


def needs(what: str) -> Callable[[Any], Any]:
    """Mark a case that is for back ends that offer *what* only."""

    def mark(test: Any) -> Any:
        test.needs = what
        return test

    return mark


class Bench:
    """Subclass it as `class TestMine(Laws)` and say in `make` how your back end is made.

    *mode*: `lawful` for a tier that may only ever see one content under a handle. *page_bytes*: of the pages used.
    *max_page_bytes*: the greatest page the tier takes; None: its attribute of that name, else 1 MiB. *keeps*: a page
    put into an empty tier is there until something happens to it. *exclusive*: a hit takes the page. *seconds*: of the
    race; *steps*: of the campaign. *pools*: the ids that may be named. *reasons*: it knows why a
    tier behind it refused.
    """

    mode: ClassVar[Mode] = "hostile"
    page_bytes: ClassVar[int] = 4096
    max_page_bytes: ClassVar[int | None] = None
    keeps: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False
    switches: ClassVar[bool] = False  # make() gives a Rig with switches that refuse
    steps: ClassVar[int] = 2000
    seconds: ClassVar[float] = 0.5
    reasons: ClassVar[bool] = True
    pools: ClassVar[tuple[bytes, ...]] = (POOL, OTHER_POOL)

    def make(self) -> Backend | Rig:
        """A new, empty back end, or a `Rig` around one."""
        raise NotImplementedError("say here how your back end is made")

    @contextmanager
    def rig(self) -> Iterator[Rig]:
        """A fresh rig, closed afterwards; its sums are checked on the way out."""
        rig = rig_of(self.make())
        try:
            yield rig
            self.settle(rig.backend)
            check_sums(rig.backend.stats(), is_holder=not rig.is_faulty)
        finally:
            rig.close()

    @contextmanager
    def backend(self) -> Iterator[Backend]:
        """A fresh back end."""
        with self.rig() as rig:
            yield rig.backend

    def settle(self, backend: Backend) -> None:
        """Let background work that is due be done: `settle()` of the back end where it has one."""
        settle = getattr(backend, "settle", None)
        if settle is not None:
            settle()

    def greatest(self, backend: Backend) -> int:
        """The greatest page that the tier takes."""
        return self.max_page_bytes or getattr(backend, "max_page_bytes", None) or MAX_PAGE_BYTES

    def page(self, handle: Handle, number: int = 1, size: int | None = None) -> bytes:
        """The contents of put *number*; under the lawful mode all numbers of one handle are one."""
        return contents(handle, 1 if self.mode == "lawful" else number, self.page_bytes if size is None else size)

    def put(self, backend: Backend, handle: Handle, data: bytes) -> bool:
        """Put, and hold the answer to be a bool; a tier that keeps accepts."""
        answer = backend.put(handle, data)
        assert answer is True or answer is False, f"put answered {answer!r}"
        assert answer or not self.keeps, f"V2: a tier that keeps refused {len(data)} bytes: {backend.stats().refused}"
        return answer

    def gives(self, backend: Backend, handle: Handle, want: bytes | None, law: str, *, surely: bool = False) -> None:
        """A get gives *want* or misses; *surely* with `keeps`: it gives *want*."""
        got = backend.get(handle)
        assert got is None or type(got) is bytes, f"V6: get answered {type(got).__name__}"
        assert got is None or got == want, f"{law}: got {described(got)}, want {described(want)} or a miss"
        if surely and self.keeps:
            assert got == want, f"{law}: a tier that keeps lost the page"

    def plan(self, backend: Backend, **options: Any) -> Plan:
        """What campaigns are made of."""
        options = {
            "page_bytes": min(512, self.page_bytes),
            "mode": self.mode,
            "takes": self.exclusive,
            "pools": self.pools,
        } | options
        return Plan(max_page_bytes=self.greatest(backend), settle=lambda: self.settle(backend), **options)
