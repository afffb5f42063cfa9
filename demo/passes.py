"""The work that is measured, a fresh process for each way of reading: two whole passes, random pieces, a change.

Only the reads are timed; every byte that they give is then compared with the file it came from. The job arrives as one
JSON document on stdin, the result leaves as one on stdout.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from demo.server import CONTROL

PIECES_A_FILE = 4
PIECE_BYTES = (512, 64 << 10)


class WrongBytesError(Exception):
    """Bytes came back that the source does not have."""


@dataclass(slots=True)
class Phase:
    """What one phase took and what it cost the source."""

    seconds: float = 0.0
    requests: int = 0
    source_bytes: int = 0
    read_bytes: int = 0


class Job:
    """One way of reading: a prefix before the URL and its options."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.base: str = order["base"]
        self.files: dict[str, Path] = {name: Path(path) for name, path in order["files"].items()}
        self.changing: str = order["changing"]
        self.fs, _ = fsspec.url_to_fs(f"{order['prefix']}{self.base}", **order["options"])

    def counts(self) -> dict[str, int]:
        """What the server has counted so far."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            self.base + CONTROL, timeout=10
        ) as reply:
            counted: dict[str, int] = json.load(reply)
        return counted

    def measure(self, work: list[tuple[str, list[tuple[int, int]]]]) -> Phase:
        """Read *work*, file by file and piece by piece, and compare everything that came back."""
        phase, before = Phase(), self.counts()
        for name, pieces in work:
            begun = time.perf_counter()
            got = []
            with self.fs.open(f"{self.base}/{name}", "rb") as file:
                for offset, size in pieces:
                    file.seek(offset)
                    got.append(file.read(size))
            phase.seconds += time.perf_counter() - begun
            want = self.files[name].read_bytes()
            for (offset, size), data in zip(pieces, got, strict=True):
                if data != (want[offset:] if size < 0 else want[offset : offset + size]):
                    raise WrongBytesError(f"{name}: {len(data)} bytes at {offset} differ from the file")
                phase.read_bytes += len(data)
        after = self.counts()
        phase.requests = after["requests"] - before["requests"]
        phase.source_bytes = after["bytes"] - before["bytes"]
        return phase

    def whole(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """Every file from its first byte to its last."""
        return [(name, [(0, -1)]) for name in self.files]

    def random_pieces(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """Some pieces of every file, of random size at random places, in random order; the same in every process."""
        chance = random.Random(1)
        names = list(self.files)
        chance.shuffle(names)
        work = []
        for name in names:
            size = self.files[name].stat().st_size
            work.append((name, [(chance.randrange(size), chance.randint(*PIECE_BYTES)) for _ in range(PIECES_A_FILE)]))
        return work

    def change(self) -> bool:
        """Put other bytes of the same length in the place of a file; say whether the next read gives the new ones."""
        path = self.files[self.changing]
        old = path.read_bytes()
        middle = len(old) // 2
        new = old[:middle] + bytes(255 - byte for byte in old[middle : middle + 4096]) + old[middle + 4096 :]
        beside = path.with_suffix(".new")
        beside.write_bytes(new)
        os.replace(beside, path)
        with self.fs.open(f"{self.base}/{self.changing}", "rb") as file:
            got = file.read()
        if got not in (old, new):
            raise WrongBytesError(f"{self.changing}: neither the old bytes nor the new ones after a change")
        return bool(got == new)


def held_bytes(folder: str) -> int:
    """What lies below *folder*, in bytes of disk."""
    return sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())


def store_facts(stack: str) -> dict[str, Any]:
    """What the store of *stack* in this process says of itself (docs/accounting.md)."""
    from cleancache.registry import default

    stats = default.connect(stack).stats()
    used = stats.used_bytes or {}
    unique, logical = stats.unique_bytes or 0, stats.logical_bytes or 0
    return {
        "gets": stats.gets,
        "hits": stats.hits,
        "evicted": (stats.left or {}).get("evicted", 0),
        "refused": dict(stats.refused),
        "held_bytes": sum(used.values()),
        "pages_bytes": used.get("pages", 0),
        "limit_bytes": stats.limit_bytes,
        "logical_bytes": logical,
        "unique_bytes": unique,
        "compression": unique / used["pages"] if used.get("pages") else None,
        "sharing": logical / unique if unique else None,
    }


def main() -> None:
    """Do the job on stdin and print what it took."""
    order = json.load(sys.stdin)
    job = Job(order)
    phases = {
        "first": job.measure(job.whole()),
        "second": job.measure(job.whole()),
        "pieces": job.measure(job.random_pieces()),
    }
    fresh = job.change()
    result: dict[str, Any] = {
        "phases": {
            name: {field: getattr(phase, field) for field in Phase.__dataclass_fields__}
            for name, phase in phases.items()
        },
        "new_bytes_after_change": fresh,
    }
    if order.get("folder"):
        result["held_bytes"] = held_bytes(order["folder"])
    if order.get("stack"):
        result |= store_facts(order["stack"])
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
