"""The same model as a Hypothesis state machine: it finds less per second than a campaign, and shrinks what it finds.

Rules: puts of the shapes of V14, refused puts, gets, flushes of each scope, switches and pokes of the rig. After every
flush all covered handles are asked, after every step the sum rules are. Only this module imports Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cleancache.backend import Backend
from cleancache.handle import Handle, Scope
from cleancache.testing.contents import contents
from cleancache.testing.model import Mode, Model
from cleancache.testing.rig import Rig, rig_of
from cleancache.testing.sums import check_sums

POOLS = (b"pool-one" * 2, b"pool-two" * 2)
PLACES = [(pool, bytes([obj]) * 24, page) for pool in (0, 1) for obj in (1, 2) for page in (0, 1, 2)]


class LawMachine(RuleBasedStateMachine):
    """One back end, its rig, and the model; subclass and say in `make` how it is made, or use `run_machine`."""

    mode: Mode = "hostile"
    page_bytes = 512
    max_page_bytes: int | None = None
    takes = False
    pools: tuple[bytes, ...] = POOLS

    def make(self) -> Backend | Rig:
        """A new, empty back end, or a `Rig` around one."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.handles = [Handle(self.pools[pool % len(self.pools)], obj, page) for pool, obj, page in PLACES]
        self.rig = rig_of(self.make())
        self.model = Model(self.mode)
        self.number = 0
        self.on: set[str] = set()
        self.before = self.rig.backend.stats()

    @rule(place=st.integers(0, len(PLACES) - 1), shape=st.sampled_from(("one", "short", "whole", "any")))
    def put(self, place: int, shape: str) -> None:
        """A put of any shape, which may be refused."""
        self.number += 1
        handle = self.handles[place]
        number = place if self.mode == "lawful" else self.number
        size = {"one": 1, "short": self.page_bytes - 1, "whole": self.page_bytes}.get(shape, 1 + number * 37 % 512)
        if self.mode == "lawful":
            size = self.page_bytes
        data = contents(handle, number, size)
        answer = self.rig.backend.put(handle, data)
        refusing = [name for name in self.on if self.rig.switches[name].refuses is not None]
        assert not (answer and refusing), f"a put was accepted while {refusing} was on"
        self.model.put(handle, data, answer)

    @precondition(lambda self: self.max_page_bytes is not None)
    @rule(place=st.integers(0, len(PLACES) - 1), is_empty=st.booleans())
    def put_of_a_wrong_size(self, place: int, is_empty: bool) -> None:
        """A put that must be refused, and drop the older copy."""
        handle = self.handles[place]
        size = 0 if is_empty else (self.max_page_bytes or 0) + 1
        assert self.rig.backend.put(handle, bytes(size)) is False, f"V14: a page of {size} bytes was accepted"
        self.model.put(handle, b"", False)
        self.ask(handle)

    @rule(place=st.integers(0, len(PLACES) - 1))
    def get(self, place: int) -> None:
        """A get."""
        self.ask(self.handles[place])

    def ask(self, handle: Handle) -> None:
        """Get and check."""
        self.model.ask(self.rig.backend, handle, is_faulty=self.rig.is_faulty, takes=self.takes)

    @rule(place=st.integers(0, len(PLACES) - 1), kind=st.sampled_from(("page", "object", "pool")))
    def flush(self, place: int, kind: str) -> None:
        """A flush, then a get of all it covers."""
        handle = self.handles[place]
        scope = {"page": Scope(*handle), "object": Scope(handle.pool, handle.object)}.get(kind, Scope(handle.pool))
        answer = self.rig.backend.flush(scope)
        assert answer or self.rig.is_faulty, f"V4: a flush of {kind} answered {answer!r}"
        self.model.flush(scope, answer)
        for other in self.handles:
            if scope.covers(other):
                self.ask(other)

    @precondition(lambda self: bool(self.rig.switches))
    @rule(data=st.data())
    def switch(self, data: st.DataObject) -> None:
        """Something goes wrong, or right again."""
        name = data.draw(st.sampled_from(sorted(self.rig.switches)))
        if name in self.on:
            self.on.remove(name)
            self.rig.switches[name].off()
        else:
            self.on.add(name)
            self.rig.switches[name].on()

    @precondition(lambda self: bool(self.rig.pokes))
    @rule(data=st.data(), number=st.integers(0, 2**32 - 1))
    def poke(self, data: st.DataObject, number: int) -> None:
        """A limit moves, a sweep runs: nothing that changes what a get may give."""
        self.rig.pokes[data.draw(st.sampled_from(sorted(self.rig.pokes)))](number)

    @invariant()
    def sums(self) -> None:
        """The sum rules hold after every step (N1)."""
        now = self.rig.backend.stats()
        check_sums(now, self.before, is_holder=not self.rig.is_faulty)
        self.before = now

    def teardown(self) -> None:
        """Switch all off, ask all, close."""
        try:
            for name in self.on:
                self.rig.switches[name].off()
            for handle in self.handles:
                self.ask(handle)
        finally:
            self.rig.close()


def run_machine(
    make: Callable[[], Backend | Rig], *, examples: int = 60, steps: int = 60, shrinks: bool = True, **options: Any
) -> type[LawMachine]:
    """Run the machine on what *make* makes; options are the attributes of `LawMachine`.

    Raises: AssertionError with the shrunk sequence of steps in its notes.

    >>> from cleancache.testing import Shelf
    >>> _ = run_machine(Shelf, examples=3, steps=10)
    """
    made: type[LawMachine] = type("Machine", (LawMachine,), {**options, "make": lambda _: make()})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    wanted = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=checks,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if shrinks else [Phase.generate],
    )
    run_state_machine_as_test(made, settings=wanted)
    return made
