"""Back ends that misbehave on command, and a clock that only moves when told.

`Flaky` raises or loses its answers, as a socket does: it is what a `Guard` stands before. `Slow` takes its time, in
virtual or real seconds, and can be held at a call. `Full` refuses by reason and keeps the laws while it does so.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

from cleancache.backend import Backend, Buffer, Stats
from cleancache.handle import Handle, Scope


class FakeClock:
    """Seconds that pass only by `advance` and `sleep`; give it wherever a clock is taken.

    >>> clock = FakeClock()
    >>> clock.advance(2.5)
    >>> clock()
    1002.5
    """

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Now, in seconds."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        with self._lock:
            self._now_s += seconds

    sleep = advance


class Around:
    """A back end around another one, which changes nothing: override what shall be different."""

    def __init__(self, backend: Backend) -> None:
        self.inner = backend

    @property
    def max_page_bytes(self) -> int | None:
        """That of the tier inside, None where it names none."""
        return getattr(self.inner, "max_page_bytes", None)

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Put inside."""
        return self.inner.put(handle, data)

    def get(self, handle: Handle) -> bytes | None:
        """Get inside."""
        return self.inner.get(handle)

    def flush(self, scope: Scope) -> bool:
        """Flush inside."""
        return self.inner.flush(scope)

    def stats(self) -> Stats:
        """What the tier inside counted."""
        return self.inner.stats()

    def close(self) -> None:
        """Close the tier inside."""
        self.inner.close()


class Flaky(Around):
    """A tier whose calls fail while `is_down`, or are done and then fail while `loses_answers`.

    *rate* makes only that share of the calls fail (1.0: all), by a seeded generator. It raises: a `Guard` belongs
    before it.

    >>> flaky = Flaky(Shelf())
    >>> flaky.is_down = True
    >>> flaky.get(Handle(bytes(16), bytes(24), 0))
    Traceback (most recent call last):
    OSError: the flaky tier is down
    """

    def __init__(self, backend: Backend, *, rate: float = 1.0, seed: int = 0) -> None:
        super().__init__(backend)
        self.is_down = False
        self.loses_answers = False
        self.faults = 0
        self._rate = rate
        self._random = Random(seed)

    def _fails(self) -> bool:
        return self._rate >= 1.0 or self._random.random() < self._rate

    def _before(self) -> None:
        if self.is_down and self._fails():
            self.faults += 1
            raise OSError("the flaky tier is down")

    def _after(self) -> None:
        if self.loses_answers and self._fails():
            self.faults += 1
            raise OSError("the flaky tier lost its answer")

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Put, or raise."""
        self._before()
        done = self.inner.put(handle, data)
        self._after()
        return done

    def get(self, handle: Handle) -> bytes | None:
        """Get, or raise."""
        self._before()
        page = self.inner.get(handle)
        self._after()
        return page

    def flush(self, scope: Scope) -> bool:
        """Flush, or raise; when the answer is lost, it was done."""
        self._before()
        done = self.inner.flush(scope)
        self._after()
        return done


class Slow(Around):
    """A tier whose every call takes *seconds* of the given clock, and that can be held at a call.

    >>> clock = FakeClock()
    >>> Slow(Shelf(), clock, 0.5).get(Handle(bytes(16), bytes(24), 0))
    >>> clock()
    1000.5
    """

    def __init__(self, backend: Backend, clock: FakeClock | None = None, seconds: float = 0.0) -> None:
        super().__init__(backend)
        self.seconds = seconds
        self.waiting = threading.Semaphore(0)  # released once for each call that reached the gate while it was held
        self._clock = clock
        self._gate = threading.Event()
        self._gate.set()
        self._held: frozenset[str] = frozenset()

    @contextmanager
    def held(self, *verbs: str) -> Iterator[None]:
        """Hold calls of *verbs* (all, when none is named) before they reach the tier, until the block ends."""
        self._held = frozenset(verbs or ("put", "get", "flush"))
        self._gate.clear()
        try:
            yield
        finally:
            self._gate.set()
            self._held = frozenset()

    def _wait(self, verb: str) -> None:
        if self._clock is not None:
            self._clock.advance(self.seconds)
        if verb in self._held:
            self.waiting.release()
            self._gate.wait()

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Put, late."""
        self._wait("put")
        return self.inner.put(handle, data)

    def get(self, handle: Handle) -> bytes | None:
        """Get, late."""
        self._wait("get")
        return self.inner.get(handle)

    def flush(self, scope: Scope) -> bool:
        """Flush, late."""
        self._wait("flush")
        return self.inner.flush(scope)


class Full(Around):
    """A tier that refuses every put for `reason` while there is one, and drops the older copy, as the law asks.

    >>> full = Full(Shelf(), "quota")
    >>> full.put(Handle(bytes(16), bytes(24), 0), b"clean"), full.stats().refused
    (False, {'quota': 1})
    """

    def __init__(self, backend: Backend, reason: str | None = "full") -> None:
        super().__init__(backend)
        self.reason = reason
        self._refused: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards the counter

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Refuse with the reason of now; without one the tier inside decides."""
        reason = self.reason
        if reason is None:
            return self.inner.put(handle, data)
        self.inner.flush(Scope(*handle))
        with self._lock:
            self._refused[reason] += 1
        return False

    def stats(self) -> Stats:
        """The counts inside, with the refusals made here; a refusal's own flush is not counted as a call."""
        inner = self.inner.stats()
        with self._lock:
            own = Counter(self._refused)
        flushes = Counter(inner.flushes)
        flushes["page"] -= own.total()
        return replace(
            inner,
            puts=inner.puts + own.total(),
            refused=dict(Counter(inner.refused) + own),
            flushes={scope: n for scope, n in flushes.items() if n},
        )
