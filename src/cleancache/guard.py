"""The one place that turns the faults of a tier into misses and refusals.

Deadline, breaker, debts (law 1.6). An exception, an answer of the wrong type or a call that took longer than the
deadline is a failure; five in a row open the breaker, which then answers at once (`down`) and lets one probe through
now and then. What the tier could not be told is *owed*: it misses and is refused (`owed`) until it was paid; debts are
paid first, in order, on contact.

Why the hot path has no lock: one flag (`_odd`) says that anything at all is unusual. It is read after the call was
counted as begun, and set before anything is waited for, so either a call sees the flag or whoever set it sees the call
under way.

Why the counts are exact under any fault: the guard counts begun calls and outcomes itself; of the tier's statistics it
only takes how its misses and refusals divide into reasons, and what is left over is `absent`, `full` and `stored`.

`ask` and `offer` are `get` and `put` that also give the reason: bytes or a reason, True or a reason. A refusal and a
miss are values.

The lock guards debts, breaker and the list of pools; it is never held across a call of the tier. `except Exception`
stands in this package here, and only here; KeyboardInterrupt and its like pass, but what was under way is owed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container
from dataclasses import replace
from typing import TypeVar

from cleancache.backend import Backend, Buffer, Stats
from cleancache.debts import EVERYTHING, Debts
from cleancache.handle import Handle, Scope, is_valid, scope_is_valid
from cleancache.tally import Reasons, Tally

log = logging.getLogger("cleancache.guard")

T = TypeVar("T")

DEADLINE_S = 0.05  # laws 1.6; a back end that computes in this process says `deadline_s = None`
FAILURES_TO_OPEN = 5
RETRY_S = (1.0, 30.0)  # first and greatest pause of an open breaker; it doubles in between
LOG_EVERY_S = 60.0  # one line a tier and minute (law P5)
DRAIN_STEP_S = 0.002


def attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What *work* gives, or what it raised: how the binding calls code that is not ours, such as factories."""
    try:
        return work(), None
    except Exception as fault:
        return None, fault


class Guard:
    """A back end in front of another one whose faults become misses, refusals and debts.

    *shared*: pools in which a refused put owes nothing (laws 1.7: one handle, the same bytes for all members).

    Laws: 1.1, 1.6, C9, C11, V13, R1, R2. Raises: nothing but what is no Exception. Threads: any. Cost: 0.25 µs a hit.
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
        self.left = False
        self._backend: Backend | None = backend
        self._get, self._put = backend.get, backend.put
        self._deadline_s = deadline_s
        self._clock = clock
        self._shared = shared
        self._gets, self._hits, self._nothing = Tally(), Tally(), Tally()
        self._puts, self._kept, self._declined = Tally(), Tally(), Tally()
        self._flushes, self._flushed = Reasons(), Tally()
        self._missed, self._refused = Reasons(), Reasons()  # what the guard itself answered
        self._debts = Debts()
        self._pools: set[bytes] = set()  # that this process named here: what a debt of everything covers
        self._failures = 0
        self._open_until: float | None = None
        self._pause_s = RETRY_S[0]
        self._probing = self._paying = False
        self._closed = False
        self._odd = False  # debts, breaker or the end: leave the hot path
        self._lock = threading.Lock()
        self._snapshot = Stats()
        self._reported: dict[str, int] = {}
        self._log_at = float("-inf")

    # -- the verbs

    def get(self, handle: Handle) -> bytes | None:
        """The bytes of *handle*, or None."""
        data = self.ask(handle)
        return data if type(data) is bytes else None

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Keep *data*, or refuse; what could not be told to the tier is owed."""
        return self.offer(handle, data) is True

    def ask(self, handle: Handle) -> bytes | str:
        """The bytes of *handle*, or the reason of the miss."""
        self._gets.step()
        if self._odd and (reason := self._obstacle(handle)):
            self._missed.step(reason)
            return reason
        began = 0.0 if self._deadline_s is None else self._clock()
        try:
            data = self._get(handle)
        except Exception as fault:
            return self._miss(self._blame(handle, fault))
        except BaseException:
            self._missed.step("down")
            self._release_probe()
            raise
        if type(data) is bytes:
            if (
                self._odd
                or self._failures
                or (self._deadline_s is not None and self._clock() - began > self._deadline_s)
            ):
                self._succeed(began)
                if self.left:
                    return self._miss("empty")
            self._hits.step()
            return data
        if data is not None:
            return self._miss(self._blame(handle, TypeError(f"get gave {type(data).__name__}, not bytes or None")))
        if self._odd or self._failures or (self._deadline_s is not None and self._clock() - began > self._deadline_s):
            self._succeed(began)
            if self.left:
                return self._miss("empty")
        self._nothing.step()
        return "absent"

    def offer(self, handle: Handle, data: Buffer) -> bool | str:
        """True: kept; or the reason of the refusal (`full`: the tier's own statistics know better)."""
        self._puts.step()
        if not is_valid(handle):
            return self._refuse("malformed")
        if handle[0] not in self._pools:
            with self._lock:
                self._pools.add(handle[0])
        if self._odd and (reason := self._obstacle(handle)):
            self._owe_refused(handle)
            return self._refuse(reason)
        began = 0.0 if self._deadline_s is None else self._clock()
        try:
            kept = self._put(handle, data)
        except Exception as fault:
            self._owe_refused(handle)
            return self._refuse(self._blame(handle, fault))
        except BaseException:
            self._owe_refused(handle)
            self._refused.step("down")
            self._release_probe()
            raise
        if type(kept) is not bool:
            self._owe_refused(handle)
            return self._refuse(self._blame(handle, TypeError(f"put gave {type(kept).__name__}, not a bool")))
        if self._odd or self._failures or (self._deadline_s is not None and self._clock() - began > self._deadline_s):
            self._succeed(began)
            if self.left:
                self._owe_refused(handle)
                return self._refuse("empty")
        if kept:
            self._kept.step()
            return True
        self._declined.step()
        return "full"

    def flush(self, scope: Scope) -> bool:
        """Forget *scope*; what the tier could not be told is owed and not served."""
        if not scope_is_valid(scope):
            self._flushes.step(scope.kind)
            self._flushed.step()
            return True
        with self._lock:
            self._pools.add(scope.pool)
        self._flushes.step(scope.kind)
        try:
            return self._flush(scope)
        finally:
            self._flushed.step()

    def _flush(self, scope: Scope) -> bool:
        if self._odd and self._obstacle(None):
            self.owe(scope)
            return False
        try:
            return self._tell(scope)
        except Exception as fault:
            self.owe(scope)
            self._fail(fault)
            return False
        except BaseException:
            self.owe(scope)
            self._release_probe()
            raise

    def _tell(self, scope: Scope) -> bool:
        """Flush *scope* in the tier itself; raises what the tier raises, and if its answer is none."""
        backend = self._backend
        if backend is None:
            raise RuntimeError("the back end is closed")
        began = self._clock()
        answer = backend.flush(scope)
        if type(answer) is not bool:
            raise TypeError(f"flush gave {type(answer).__name__}, not a bool")
        self._succeed(began)
        return answer

    def stats(self) -> Stats:
        """What was asked of the tier through this guard, with the tier's own gauges; waits for no tier.

        Own counts are read before the tier's, and no number ever falls: a scrape in the middle of calls sees at most
        less.
        """
        gets, hits, nothing = self._gets.value, self._hits.value, self._nothing.value
        puts, kept, declined = self._puts.value, self._kept.value, self._declined.value
        missed, refused = self._missed.values(), self._refused.values()
        backend = self._backend
        if backend is not None:
            try:
                below = backend.stats()
                self._snapshot = below if isinstance(below, Stats) else self._snapshot
            except Exception as fault:
                self._log(fault)
        below = self._snapshot
        misses = _add(missed, _divide(nothing, below.misses, "absent"))
        refusals = _add(refused, _divide(declined, below.refused, "full"))
        replaced = min(below.replaced, kept)
        with self._lock:
            high = self._reported
            for label, number in [
                *(("m" + reason, n) for reason, n in misses.items()),
                *(("r" + reason, n) for reason, n in refusals.items()),
                ("=", replaced),
                ("+", kept - replaced),
            ]:
                high[label] = max(number, high.get(label, 0))
            return replace(
                below,
                gets=gets,
                hits=hits,
                misses={label[1:]: n for label, n in high.items() if label[0] == "m" and n},
                puts=puts,
                stored=high["+"],
                replaced=high["="],
                refused={label[1:]: n for label, n in high.items() if label[0] == "r" and n},
                flushes=self._flushes.values(),
                debts=len(self._debts),
                breaker_open=int(self._open_until is not None),
            )

    def close(self) -> None:
        """Close the tier; then puts refuse, gets miss (`down`), a flush answers False."""
        with self._lock:
            backend, self._backend = self._backend, None
            self._closed = self._odd = True
        if backend is not None:
            self._last_stats(backend)
            try:
                backend.close()
            except Exception as fault:
                self._log(fault)
            self._get, self._put = _gone, _gone_put

    def _last_stats(self, backend: Backend) -> None:
        """Keep the tier's counters for ever, and none of its gauges."""
        try:
            last = backend.stats()
        except Exception as fault:
            self._log(fault)
            last = self._snapshot
        self._snapshot = Stats(misses=last.misses, refused=last.refused, replaced=last.replaced, left=last.left)

    # -- the end, as the slot needs it

    def leave(self) -> None:
        """From now on refuse and miss (`empty`); results of calls under way are void (law 1.5)."""
        with self._lock:
            self.left = self._odd = True

    @property
    def under_way(self) -> int:
        """Calls that began and have no outcome yet."""
        ended = self._hits.value + self._nothing.value + self._missed.total()
        ended += self._kept.value + self._declined.value + self._refused.total() + self._flushed.value
        return self._gets.value + self._puts.value + self._flushes.total() - ended

    def drain(self, deadline_s: float) -> bool:
        """Wait until no call is under way, at most *deadline_s*; say whether that is so."""
        wait = threading.Event().wait  # bounded by steps, not by the injected clock, which may stand still
        for _ in range(max(1, round(deadline_s / DRAIN_STEP_S))):
            if self.under_way <= 0:
                return True
            wait(DRAIN_STEP_S)
        return self.under_way <= 0

    def farewell(self, private: list[Scope]) -> set[bytes]:
        """Pay what is owed and flush the *private* pools; give the pools that could not be told."""
        if self._open_until is None:
            for scope in private:
                self.owe(scope)
            for _ in private or (None,):
                if self.settle() or self._open_until is not None:
                    break
        else:
            for scope in private:
                self.owe(scope)
        return self.owed_pools()

    def owed_pools(self) -> set[bytes]:
        """The pools in which anything is owed; everything is all pools that were named here."""
        with self._lock:
            pools = self._debts.pools()
            return self._pools | (pools - {b""}) if b"" in pools else pools

    def drop_after_fork(self) -> None:
        """In a forked child: new lock, and the tier may drop what it must not touch."""
        self._lock = threading.Lock()
        drop = getattr(self._backend, "drop_after_fork", None)
        if drop is not None:
            attempt(drop)

    # -- debts

    def owe(self, scope: Scope, *, refused: bool = False) -> None:
        """Note that *scope* must be flushed in the tier before anything of it is served."""
        with self._lock:
            self._debts.owe(scope, refused=refused)
            self._odd = True

    def _owe_refused(self, handle: Handle) -> None:
        if handle[0] not in self._shared:
            self.owe(Scope(*handle), refused=True)

    def settle(self) -> bool:
        """Pay what is owed, oldest first, until nothing is or the tier fails; say whether nothing is owed any more."""
        with self._lock:
            if self._paying:
                return False
            self._paying = True
        try:
            began = self._clock()
            while True:
                with self._lock:
                    debt = self._debts.first()
                    pools = list(self._pools) if debt and debt[0] == EVERYTHING else []
                if debt is None:
                    return True
                scope, stamp = debt
                for part in [Scope(pool) for pool in pools] if scope == EVERYTHING else [scope]:
                    self._tell(part)
                with self._lock:
                    self._debts.settle(scope, stamp)
                    self._settle_odd()
                if self._clock() - began > (self._deadline_s or DEADLINE_S):
                    return not len(self._debts)
        except Exception as fault:
            self._fail(fault)
            return False
        except BaseException:
            self._release_probe()
            raise
        finally:
            with self._lock:
                self._paying = False

    def _settle_odd(self) -> None:
        self._odd = bool(len(self._debts)) or self._open_until is not None or self.left or self._closed

    # -- the breaker

    def _obstacle(self, handle: Handle | None) -> str | None:
        """Why the tier may not be asked now, after trying what can be done about it; None: go on (as the probe, perhaps)."""
        if self._closed:
            return "down"
        if self.left:
            return "empty"
        if self._open_until is not None:
            with self._lock:
                if self._open_until is not None:
                    if self._probing or self._clock() < self._open_until:
                        return "down"
                    self._probing = True
        if len(self._debts):
            self.settle()
            if self._open_until is not None and not self._probing:
                return "down"
            with self._lock:
                owed = handle is not None and self._debts.covers(handle)
            if owed:
                self._release_probe()
                return "owed"
        return None

    def _blame(self, handle: Handle, fault: Exception) -> str:
        """The reason of a failed call: the caller's fault if the handle is none, else the tier's."""
        if not is_valid(handle):
            self._release_probe()
            return "malformed"
        self._fail(fault)
        return "down"

    def _fail(self, fault: Exception | None) -> None:
        with self._lock:
            self._failures += 1
            if self._probing or self._failures >= FAILURES_TO_OPEN:
                if self._open_until is not None:
                    self._pause_s = min(self._pause_s * 2, RETRY_S[1])
                self._open_until = self._clock() + self._pause_s
                self._probing = False
                self._odd = True
        if fault is not None:
            self._log(fault)

    def _succeed(self, began: float) -> None:
        """The tier answered; too late counts as a failure all the same."""
        if self._deadline_s is not None and self._clock() - began > self._deadline_s:
            self._fail(TimeoutError(f"took longer than {self._deadline_s * 1000:g} ms"))
            return
        with self._lock:
            self._failures = 0
            if self._open_until is not None and self._probing:
                self._open_until, self._pause_s, self._probing = None, RETRY_S[0], False
                self._settle_odd()

    def _release_probe(self) -> None:
        with self._lock:
            self._probing = False

    # -- counting and saying so

    def _miss(self, reason: str) -> str:
        self._missed.step(reason)
        return reason

    def _refuse(self, reason: str) -> str:
        self._refused.step(reason)
        return reason

    def _log(self, fault: Exception) -> None:
        now = self._clock()
        if now - self._log_at >= LOG_EVERY_S:
            self._log_at = now
            log.warning("tier %s fails, reads go on without it: %s", self.name, type(fault).__name__)
            log.debug("tier %s", self.name, exc_info=fault)


def _gone(handle: Handle) -> bytes | None:
    return None


def _gone_put(handle: Handle, data: Buffer) -> bool:
    return False


def _divide(total: int, reasons: object, rest: str) -> dict[str, int]:
    """*total* by the reasons that the tier counted; what it did not explain, or overcounted, is set right at *rest*."""
    parts: dict[str, int] = {}
    left = total
    if isinstance(reasons, dict) or hasattr(reasons, "items"):
        for reason, number in reasons.items():
            if reason != rest:
                parts[reason] = min(int(number), left)
                left -= parts[reason]
    parts[rest] = left
    return parts


def _add(one: dict[str, int], two: dict[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + two.get(reason, 0) for reason in {**one, **two}}
