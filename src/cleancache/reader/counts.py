"""The Reader's counters, exact under threads, and the measured cost of cache and source.

R7: the sum of `read_bytes` is what callers got. Bytes of a flight that another call leads count as `cache`: this
call did not fetch them.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock

from cleancache.backend import Stats

BYPASS_S = 1.0
SLOW_S = 0.001  # below a millisecond a page no cache is worth going round
SLOWER = 2.0
SAMPLES = 4


class Counts:
    """Counters that only rise.  Threads: any."""

    def __init__(self) -> None:
        self._lock = RLock()
        self.cache_bytes = self.source_given = 0
        self.source_reads = self.source_bytes = self.source_errors = 0
        self.source_seconds = 0.0
        self.joined = self.changed = self.unversioned = self.unleased = self.stale_hits = 0

    def gave(self, cache_bytes: int, source_bytes: int) -> None:
        """A caller got this much."""
        with self._lock:
            self.cache_bytes += cache_bytes
            self.source_given += source_bytes

    def asked(self, seconds: float, source_bytes: int, *, has_failed: bool) -> None:
        """One request to the source ended."""
        with self._lock:
            self.source_reads += 1
            self.source_bytes += source_bytes
            self.source_seconds += seconds
            self.source_errors += has_failed

    def more(self, name: str, number: int = 1) -> None:
        """Add to the counter *name*."""
        with self._lock:
            setattr(self, name, getattr(self, name) + number)

    def stats(self) -> Stats:
        """A snapshot."""
        with self._lock:
            return Stats(
                read_bytes={"cache": self.cache_bytes, "source": self.source_given},
                source_reads=self.source_reads,
                source_bytes=self.source_bytes,
                source_seconds=self.source_seconds,
                source_errors=self.source_errors,
                joined=self.joined,
                changed=self.changed,
                unversioned=self.unversioned,
                unleased=self.unleased,
                stale_hits=self.stale_hits,
            )


class Costs:
    """Whether the cache is worth asking: what a page costs from it, against the source's moving average (X41).

    When `SAMPLES` calls one after another were slow, and each slower than the source would have been, the cache is
    left alone for a second and then tried again. Not an average of the cache's own times: a process that lost the CPU
    for 10 ms once would leave a good cache for it. Torn updates between threads cost a sample, so there is no lock.
    """

    def __init__(self) -> None:
        self._source_s = 0.0
        self.slow_gets = self.slow_puts = 0  # in a row
        self.until: float | None = None  # the cache is left alone so long

    def asked(self, seconds: float, clock: Callable[[], float]) -> None:
        """A get of one page took so long."""
        if seconds > SLOW_S:
            self.slow_gets = self._judge(seconds, clock, self.slow_gets)
        elif self.slow_gets:
            self.slow_gets = 0

    def offered(self, seconds: float, clock: Callable[[], float]) -> None:
        """A put of one page took so long."""
        if seconds > SLOW_S:
            self.slow_puts = self._judge(seconds, clock, self.slow_puts)
        elif self.slow_puts:
            self.slow_puts = 0

    def _judge(self, seconds: float, clock: Callable[[], float], slow: int) -> int:
        if not 0 < self._source_s * SLOWER < seconds:
            return 0
        if slow + 1 < SAMPLES:
            return slow + 1
        self.until = clock() + BYPASS_S
        return SAMPLES - 1  # after the rest one slow call more is enough

    def source(self, seconds: float) -> None:
        """A page from the source took so long."""
        self._source_s = seconds if self._source_s == 0.0 else self._source_s + (seconds - self._source_s) / 4

    def is_bypassed(self, clock: Callable[[], float]) -> bool:
        """Say whether to leave the cache alone now.  Cost: no look at the clock while the cache is well."""
        until = self.until
        if until is None:
            return False
        if clock() < until:
            return True
        self.until = None
        return False
