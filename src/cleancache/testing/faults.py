"""The n-th call of a site fails, n = 1, 2, 3 …, until a scenario runs through untouched (M13, X12, X13).

A site is a callable of a class, an object or a module: an allocation, a reservation, a codec, a system call. Nothing in
the product knows of it. After each run the scenario itself checks that bytes are right or missing and the books exact.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """What became of an armed site: how often it was called, how often it failed."""

    calls: int = 0
    fired: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def _count(self) -> int:
        with self._lock:
            self.calls += 1
            return self.calls


@contextmanager
def nth(owner: Any, name: str, n: int, error: Callable[[], Any] = MemoryError, *, times: int = 1) -> Iterator[Fault]:
    """Inside the block the *n*-th call of `owner.name` fails: *error* makes what is raised, or returned if none.

    *times*: so many calls fail, from the *n*-th on.

    >>> import os
    >>> with nth(os, "getpid", 2, OSError) as fault:
    ...     first = os.getpid()
    ...     try:
    ...         os.getpid()
    ...     except OSError:
    ...         print(fault.calls, fault.fired)
    2 1
    """
    fault, real = Fault(), getattr(owner, name)
    held = vars(owner).get(name) if hasattr(owner, "__dict__") else None

    def failing(*args: Any, **kwargs: Any) -> Any:
        if not n <= fault._count() < n + times:
            return real(*args, **kwargs)
        fault.fired += 1
        made = error()
        if isinstance(made, BaseException):
            raise made
        return made

    is_method = isinstance(owner, type) and callable(held) and not isinstance(held, staticmethod | classmethod)
    setattr(owner, name, (lambda self, *a, **k: failing(self, *a, **k)) if is_method else failing)
    try:
        yield fault
    finally:
        if held is not None:
            setattr(owner, name, held)
        else:
            delattr(owner, name)


def each_nth(
    scenario: Callable[[], object],
    owner: Any,
    name: str,
    error: Callable[[], Any] = MemoryError,
    *,
    most: int = 500,
    stride: int = 1,
) -> int:
    """Run *scenario* with the 1st, 2nd, 3rd … call of the site failing, until none fails; the number of failures.

    *stride*: after the first ten, only every so many-th call fails, where a scenario reaches a site very often.

    Raises: AssertionError, when the site is never reached, or still fails after *most* runs.
    """
    n, failures = 1, 0
    while failures < most:
        with nth(owner, name, n, error) as fault:
            scenario()
        if not fault.fired:
            assert failures, f"the site {name} was never reached"
            return failures
        failures += 1
        n += 1 if n < 10 else stride
    raise AssertionError(f"the site {name} was reached more than {n} times")
