"""How far it is: a bar on a terminal's stderr, else a line each ten seconds. Never on stdout, never when quiet."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from cleancache.cli.say import Say
from cleancache.spec import size_text

BAR_S = 0.1
LINE_S = 10.0
WIDTH = 30


class Progress(AbstractContextManager["Progress"]):
    """Bytes done of a total. Threads: `add` from any."""

    def __init__(self, say: Say, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = 0
        self._say, self._total, self._clock = say, total, clock
        self._bar = sys.stderr.isatty() and not say.quiet
        self._lock = threading.Lock()  # guards `done` and `_next`
        self._began = clock()
        self._next = self._began + (BAR_S if self._bar else LINE_S)

    def add(self, count: int) -> None:
        """*count* more bytes are done."""
        with self._lock:
            self.done += count
            now = self._clock()
            if now < self._next:
                return
            self._next = now + (BAR_S if self._bar else LINE_S)
            text = self.text(now)
        if self._bar:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        else:
            self._say.note(text)

    def text(self, now: float) -> str:
        """One line: how much, how fast, how long still."""
        rate = self.done / max(now - self._began, 1e-6)
        share = min(1.0, self.done / self._total) if self._total else 1.0
        bar = f"[{'#' * int(share * WIDTH):<{WIDTH}}] " if self._bar else ""
        left = f", {(self._total - self.done) / rate:.0f} s left" if rate and self._total > self.done else ""
        return f"{bar}{share:4.0%}  {size_text(self.done)} of {size_text(self._total)}, {size_text(int(rate))}/s{left}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
