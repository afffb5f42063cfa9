"""The one place that turns the faults of a tier into misses and refusals.

Deadline, breaker, debts (law 1.6). An exception, an answer of the wrong type or a call that took longer than the
deadline is a failure; five in a row open the breaker, which then answers at once (`down`) and lets one probe through
now and then. What the tier could not be told is *owed*: it misses and is refused (`owed`) until it was paid; debts are
paid first, in order, on contact.

Why the hot path has no lock: one flag (`_is_odd`) says that anything at all is unusual. It is read after the call was
counted as begun, and set before anything is waited for: either a call sees the flag, or whoever set it sees the call
under way.

`ask` and `offer` are `get` and `put` that also say why: bytes or a reason, True or a reason. A refusal and a miss are
values. A get may also name a buffer to copy into (`backend.copying`); it counts and fails as any get does. A flush
that answers False is *not* owed here: the tier holds it as far as this process can see, and owes the rest itself.

The lock guards debts, breaker and the set of pools; it is never held across a call of the tier. `except Exception`
stands here because a tier may raise anything; KeyboardInterrupt and its like pass through, but what was under way is
owed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from cleancache.backend import MAX_PAGE_BYTES, Absent, Backend, Buffer, Stats, copying
from cleancache.breaker import Breaker
from cleancache.debts import EVERYTHING, Debts
from cleancache.handle import Handle, Scope, is_valid, scope_is_valid
from cleancache.tally import Account

log = logging.getLogger("cleancache.guard")

T = TypeVar("T")

DEADLINE_S: Final = 0.05  # laws 1.6; a back end that computes in this process says `deadline_s = None`
LOG_EVERY_S: Final = 60.0  # one line a tier and minute (law P5)


def attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What *work* gives, or what it raised: how the binding calls code that is not ours, such as factories."""
    try:
        return work(), None
    except Exception as fault:
        return None, fault


class Guard:
    """A back end in front of another one whose faults become misses, refusals and debts.

    *deadline_s* None: the tier computes in this process and cannot be late. *shared*: pools in which a refused put owes
    nothing (laws 1.7: one handle, the same bytes for all members).

    Laws: 1.1, 1.6, C9, C11, V13, R1, R2. Raises: nothing; what is no Exception passes. Threads: any. Cost: 0.2 µs.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str = "tier",
        deadline_s: float | None = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
        shared: Container[bytes] = (),
    ) -> None:
        self.name = name
        self.has_left = False
        self.account = Account()
        self._backend: Backend = backend
        self._deadline_s = deadline_s
        self._clock = clock
        self._shared = shared
        self._lock = threading.RLock()
        self._debts = Debts()
        self._pools: set[bytes] = set()  # that were named here: what a debt of everything covers
        self._breaker = Breaker(clock)
        self._is_paying = self._is_closed = False
        self._is_odd = False  # debts, breaker or the end: leave the hot path
        self._last = Stats()
        self._log_at = float("-inf")
        self._get, self._put = backend.get, backend.put
        self._get_into = copying(backend)
        self._count_get, self._count_hit = self.account.gets.step, self.account.hits.step

    @property
    def max_page_bytes(self) -> int:
        """The greatest page that the tier takes."""
        return getattr(self._backend, "max_page_bytes", None) or MAX_PAGE_BYTES

    # -- the verbs

    def get(self, handle: Handle) -> bytes | None:
        """The bytes of *handle*, or None."""
        data = self.ask(handle)
        return data if type(data) is bytes else None

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Keep *data*, or refuse; what could not be told to the tier is owed."""
        return self.offer(handle, data) is True

    def ask(self, handle: Handle, into: memoryview | None = None) -> bytes | int | str:
        """The bytes of *handle*, or the reason of the miss.

        With *into* (as `Pool.get_into` has it): the length of the page, which was copied there if it has room.
        """
        self._count_get()
        try:
            if self._is_odd and (reason := self._obstacle(handle)):
                return self._miss(reason)
            began = 0.0 if self._deadline_s is None else self._clock()
            found = self._get(handle) if into is None else self._get_into(handle, into) or None
        except Exception as fault:
            return self._miss(self._blame(handle, fault))
        except BaseException:
            self._release_probe()
            self._miss("down")
            raise
        if found is not None and type(found) is not (bytes if into is None else int):
            return self._miss(self._blame(handle, TypeError(f"a get gave {type(found).__name__}")))
        if (self._is_odd or self._breaker.failures or self._deadline_s is not None) and self._came_back(began):
            return self._miss("empty")
        if found is None:
            self.account.nothing.step()
            return "absent"
        self._count_hit()
        return found

    def offer(self, handle: Handle, data: Buffer) -> bool | str:
        """True: kept; or the reason of the refusal, as far as it can be told from here."""
        self.account.puts.step()
        if not is_valid(handle):
            return self._refuse("malformed")
        if handle[0] not in self._pools:
            with self._lock:
                self._pools.add(handle[0])
        try:
            if self._is_odd and (reason := self._obstacle(handle)):
                self._owe_page(handle)
                return self._refuse(reason)
            began = 0.0 if self._deadline_s is None else self._clock()
            is_kept = self._put(handle, data)
            if type(is_kept) is not bool:
                raise TypeError(f"put gave {type(is_kept).__name__}, not a bool")
        except Exception as fault:
            self._owe_page(handle)
            self._fail(fault)
            return self._doubt("down")
        except BaseException:
            self._owe_page(handle)
            self._release_probe()
            self._doubt("down")
            raise
        if (self._is_odd or self._breaker.failures or self._deadline_s is not None) and self._came_back(began):
            self._owe_page(handle)
            return self._doubt("empty")
        if is_kept:
            self.account.kept.step()
            return True
        self.account.declined.step()
        return "full" if 0 < memoryview(data).nbytes <= self.max_page_bytes else "size"

    def flush(self, scope: Scope) -> bool:
        """Forget *scope*; what the tier could not be told is owed and not served."""
        self.account.flushes.step(scope.kind)
        try:
            return self._flush(scope)
        finally:
            self.account.flushed.step()

    def _flush(self, scope: Scope) -> bool:
        if not scope_is_valid(scope):
            return True  # V13: it covers nothing
        with self._lock:
            self._pools.add(scope.pool)
        try:
            if self._is_odd and self._obstacle(None):
                self.owe(scope)
                return False
            answer = self._tell(scope)
        except Exception as fault:
            self.owe(scope)
            self._fail(fault)
            return False
        except BaseException:
            self.owe(scope)
            self._release_probe()
            raise
        if self.has_left:
            self.owe(scope)
            return False
        return answer

    def _tell(self, scope: Scope) -> bool:
        """Flush *scope* in the tier itself; raises what the tier raises, and if its answer is none."""
        began = self._clock()
        answer = self._backend.flush(scope)
        if type(answer) is not bool:
            raise TypeError(f"flush gave {type(answer).__name__}, not a bool")
        self._succeed(began)
        return answer

    def stats(self) -> Stats:
        """What was asked of the tier through this guard, with the tier's own gauges; waits for no tier."""
        stats = self.account.stats(self._of_tier)
        with self._lock:
            return replace(stats, debts=len(self._debts), breaker_open=int(self._breaker.is_open))

    def _of_tier(self) -> Stats:
        if isinstance(self._backend, Absent):
            return self._last
        stats, fault = attempt(self._backend.stats)
        if fault is not None:
            self._log(fault)
        if isinstance(stats, Stats):
            self._last = stats
        return self._last

    def settle(self) -> None:
        """Pay what is owed, if the tier lets us, and let the tier finish what is due."""
        if self._is_odd:
            self._obstacle(None)
            self._release_probe()
        attempt(getattr(self._backend, "settle", bool))

    def close(self) -> None:
        """Close the tier; then puts refuse, gets miss (`down`), a flush answers False."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            self._is_odd = True
        if not was_closed:
            if (fault := attempt(self._backend.close)[1]) is not None:
                self._log(fault)
            self._of_tier()
            gone = Absent()  # the tier's memory goes, even if a call hangs for ever
            with self._lock:
                self._debts = Debts()  # what is owed to a closed tier dies with it; a slot asked before
                self._backend, self._get, self._put = gone, gone.get, gone.put
                self._get_into = copying(gone)

    # -- the end, as the slot needs it

    def leave(self) -> None:
        """From now on refuse and miss (`empty`); results of calls under way are void (law 1.5)."""
        with self._lock:
            self.has_left = self._is_odd = True

    def farewell(self, private: Iterable[bytes]) -> set[bytes]:
        """Flush the *private* pools and pay what is owed; give the pools that could not be told."""
        is_well = not self._breaker.is_open and self.pay(patience_s=None)
        unpaid: set[bytes] = set()
        for pool in private:
            fault = attempt(partial(self._tell, Scope(pool)))[1] if is_well else None
            if fault is not None:
                self._fail(fault)
                is_well = False
            if not is_well:
                unpaid.add(pool)
        return unpaid | self.owed_pools()

    def owed_pools(self) -> set[bytes]:
        """The pools in which anything is owed; everything is all pools that were named here."""
        with self._lock:
            pools = self._debts.pools()
            return self._pools | (pools - {EVERYTHING.pool}) if EVERYTHING.pool in pools else pools

    def drop_after_fork(self) -> None:
        """In a forked child: a new lock, and the tier may drop what it must not touch."""
        self._lock = threading.RLock()
        attempt(getattr(self._backend, "drop_after_fork", bool))

    # -- debts

    def owe(self, scope: Scope, *, refused: bool = False) -> None:
        """Note that *scope* must be flushed in the tier before anything of it is served."""
        with self._lock:
            self._pools.add(scope.pool)
            self._debts.owe(scope, refused=refused)
            self._is_odd = True

    def _owe_page(self, handle: Handle) -> None:
        """A refused put drops the older copy, and the tier could not be told."""
        if handle[0] not in self._shared:
            self.owe(Scope(*handle), refused=True)

    def pay(self, *, patience_s: float | None = DEADLINE_S) -> bool:
        """Pay the oldest debts, until *patience_s* is over at most; say whether the tier did not fail."""
        with self._lock:
            if self._is_paying:
                return False
            self._is_paying = True
        try:
            end = float("inf") if patience_s is None else self._clock() + patience_s
            while self._clock() <= end:
                with self._lock:
                    debt = self._debts.first()
                    pools = list(self._pools) if debt is not None and debt[0] == EVERYTHING else []
                if debt is None:
                    break
                scope, stamp = debt
                for part in map(Scope, pools) if scope == EVERYTHING else (scope,):
                    self._tell(part)
                with self._lock:
                    self._debts.settle(scope, stamp)
                    self._look_again()
            return True
        except Exception as fault:
            self._fail(fault)
            return False
        except BaseException:
            self._release_probe()
            raise
        finally:
            with self._lock:
                self._is_paying = False

    def _look_again(self) -> None:
        """Under the lock: is anything still unusual?"""
        self._is_odd = bool(len(self._debts)) or self._breaker.is_open or self.has_left or self._is_closed

    # -- the breaker

    def _obstacle(self, handle: Handle | None) -> str | None:
        """Why the tier may not be asked now, after paying what can be paid; None: go on (as the probe, perhaps)."""
        if self._is_closed:
            return "down"
        if self.has_left:
            return "empty"
        if self._breaker.is_open:
            with self._lock:
                if not self._breaker.lets_through():
                    return "down"
        if len(self._debts):
            self.pay()
            if self._breaker.is_open and not self._breaker.is_probing:
                return "down"  # the probe failed, or another thread has the next one
            with self._lock:
                is_owed = handle is not None and self._debts.covers(handle)
            if is_owed:
                self._release_probe()
                return "owed"
        return None

    def _came_back(self, began: float) -> bool:
        """The tier answered; say whether the answer is void because the slot left it meanwhile."""
        self._succeed(began)
        return self.has_left

    def _succeed(self, began: float) -> None:
        """The tier answered; too late counts as a failure all the same."""
        if self._deadline_s is not None and self._clock() - began > self._deadline_s:
            self._fail(TimeoutError(f"a call took longer than {self._deadline_s * 1000:g} ms"))
        elif self._breaker.failures or self._breaker.is_open:
            with self._lock:
                self._breaker.succeeded()
                self._look_again()

    def _fail(self, fault: Exception) -> None:
        with self._lock:
            self._breaker.failed()
            self._look_again()
        if self._breaker.is_open or not isinstance(fault, TimeoutError):  # one late answer is no news
            self._log(fault)

    def _blame(self, handle: Handle, fault: Exception) -> str:
        """The reason of a failed get: the caller's fault if the handle is none, else the tier's."""
        if not is_valid(handle):
            self._release_probe()
            return "malformed"
        self._fail(fault)
        return "down"

    def _release_probe(self) -> None:
        with self._lock:
            self._breaker.is_probing = False

    # -- counting, and saying so

    def _miss(self, reason: str) -> str:
        self.account.missed.step(reason)
        return reason

    def _refuse(self, reason: str) -> str:
        self.account.refused.step(reason)
        return reason

    def _doubt(self, reason: str) -> str:
        self.account.unknown.step(reason)
        return reason

    def _log(self, fault: Exception) -> None:
        now = self._clock()
        if now - self._log_at >= LOG_EVERY_S:
            self._log_at = now
            log.warning("tier %s fails, reads go on without it: %s", self.name, type(fault).__name__)
            log.debug("tier %s", self.name, exc_info=fault)
