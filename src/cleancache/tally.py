"""Counters that any thread steps without a lock, that never lose a step, and that add up (N1, N2, R1–R3).

`n += 1` on an attribute loses steps between threads; a lock costs 100 ns and may be held by another thread at a fork.
`itertools.count` steps in one uninterruptible call (35 ns), so it is both exact and free of locks. Law N1 rests on this
file.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from cleancache.backend import MISSES, REFUSALS, Stats

DRAIN_STEP_S: Final = 0.002


class Tally:
    """Starts at 0; `step()` adds one and gives the new value.

    Threads: any. Cost: one C call a step; reading `value` is slower (0.3 µs) and meant for statistics.

    >>> tally = Tally()
    >>> tally.step(), tally.step(), tally.value
    (1, 2, 2)
    """

    __slots__ = ("_count", "step")

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self.step: Callable[[], int] = self._count.__next__

    @property
    def value(self) -> int:
        """How often it was stepped; its repr, "count(n)", is the only way to look without stepping."""
        return int(repr(self._count)[6:-1]) - 1


class Reasons:
    """A family of tallies by label, made as labels are met.

    >>> refused = Reasons()
    >>> refused.step("full")
    >>> refused.values()
    {'full': 1}
    """

    __slots__ = ("_tallies",)

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def step(self, label: str) -> None:
        """Add one to *label*; two threads that meet a new label at once still count in the same tally."""
        tally = self._tallies.get(label)
        if tally is None:
            tally = self._tallies.setdefault(label, Tally())
        tally.step()

    def values(self) -> dict[str, int]:
        """The counts by label."""
        return {label: tally.value for label, tally in list(self._tallies.items())}

    def total(self) -> int:
        """All labels together."""
        return sum(self.values().values())


def drained(is_quiet: Callable[[], bool], deadline_s: float) -> bool:
    """Wait until *is_quiet*, at most *deadline_s* of real time: calls under way do not run by an injected clock."""
    wait = threading.Event().wait
    for _ in range(max(1, round(deadline_s / DRAIN_STEP_S))):
        if is_quiet():
            return True
        wait(DRAIN_STEP_S)
    return is_quiet()


class Account:
    """The calls to one tier as whoever stands before it saw them, divided by what the tier itself counted.

    The outcomes seen from here are exact whatever the tier does, so R1 and R2 hold for every fault. The tier's
    statistics only say *why*: how its misses and refusals divide into reasons (the rest: `absent`, `full`), how
    accepted puts divide into stored and replaced, and which puts of unknown outcome (an exception, a void result) it
    did after all; those count as it says, so that R3 holds as well. No number ever falls: own counts are read before
    the tier's, and doubtful ones only when quiet.
    """

    def __init__(self) -> None:
        self.gets, self.hits, self.nothing = Tally(), Tally(), Tally()
        self.puts, self.kept, self.declined = Tally(), Tally(), Tally()
        self.flushes, self.flushed = Reasons(), Tally()
        self.missed, self.refused = Reasons(), Reasons()  # from here: the tier was not asked, or raised in a get
        self.unknown = Reasons()  # puts of which nobody knows whether the tier did them, by the reason given
        self._lock = threading.RLock()  # guards the three below; held across nothing
        self._judged: dict[str, int] = {}  # `unknown` when last all was quiet
        self._done = (0, 0)  # of `unknown`: accepted and refused by the tier, when last all was quiet
        self._reported: dict[tuple[str, str], int] = {}

    @property
    def begun(self) -> int:
        """Calls begun."""
        return self.gets.value + self.puts.value + self.flushes.total()

    @property
    def under_way(self) -> int:
        """Calls that began and have no outcome yet. Outcomes are read first: it is never too small."""
        ended = self.hits.value + self.nothing.value + self.missed.total() + self.flushed.value
        ended += self.kept.value + self.declined.value + self.refused.total() + self.unknown.total()
        return self.begun - ended

    def stats(self, tier: Callable[[], Stats]) -> Stats:
        """The statistics of *tier* with the counts of this account in the place of its own."""
        begun = self.begun
        was_quiet = self.under_way == 0
        gets, hits, nothing = self.gets.value, self.hits.value, self.nothing.value
        puts, kept, declined = self.puts.value, self.kept.value, self.declined.value
        missed, refused, unknown = self.missed.values(), self.refused.values(), self.unknown.values()
        below = tier()
        with self._lock:
            if was_quiet and self.begun == begun:
                doubtful = sum(unknown.values())
                accepted = min(max(below.stored + below.replaced - kept, 0), doubtful)
                self._done = accepted, min(max(sum(below.refused.values()) - declined, 0), doubtful - accepted)
                self._judged = unknown
            accepted, turned_down = self._done
            unknown = self._judged  # what came since is as good as under way, until all is quiet
            kept, declined, told = kept + accepted, declined + turned_down, accepted + turned_down
            for reason in sorted(unknown, reverse=True):  # `empty` first: a void result was surely counted there
                known = min(unknown[reason], told)
                refused[reason] = refused.get(reason, 0) + unknown[reason] - known
                told -= known
            replaced = min(below.replaced, kept)
            return replace(
                below,
                gets=gets,
                hits=hits,
                misses=self._rising("misses", _added(missed, _divided(nothing, below.misses, MISSES))),
                puts=puts,
                stored=self._rising("stored", {"": kept - replaced}).get("", 0),
                replaced=self._rising("replaced", {"": replaced}).get("", 0),
                refused=self._rising("refused", _added(refused, _divided(declined, below.refused, REFUSALS))),
                flushes=self.flushes.values(),
            )

    def _rising(self, family: str, counts: Mapping[str, int]) -> dict[str, int]:
        high = self._reported
        for label, number in counts.items():
            high[family, label] = max(number, high.get((family, label), 0))
        return {label: number for (of, label), number in high.items() if of == family and number}


def _divided(total: int, reasons: Mapping[str, int], known: tuple[str, ...]) -> dict[str, int]:
    """*total* by the *reasons* that the tier counted; what they do not explain is `absent` or `full`.

    Only *known* labels go on, whatever a tier says (N3).
    """
    parts: dict[str, int] = {}
    left = total
    rest = "absent" if "absent" in known else "full"
    for reason in known:
        if reason != rest:
            parts[reason] = min(max(reasons.get(reason, 0), 0), left)
            left -= parts[reason]
    parts[rest] = left
    return parts


def _added(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + two.get(reason, 0) for reason in {**one, **two}}


def of_the_gone(stats: Stats) -> Stats:
    """Of a tier that is gone: what it counted, and how many pages it says it still holds."""
    gauges: dict[str, Any] = {field.name: None for field in fields(Stats) if field.metadata["kind"] == "gauge"}
    return replace(stats, **(gauges | {"resident_pages": stats.resident_pages}))


def added_up(*parts: Stats) -> Stats:
    """Counters added up, families label by label; a field that no part knows stays unknown.

    >>> added_up(Stats(gets=1, misses={"absent": 1}), Stats(misses={"absent": 1, "down": 2})).misses
    {'absent': 2, 'down': 2}
    """
    total: dict[str, Any] = {}
    for each in parts:
        for field in fields(Stats):
            value = getattr(each, field.name)
            if value is not None:
                total[field.name] = _plus(total[field.name], value) if field.name in total else value
    return Stats(**total)


def _plus(one: Any, two: Any) -> Any:
    if isinstance(one, Mapping):
        return {
            label: _plus(one[label], two[label]) if label in one and label in two else {**one, **two}[label]
            for label in {**one, **two}
        }
    return tuple(a + b for a, b in zip(one, two, strict=True)) if isinstance(one, tuple) else one + two
