"""A back end of twenty lines, and one that fails on command: what the tests of the binding put behind slots."""

from __future__ import annotations

import threading
from collections import Counter

from cleancache.backend import Backend, Buffer, Stats
from cleancache.handle import Handle, Scope
from cleancache.spec import Tier


class Dict:
    """Keeps every page; counts exactly; in this process, so it has no deadline."""

    deadline_s = None

    def __init__(self) -> None:
        self.pages: dict[Handle, bytes] = {}
        self.calls: list[str] = []
        self.flushed: list[Scope] = []
        self.is_closed = False
        self._counts: Counter[str] = Counter()
        self._flushes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def put(self, handle: Handle, data: Buffer) -> bool:
        with self._lock:
            self.calls.append("put")
            self._counts["puts"] += 1
            self._counts["replaced" if handle in self.pages else "stored"] += 1
            self.pages[handle] = bytes(data)
            return True

    def get(self, handle: Handle) -> bytes | None:
        with self._lock:
            self.calls.append("get")
            self._counts["gets"] += 1
            self._counts["hits" if handle in self.pages else "absent"] += 1
            return self.pages.get(handle)

    def flush(self, scope: Scope) -> bool:
        with self._lock:
            self.calls.append("flush")
            self.flushed.append(scope)
            self._flushes[scope.kind] += 1
            for handle in [handle for handle in self.pages if scope.covers(handle)]:
                del self.pages[handle]
                self._counts["flushed"] += 1
            return True

    def stats(self) -> Stats:
        with self._lock:
            count = self._counts
            return Stats(
                gets=count["gets"],
                hits=count["hits"],
                misses={"absent": count["absent"]},
                puts=count["puts"],
                stored=count["stored"],
                replaced=count["replaced"],
                flushes=dict(self._flushes),
                left={"flushed": count["flushed"], "lost": count["lost"]},
                resident_pages=len(self.pages),
            )

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            self._counts["lost"] += len(self.pages)
            self.pages.clear()


class Makes:
    """A factory that remembers what it made, and fails with `fault` while there is one."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.made: list[Dict] = []
        self.asked = 0

    def __call__(self, tier: Tier) -> Backend:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        self.made.append(Dict())
        return self.made[-1]
