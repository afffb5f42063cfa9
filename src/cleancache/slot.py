"""A place for a back end that comes late, goes, and comes back (W2, W3; laws 1.5, I5–I10).

Nothing is recorded in a back end and nothing is replayed: the *mount* chooses the pool id. An empty slot refuses and
misses (`empty`) and keeps the flushes it got as whole pools; a new back end is built once, completely, then pays those
debts, and only then is published. A mount never notices more than misses.

Leaving: the guard is taken out of the slot and voids what is still under way; private pools are flushed, the back end
is closed. The slot's counters are those of all its back ends, former ones included, and of its own answers while empty
(N2).

The lock guards the transitions, the debts and the pools; it is never held across a factory or a verb. In a forked child
locks are new, the slot is empty, its counters start at 0, and the first use fills it again: a child never uses what it
inherited (T1, I14).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from cleancache.backend import MAX_PAGE_BYTES, Backend, Buffer, Stats
from cleancache.errors import SpecError
from cleancache.guard import DEADLINE_S, Guard, attempt
from cleancache.handle import Handle, Scope, is_valid, scope_is_valid
from cleancache.spec import Tier, parse_bool, printable_text, stack_text
from cleancache.tally import Reasons, Tally, added_up, drained, of_the_gone

log = logging.getLogger("cleancache.registry")

Factory = Callable[[Tier], Backend]

RETRY_S = (1.0, 60.0)  # first and greatest pause between two tries of a failing factory
PAY_ROUNDS = 16  # then a flood of flushes is left to the guard, which owes them

_slots: weakref.WeakSet[Slot] = weakref.WeakSet()


class Slot:
    """What a stack text stands for: a back end, or the place where it will be. `none` stays empty for ever.

    Laws: 1.5, R1, R2, N2. Threads: any. Cost: ≤ 1 µs a call while empty (G13), 0.1 µs a call otherwise.
    """

    def __init__(self, tiers: tuple[Tier, ...], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.tiers = tiers
        self.text = stack_text(tiers)
        self.name = printable_text(tiers)
        self.clock = clock
        self.is_closed = False
        self._lock = threading.RLock()
        self._guard: Guard | None = None
        self._former: list[Guard] = []
        self._factory: Factory | None = None
        self._made_by: Factory | None = None  # which factory made what is here now
        self._is_building = self._is_leaving = False
        self._retry_at: float | None = None  # the clock after which a use may try the factory again
        self._pause_s = RETRY_S[0]
        self._owed: dict[bytes, None] = {}
        self._pools: Counter[bytes] = Counter()  # private ones of this process, by how many hold them
        self._shared: Counter[bytes] = Counter()
        self._orphans: deque[bytes] = deque()  # private pools whose owner was collected; a finaliser may only append
        self._base = Stats()
        self._count_anew()
        _slots.add(self)

    def _count_anew(self) -> None:
        self._gets, self._puts = Tally(), Tally()
        self._missed, self._refused, self._flushes = Reasons(), Reasons(), Reasons()

    def __repr__(self) -> str:
        return f"<Slot {self.name} {'empty' if self._guard is None else 'filled'}>"

    @property
    def is_empty(self) -> bool:
        """Say whether no back end stands here now."""
        return self._guard is None

    @property
    def is_exclusive(self) -> bool:
        """Say whether a tier gives each page away once."""
        return any(parse_bool(tier.option("exclusive") or "no") for tier in self.tiers)

    # -- the verbs

    def get(self, handle: Handle) -> bytes | None:
        """The bytes of *handle*, or None."""
        data = self.ask(handle)
        return data if type(data) is bytes else None

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Keep *data*, or refuse."""
        return self.offer(handle, data) is True

    def ask(self, handle: Handle, into: memoryview | None = None) -> bytes | int | str:
        """The bytes of *handle*, or, with *into*, the length of the page copied there; or the reason of the miss."""
        guard = self._guard
        if guard is None and (self._retry_at is None or (guard := self._try_again()) is None):
            self._gets.step()
            reason = "down" if self.is_closed else "empty" if is_valid(handle) else "malformed"
            self._missed.step(reason)
            return reason
        return guard.ask(handle, into)  # a guard that is leaving voids its own results

    def offer(self, handle: Handle, data: Buffer) -> bool | str:
        """True: kept; or the reason of the refusal."""
        guard = self._guard
        if guard is None and (self._retry_at is None or (guard := self._try_again()) is None):
            self._puts.step()
            reason = "down" if self.is_closed else "empty" if is_valid(handle) else "malformed"
            self._refused.step(reason)
            return reason
        kept = guard.offer(handle, data)
        if guard.has_left and kept is not True and kept != "malformed":
            self._owe(Scope(handle[0]))  # an older copy may be where it went
        return kept

    def flush(self, scope: Scope) -> bool:
        """Forget *scope*; while empty the whole pool is owed, and the answer is False."""
        if self._orphans:
            self._bury_orphans()
        if self._guard is None and self._retry_at is not None:
            self._try_again()
        while True:
            guard = self._guard
            if guard is not None:
                answer = guard.flush(scope)
                if not guard.has_left:
                    return answer
            if not scope_is_valid(scope):
                if guard is None:
                    self._flushes.step(scope.kind)
                return True
            with self._lock:
                if self._guard is None:
                    if self.tiers and not self.is_closed:
                        self._owed[scope.pool] = None
                    break
        if guard is None:
            self._flushes.step(scope.kind)
        return not self.tiers  # `none` holds nothing and never will

    def _owe(self, scope: Scope) -> None:
        if scope.pool in self._shared:
            return  # an older copy has the same bytes (laws 1.7)
        with self._lock:
            guard = self._guard
            if guard is None:
                self._owed[scope.pool] = None
                return
        guard.owe(scope)

    def stats(self) -> Stats:
        """The sums of all back ends that were here, and the gauges of the one that is."""
        with self._lock:
            self._fold()
            total, guards = self._base, list(self._former)
            if self._guard is not None:
                guards.append(self._guard)
            owed = len(self._owed)
        own = Stats(
            gets=self._gets.value,
            puts=self._puts.value,
            misses=self._missed.values(),
            refused=self._refused.values(),
            flushes=self._flushes.values(),
        )
        total = added_up(total, own)
        for guard in guards:
            total = added_up(total, guard.stats())
        return replace(total, debts=(total.debts or 0) + owed)

    @property
    def max_page_bytes(self) -> int:
        """The greatest page that the tier takes."""
        guard = self._guard
        return MAX_PAGE_BYTES if guard is None else guard.max_page_bytes

    def settle(self) -> None:
        """Pay what is owed and let the tier finish what is due."""
        guard = self._guard
        if guard is not None:
            guard.settle()

    def close(self) -> None:
        """End for ever: the back end is closed, puts refuse and gets miss (`down`)."""
        with self._lock:
            self.is_closed = True
            self._factory, self._retry_at = None, None
        self.vacate()
        with self._lock:
            self._owed.clear()

    # -- the pools of this process

    def join(self, pool: bytes, *, shared: bool) -> None:
        """*pool* is used through this slot from now on.

        Raises: SpecError, if a tier is exclusive and the pool is shared (law 1.3).
        """
        if shared and self.is_exclusive:
            raise SpecError(
                f"the pool {pool.hex()} is shared and {self.name!r} is exclusive, which takes pages from the others; "
                "drop one of the two"
            )
        self._bury_orphans()
        with self._lock:
            (self._shared if shared else self._pools)[pool] += 1

    def part(self, pool: bytes, *, shared: bool) -> None:
        """*pool* is no longer used through this slot."""
        with self._lock:
            book = self._shared if shared else self._pools
            book[pool] -= 1
            if book[pool] <= 0:
                del book[pool]

    def orphan(self, pool: bytes) -> None:
        """A private pool was collected without being closed. Takes no lock: finalisers call it (X32)."""
        self._orphans.append(pool)

    def _bury_orphans(self) -> None:
        while self._orphans:
            try:
                pool = self._orphans.popleft()
            except IndexError:
                return
            self.part(pool, shared=False)
            if pool not in self._pools:
                self.flush(Scope(pool))

    # -- coming and going

    def expect(self, factory: Factory | None) -> None:
        """From now on *factory* fills this slot, or none does. The registry says so under its own lock."""
        with self._lock:
            if not self.is_closed:
                self._factory, self._retry_at, self._pause_s = factory, None, RETRY_S[0]

    def fill(self, factory: Factory, *, strict: bool = False) -> bool:
        """Build the back end by *factory*, if it is the expected one and none is here or under way; say whether one is.

        A factory that fails leaves the slot empty, says so once, and is tried again on use, with growing pauses.
        *strict*: a SpecError is the caller's mistake and is raised.
        """
        with self._lock:
            is_busy = self._guard is not None or self._is_building or self._is_leaving
            if is_busy or self.is_closed or self._factory is not factory:
                return self._guard is not None
            self._is_building, self._retry_at = True, None
        try:
            fault = self._build(factory)
        finally:
            with self._lock:
                self._is_building = False
                if self._guard is None and self._factory is factory:
                    self._retry_at = self.clock()  # interrupted, unless `_failed` says later
        with self._lock:
            other, here = self._factory, self._guard is not None
        if fault is not None and other is factory:
            if strict and isinstance(fault, SpecError):
                raise fault
            self._failed(fault)
        elif not here and other is not None and other is not factory:
            return self.fill(other)
        return here

    def _build(self, factory: Factory) -> Exception | None:
        (tier,) = self.tiers
        backend, fault = attempt(lambda: factory(tier))
        if backend is None:
            return fault or TypeError(f"the factory of {tier.kind} gave None")
        guard = Guard(
            backend,
            name=self.name,
            clock=self.clock,
            deadline_s=getattr(backend, "deadline_s", DEADLINE_S),
            shared=self._shared,
        )
        for turn in range(PAY_ROUNDS):
            with self._lock:
                owed = list(self._owed)
                if self._factory is not factory:
                    break
                if not owed or turn == PAY_ROUNDS - 1:
                    for pool in owed:
                        guard.owe(Scope(pool))
                    self._owed.clear()
                    self._guard, self._made_by, self._pause_s = guard, factory, RETRY_S[0]
                    log.info("tier %s is here", self.name)
                    return None
                self._owed.clear()
            for pool in owed:
                guard.owe(Scope(pool))
            guard.pay(patience_s=None)
            if unpaid := guard.owed_pools():
                with self._lock:
                    self._owed.update(dict.fromkeys(unpaid))
                guard.close()
                return RuntimeError("it takes no flushes")
        guard.close()  # unregistered while it was built
        return None

    def _failed(self, fault: Exception) -> None:
        with self._lock:
            first = self._pause_s == RETRY_S[0]
            self._retry_at = self.clock() + self._pause_s
            self._pause_s = min(self._pause_s * 2, RETRY_S[1])
        log.log(
            logging.WARNING if first else logging.DEBUG,
            "tier %s cannot start and is left out, reads go on without it; it is tried again on use: %s",
            self.name,
            ": ".join(filter(None, (type(fault).__name__, self._without_secrets(str(fault))))),
        )

    def _without_secrets(self, text: str) -> str:
        for tier in self.tiers:
            for secret in [*(value for _, value in tier.options), tier.target]:
                if secret and secret not in tier.printable:
                    text = text.replace(secret, "***")
        return text

    def _try_again(self) -> Guard | None:
        """On use of an empty slot: the back end, if it is time to try and the factory does it now."""
        retry_at, factory = self._retry_at, self._factory
        if retry_at is not None and factory is not None and self.clock() >= retry_at:
            self.fill(factory)
        return self._guard

    def vacate(self, factory: Factory | None = None) -> None:
        """Leave what *factory* made, or anything: drained, private pools flushed, closed, empty (laws 1.5, I6, I10)."""
        with self._lock:
            guard = self._guard
            if guard is None or (factory is not None and self._made_by is not factory):
                return
            self._guard = self._made_by = None
            self._is_leaving = True
            guard.leave()
            private = list(self._pools)
            self._former.append(guard)
        try:
            drained(lambda: guard.account.under_way <= 0, DEADLINE_S)
            unpaid = guard.farewell(private)
            with self._lock:
                self._owed.update(dict.fromkeys(unpaid))
        finally:
            guard.close()
            with self._lock:
                self._is_leaving = False
                self._fold()
                expected = self._factory
        log.info("tier %s has left", self.name)
        if expected is not None:  # registered again meanwhile
            self.fill(expected)

    def _fold(self) -> None:
        """Former back ends without calls under way become plain sums."""
        for guard in [guard for guard in self._former if guard.account.under_way <= 0 and not self._is_leaving]:
            self._former.remove(guard)
            self._base = added_up(self._base, of_the_gone(guard.stats()))

    def drop_after_fork(self) -> None:
        """In a forked child: nothing inherited is used, nothing of the parent's is closed."""
        self._lock = threading.RLock()
        for guard in [*self._former, *([self._guard] if self._guard else [])]:
            guard.drop_after_fork()
        self._guard, self._former, self._base = None, [], Stats()
        self._owed, self._orphans = {}, deque()
        self._is_building = self._is_leaving = False
        self._pause_s = RETRY_S[0]
        self._retry_at = float("-inf") if self._factory is not None else None
        self._count_anew()


def _after_fork() -> None:
    for slot in list(_slots):
        slot.drop_after_fork()


os.register_at_fork(after_in_child=_after_fork)
