"""Random streams of verbs against the model (V15): one thread at volume, or many with begin and end of each call.

After *every* flush all covered handles are asked, and the sum rules are checked as often as `sums_every` says. Every
failure names its seed; `CLEANCACHE_SEED` starts there again, `CLEANCACHE_SOAK_S` says for how long to go on.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from cleancache.backend import Backend
from cleancache.handle import Handle, Scope
from cleancache.testing.contents import contents, number_of
from cleancache.testing.model import History, Mode, Model
from cleancache.testing.rig import Rig, rig_of
from cleancache.testing.sums import check_sums


def first_seed() -> int:
    """The seed of this run: `CLEANCACHE_SEED`, else a fresh one."""
    text = os.environ.get("CLEANCACHE_SEED")
    return int(text) if text else secrets.randbits(32)


def soak_s(default_s: float) -> float:
    """How long a random campaign goes on: `CLEANCACHE_SOAK_S`, else *default_s*."""
    return float(os.environ.get("CLEANCACHE_SOAK_S") or default_s)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Name the seed in whatever fails inside."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error} [CLEANCACHE_SEED={seed}]") from error
    except Exception as error:
        raise AssertionError(f"a verb raised {error!r} [CLEANCACHE_SEED={seed}]") from error


@dataclass(frozen=True, slots=True)
class Plan:
    """How a campaign is made up.

    *weights*: put, oversize put, get, flush of a page, an object, a pool, switch, poke. *sizes*: of the pages put.
    """

    pools: tuple[bytes, ...] = (b"pool-one" * 2, b"pool-two" * 2)
    objects: int = 3
    pages: int = 6
    page_bytes: int = 512
    max_page_bytes: int | None = None  # the greatest page the tier takes; None: no oversize puts
    mode: Mode = "hostile"
    takes: bool = False
    weights: tuple[int, ...] = (40, 2, 40, 6, 3, 1, 2, 2)
    sums_every: int = 1
    settle: Callable[[], object] | None = None

    def handles(self, salt: int = 0) -> list[Handle]:
        """All handles of the campaign."""
        return [
            Handle(pool, bytes([obj]) * 8 + salt.to_bytes(16, "little"), page)
            for pool in self.pools
            for obj in range(self.objects)
            for page in range(self.pages)
        ]

    def size(self, number: int) -> int:
        """The length of put *number*; the shapes of V14: 1, P-1, P and something between."""
        return (self.page_bytes, self.page_bytes - 1, 1 + number * 37 % self.page_bytes, self.page_bytes, 1)[number % 5]


def campaign(made: Backend | Rig, *, seed: int, steps: int, plan: Plan | None = None) -> int:
    """One thread, *steps* random verbs; the number of calls made.

    Raises: AssertionError with the law and the seed.
    """
    with seeded(seed):
        return _Campaign(rig_of(made), Random(seed), plan or Plan()).run(steps)


@dataclass
class _Campaign:
    rig: Rig
    random: Random
    plan: Plan
    calls: int = 0
    on: dict[str, bool] = field(default_factory=dict)

    def run(self, steps: int) -> int:
        plan, rng = self.plan, self.random
        self.model = Model(plan.mode)
        self.handles = plan.handles()
        self.constant = {handle: contents(handle, n, plan.size(n)) for n, handle in enumerate(self.handles)}
        self.numbers = itertools.count(1)
        self.before = self.rig.backend.stats()
        verbs = (self._put, self._oversize, self._get, self._page, self._object, self._pool, self._switch, self._poke)
        chosen = rng.choices(verbs, plan.weights, k=steps)
        try:
            for step, verb in enumerate(chosen):
                verb(rng.choice(self.handles))
                if step % plan.sums_every == 0:
                    self._sums()
        finally:
            for name in list(self.on):
                self.rig.switches[name].off()
        self.on.clear()
        self._audit(Scope(pool) for pool in {handle.pool for handle in self.handles})
        self._sums()
        return self.calls

    def _sums(self) -> None:
        now = self.rig.backend.stats()
        check_sums(now, self.before, is_holder=not self.rig.is_faulty)
        self.before = now

    def _put(self, handle: Handle) -> None:
        number = next(self.numbers)
        lawful = self.plan.mode == "lawful"
        data = self.constant[handle] if lawful else contents(handle, number, self.plan.size(number))
        answer = self.rig.backend.put(handle, data)
        assert answer is True or answer is False, f"put answered {answer!r}"
        self.calls += 1
        if answer:
            refusing = [name for name in self.on if self.rig.switches[name].refuses is not None]
            assert not refusing, f"put was accepted while {refusing} was on"
        self.model.put(handle, data, answer)

    def _oversize(self, handle: Handle) -> None:
        if self.plan.max_page_bytes is None or self.plan.mode == "lawful":
            return
        size = self.random.choice((0, self.plan.max_page_bytes + 1))
        assert self.rig.backend.put(handle, bytes(size)) is False, f"V14: a page of {size} bytes was accepted"
        self.calls += 1
        self.model.put(handle, b"", False)
        self._ask(handle)

    def _get(self, handle: Handle) -> None:
        self._ask(handle)

    def _ask(self, handle: Handle) -> None:
        self.calls += 1
        self.model.ask(self.rig.backend, handle, is_faulty=self.rig.is_faulty, takes=self.plan.takes)

    def _flush(self, scope: Scope) -> None:
        answer = self.rig.backend.flush(scope)
        self.calls += 1
        assert answer is True or (answer is False and self.rig.is_faulty), f"V4: flush answered {answer!r}"
        self.model.flush(scope, answer)
        self._audit([scope])

    def _audit(self, scopes: Iterator[Scope] | list[Scope]) -> None:
        for scope in scopes:
            for handle in self.handles:
                if scope.covers(handle):
                    self._ask(handle)

    def _page(self, handle: Handle) -> None:
        self._flush(Scope(*handle))

    def _object(self, handle: Handle) -> None:
        self._flush(Scope(handle.pool, handle.object))

    def _pool(self, handle: Handle) -> None:
        self._flush(Scope(handle.pool))

    def _switch(self, _: Handle) -> None:
        if not self.rig.switches:
            return
        name = self.random.choice(sorted(self.rig.switches))
        switch = self.rig.switches[name]
        if self.on.pop(name, False):
            switch.off()
        else:
            switch.on()
            self.on[name] = True

    def _poke(self, _: Handle) -> None:
        if self.rig.pokes:
            self.rig.pokes[self.random.choice(sorted(self.rig.pokes))](self.random.getrandbits(32))


class _Call(NamedTuple):
    what: str  # put, get or flush
    name: Handle | Scope
    begin: int
    end: int
    number: int | None = None
    accepted: bool = False


def race(
    made: Backend | Rig,
    *,
    seed: int,
    seconds: float,
    threads: int = 8,
    plan: Plan | None = None,
    round_steps: int = 1500,
) -> int:
    """Many threads put, get and flush one another's handles; the number of calls made.

    In rounds: a round runs, its history is checked, the sums are checked, the next one starts from what the handles
    then give. With switches in the rig one of the threads throws them.

    Raises: AssertionError with the law and the seed.
    """
    with seeded(seed):
        return _Race(rig_of(made), seed, plan or Plan(), threads, round_steps).run(seconds)


class _Race:
    def __init__(self, rig: Rig, seed: int, plan: Plan, threads: int, round_steps: int) -> None:
        self.rig, self.seed, self.plan, self.threads, self.steps = rig, seed, plan, threads, round_steps
        self.handles = plan.handles()
        self.tick = itertools.count(1).__next__  # one C call: atomic under the interpreter lock
        self.numbers = itertools.count(1).__next__
        self.errors: list[BaseException] = []
        self.is_faulty = rig.is_faulty  # then each round has new handles
        self.held: dict[Handle, tuple[int, int, int]] = {}  # what a quiet handle gave: number and its interval

    def run(self, seconds: float) -> int:
        end, calls, before = time.monotonic() + seconds, 0, self.rig.backend.stats()
        for number in itertools.count():
            calls += self._round(number)
            now = self.rig.backend.stats()
            check_sums(now, before, is_holder=not self.is_faulty)
            before = now
            if time.monotonic() >= end:
                break
        return calls

    def _round(self, number: int) -> int:
        if self.is_faulty:
            self.handles, self.held = self.plan.handles(number), {}
        logs: list[list[_Call]] = [[] for _ in range(self.threads)]
        workers = [
            threading.Thread(
                target=self._guarded, args=(Random(f"{self.seed}/{number}/{n}"), logs[n]), name=f"race-{n}"
            )
            for n in range(self.threads)
        ]
        stop = threading.Event()
        if self.rig.switches or self.rig.pokes:
            rng = Random(f"{self.seed}/{number}/disturb")
            workers.append(threading.Thread(target=self._disturb, args=(rng, stop), name="race-disturb"))
        for worker in workers:
            worker.start()
        for worker in workers[: self.threads]:
            worker.join()
        stop.set()
        for worker in workers[self.threads :]:
            worker.join()
        if self.errors:
            raise self.errors[0]
        return self._judge(logs)

    def _guarded(self, rng: Random, log: list[_Call]) -> None:
        try:
            self._work(rng, log)
        except BaseException as error:  # handed to the thread that asked for the race
            self.errors.append(error)

    def _work(self, rng: Random, log: list[_Call]) -> None:
        backend, tick, plan = self.rig.backend, self.tick, self.plan
        kinds = rng.choices("pgfoq", (44, 44, 8, 3, 1), k=self.steps)
        handles = rng.choices(self.handles, k=self.steps)
        for kind, handle in zip(kinds, handles, strict=True):
            if kind == "p":
                raw = self.numbers()
                number = raw * 7 + 1 + raw // 2 % 6  # no multiple of 7: shared contents do not say whose they are
                data = contents(handle, number, max(64, plan.size(number)))
                begin = tick()
                accepted = backend.put(handle, data)
                log.append(_Call("put", handle, begin, tick(), number, accepted))
            elif kind == "g":
                begin = tick()
                page = backend.get(handle)
                log.append(_Call("get", handle, begin, tick(), self._number(handle, page)))
            else:
                pool, obj, page_number = handle
                scope = Scope(pool, None if kind == "q" else obj, page_number if kind == "f" else None)
                begin = tick()
                backend.flush(scope)
                log.append(_Call("flush", scope, begin, tick()))

    def _number(self, handle: Handle, page: bytes | None) -> int | None:
        if page is None:
            return None
        number = number_of(page)
        whole = contents(handle, number, max(64, self.plan.size(number))) if number is not None else None
        assert page == whole, f"V9: page {handle.page} gave {len(page)} bytes that are no page of it: {page[:24]!r}…"
        return number

    def _disturb(self, rng: Random, stop: threading.Event) -> None:
        try:
            while not stop.wait(0.002):
                for name in sorted(self.rig.switches):
                    if rng.random() < 0.3:
                        self.rig.switches[name].on()
                        stop.wait(0.002)
                        self.rig.switches[name].off()
                for name in sorted(self.rig.pokes):
                    if rng.random() < 0.3:
                        self.rig.pokes[name](rng.getrandbits(32))
        except BaseException as error:  # handed to the thread that asked for the race
            self.errors.append(error)

    def _judge(self, logs: list[list[_Call]]) -> int:
        history = History(is_faulty=self.is_faulty, takes=self.plan.takes)
        for handle, (number, begin, end) in self.held.items():
            history.put(handle, number, begin, end, True)
        calls = 0
        for log in logs:
            calls += len(log)
            for call in log:
                if isinstance(call.name, Scope):
                    history.flush(filter(call.name.covers, self.handles), call.begin, call.end)
                elif call.what == "get":
                    history.get(call.name, call.begin, call.end, call.number)
                elif call.number is not None:
                    history.put(call.name, call.number, call.begin, call.end, call.accepted)
        if self.plan.settle is not None:
            self.plan.settle()
        quiet = {}
        for handle in self.handles:
            begin = self.tick()
            found = self._number(handle, self.rig.backend.get(handle))
            calls += 1
            history.get(handle, begin, self.tick(), found)
            if found is not None and not self.plan.takes:
                quiet[handle] = found
        history.check()
        self.held = {handle: (number, self.tick(), self.tick()) for handle, number in quiet.items()}
        return calls
