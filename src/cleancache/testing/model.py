"""What a handle may still answer: the last accepted, unflushed bytes, or nothing.

`Model` is for one caller: it knows the one value that a get may give. `History` is for many: it keeps when each call
began and ended, and finds a get that no serial order explains. In *lawful* mode one handle has one content, for ever;
then a refusal that a shared engine could not be told leaves the same bytes, and that is no fault (docs/laws.md, 1.7).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from cleancache.backend import Backend
from cleancache.handle import Handle, Scope
from cleancache.testing.contents import described
from cleancache.testing.sums import Miss

Mode = Literal["hostile", "lawful"]


class Model:
    """The one value that each handle may give.

    >>> model, handle = Model(), Handle(bytes(16), bytes(24), 0)
    >>> model.put(handle, b"A", True)
    >>> model.got(handle, b"A")
    >>> model.flush(Scope(bytes(16)), True)
    >>> model.got(handle, b"A")
    Traceback (most recent call last):
    AssertionError: V3: page 0 gave 1 bytes b'A', only a miss was right
    """

    def __init__(self, mode: Mode = "hostile") -> None:
        self.mode = mode
        self.values: dict[Handle, bytes] = {}
        self._ended: dict[Handle, str] = {}  # the law under which a handle without a value must miss

    def put(self, handle: Handle, data: bytes, accepted: bool) -> None:
        """Note what a put answered."""
        if accepted:
            self.values[handle] = data
        elif self.mode == "hostile":
            self._end(handle, "V2")

    def _end(self, handle: Handle, law: str) -> None:
        if self.values.pop(handle, None) is not None:
            self._ended[handle] = law

    def got(self, handle: Handle, data: bytes | None, *, is_fault: bool = False, takes: bool = False) -> None:
        """Check what a get answered; *takes*: a hit on this tier takes the page away.

        Raises: AssertionError.
        """
        want = self.values.get(handle)
        if data is None:
            if want is not None and not is_fault:
                self._end(handle, "V5")  # get-get: from now on every get misses
            return
        if data != want:
            law = "V1" if want is not None else self._ended.get(handle, "V5")
            right = "only a miss was right" if want is None else f"right was {described(want)} or a miss"
            raise AssertionError(f"{law}: page {handle.page} gave {described(data)}, {right}")
        if takes:
            self._end(handle, "V8")

    def ask(self, backend: Backend, handle: Handle, *, is_faulty: bool = False, takes: bool = False) -> None:
        """Get and check; where faults can be, the counters say whether a miss says anything.

        Raises: AssertionError.
        """
        if not is_faulty:
            self.got(handle, backend.get(handle), takes=takes)
            return
        with Miss(backend) as miss:
            data = backend.get(handle)
        self.got(handle, data, is_fault=miss.reason != "absent", takes=takes)

    def flush(self, scope: Scope, answer: bool) -> None:
        """Note a flush."""
        if answer or self.mode == "hostile":
            for handle in self.covered(scope):
                self._end(handle, "V3")

    def covered(self, scope: Scope) -> list[Handle]:
        """The handles of *scope* that may still hit."""
        return [handle for handle in self.values if scope.covers(handle)]


@dataclass(slots=True)
class _Past:
    puts: dict[int, tuple[int, int, bool]] = field(default_factory=dict)  # number -> begin, end, accepted
    ends: list[tuple[int, int]] = field(default_factory=list)  # (end, begin) of whatever ended older values
    gets: list[tuple[int, int, int | None]] = field(default_factory=list)  # begin, end, number or None for a miss


class History:
    """Calls of many threads with their begin and end, and the check that a serial order explains them.

    For each handle: a get may give the value of put P only if P did not end as a refusal before the get began, and no
    other call X that ends older values (a put of either answer, a flush, a hit of another value, an absent miss)
    began after P ended and ended before the get began.
    """

    def __init__(self, *, is_faulty: bool = False, takes: bool = False) -> None:
        self._is_faulty = is_faulty
        self._takes = takes
        self._past: dict[Handle, _Past] = defaultdict(_Past)

    def put(self, handle: Handle, number: int, begin: int, end: int, accepted: bool) -> None:
        """A put that was answered."""
        past = self._past[handle]
        past.puts[number] = (begin, end, accepted)
        past.ends.append((end, begin))

    def flush(self, handles: Iterable[Handle], begin: int, end: int) -> None:
        """A flush that covers *handles*."""
        for handle in handles:
            self._past[handle].ends.append((end, begin))

    def get(self, handle: Handle, begin: int, end: int, number: int | None) -> None:
        """A get that gave the page of put *number*, or missed."""
        self._past[handle].gets.append((begin, end, number))

    def check(self) -> int:
        """Check all, forget all; the number of gets that were judged.

        Raises: AssertionError.
        """
        judged = 0
        for handle, past in self._past.items():
            judged += self._judge(handle, past)
        self._past.clear()
        return judged

    def _judge(self, handle: Handle, past: _Past) -> int:
        for begin, end, number in past.gets:
            if number is None:
                if not self._is_faulty:
                    past.ends.append((end, begin))  # V5
                continue
            assert number in past.puts, f"V9: page {handle.page} gave put {number}, which nobody made"
            past.ends.append((end, begin) if self._takes else (end, past.puts[number][0]))
        past.ends.sort()
        ends = [end for end, _ in past.ends]
        latest, top = [], -1
        for _, began in past.ends:
            top = max(top, began)
            latest.append(top)
        for begin, _, number in past.gets:
            if number is None:
                continue
            _, put_end, accepted = past.puts[number]
            assert accepted or begin < put_end, f"V2: page {handle.page} gave put {number}, which was refused"
            before = bisect_left(ends, begin)
            assert before == 0 or latest[before - 1] < put_end, (
                f"V9: page {handle.page} gave put {number}, which ended at {put_end}; a call that ends it ran from "
                f"{latest[before - 1]} and had ended when the get began at {begin}"
            )
        return len(past.gets)
