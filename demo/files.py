"""Which files are served: real ones of the Python installation that runs the demo; text, bytecode, shared libraries.

Chosen by a fixed seed among the larger ones, so two runs on one machine serve the same. Bounded in number and bytes.
"""

from __future__ import annotations

import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path

LEAST_BYTES, MOST_BYTES = 4 << 10, 8 << 20  # of one file


@dataclass(frozen=True, slots=True)
class Kind:
    """Files with one suffix: at most *files* of them, at most *share* of all bytes."""

    name: str
    suffix: str
    files: int
    share: float


KINDS = (Kind("text", ".py", 24, 0.2), Kind("bytecode", ".pyc", 24, 0.2), Kind("libraries", ".so", 16, 0.6))


def choose(total_bytes: int) -> dict[str, Path]:
    """At most *total_bytes* of real files, by the name they are served under."""
    tops = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found: dict[str, set[Path]] = {kind.suffix: set() for kind in KINDS}
    for top in dict.fromkeys(tops):
        for path in top.rglob("*"):
            if path.suffix in found and path.is_file() and LEAST_BYTES <= path.stat().st_size <= MOST_BYTES:
                found[path.suffix].add(path.resolve())
    chosen: dict[str, Path] = {}
    for kind in KINDS:
        by_size = sorted(found[kind.suffix], key=lambda path: (path.stat().st_size, path), reverse=True)
        candidates = by_size[: 4 * kind.files]
        random.Random(kind.name).shuffle(candidates)
        left_bytes, left_files = int(total_bytes * kind.share), kind.files
        for path in candidates:
            size = path.stat().st_size
            if size <= left_bytes and left_files:
                chosen[f"{kind.name}/{len(chosen):03d}-{path.name}"] = path
                left_bytes -= size
                left_files -= 1
    if not chosen:
        raise FileNotFoundError(f"no Python files of 4 KiB or more below {', '.join(map(str, dict.fromkeys(tops)))}")
    return chosen
