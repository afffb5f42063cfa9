"""When a tier is given up, and when it is tried again (laws 1.6, C9). No lock (the guard brings one), no I/O.

Five faults in a row open it. Open, it lets nobody through until a pause is over, then one call: the probe. If the probe
succeeds it closes, if it fails the pause doubles. The clock is the guard's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FAILURES_TO_OPEN: Final = 5
RETRY_S: Final = (1.0, 30.0)  # first and greatest pause; it doubles in between


class Breaker:
    """Closed at first.

    >>> breaker = Breaker(clock=lambda: 0.0)
    >>> for _ in range(FAILURES_TO_OPEN):
    ...     breaker.failed()
    >>> breaker.is_open, breaker.lets_through()
    (True, False)
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.is_open = False
        self.failures = 0  # in a row
        self.is_probing = False
        self._clock = clock
        self._until = 0.0
        self._pause_s = RETRY_S[0]

    def lets_through(self) -> bool:
        """Say whether a call may go on; if it is open, that call is now the probe."""
        if not self.is_open:
            return True
        if self.is_probing or self._clock() < self._until:
            return False
        self.is_probing = True
        return True

    def failed(self) -> None:
        """A call failed."""
        self.failures += 1
        if self.is_probing or (self.failures >= FAILURES_TO_OPEN and not self.is_open):
            if self.is_open:
                self._pause_s = min(self._pause_s * 2, RETRY_S[1])
            self.is_open, self.is_probing = True, False
            self._until = self._clock() + self._pause_s

    def succeeded(self) -> None:
        """A call succeeded."""
        self.failures = 0
        if self.is_probing:
            self.is_open = self.is_probing = False
            self._pause_s = RETRY_S[0]
