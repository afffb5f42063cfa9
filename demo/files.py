"""Which files are served: real ones of the Python installation that runs the demo; text, bytecode, shared libraries.

Chosen by a fixed seed among the larger ones, so two runs on one machine serve the same. Bounded in number and bytes.
"""

from __future__ import annotations

import os
import random
import sysconfig
from collections.abc import Iterator
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


KINDS = (Kind("text", ".py", 20, 0.2), Kind("bytecode", ".pyc", 20, 0.2), Kind("libraries", ".so", 24, 0.6))


def walk(top: str) -> Iterator[os.DirEntry[str]]:
    """Every ordinary file below *top* that this user may see; links are not followed."""
    try:
        entries = sorted(os.scandir(top), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield entry


def choose(total_bytes: int) -> dict[str, Path]:
    """At most *total_bytes* of real files, by the name they are served under."""
    tops = dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    found: dict[str, dict[str, int]] = {kind.suffix: {} for kind in KINDS}
    for top in tops:
        for entry in walk(top):
            suffix = os.path.splitext(entry.name)[1]
            if suffix in found and os.access(entry.path, os.R_OK):
                found[suffix][entry.path] = entry.stat().st_size
    chosen: dict[str, Path] = {}
    for kind in KINDS:
        left_bytes, left_files = int(total_bytes * kind.share), kind.files
        fit = [(size, path) for path, size in found[kind.suffix].items() if LEAST_BYTES <= size <= left_bytes // 4]
        candidates = sorted((size, path) for size, path in fit if size <= MOST_BYTES)[-4 * kind.files :]
        random.Random(kind.name).shuffle(candidates)
        for size, path in candidates:
            if size <= left_bytes and left_files:
                chosen[f"{kind.name}/{len(chosen):03d}-{os.path.basename(path)}"] = Path(path)
                left_bytes -= size
                left_files -= 1
    if not chosen:
        raise FileNotFoundError(f"no Python files of 4 KiB or more below {', '.join(tops)}")
    return chosen
