"""What the tests of local files share: contents, and a clock that is ahead, so that files come of age without
waiting."""

from __future__ import annotations

import random
import time

CONTENT = random.Random(5).randbytes(150_000)
LATER_NS = 3_000_000_000


class Wall:
    """The wall clock, moved on by so much: files come of age without waiting."""

    def __init__(self, ahead_ns: int = LATER_NS) -> None:
        self.ahead_ns = ahead_ns

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns
