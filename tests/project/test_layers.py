"""The house of docs/design.md: which file may import which, and what the lowest rows must not know.

Imports go to rows above, or further left in the same row; but no engine imports another. A file that is on no row
fails: a new file is placed here and in docs/design.md together.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.tree import SRC, name

ROWS = (
    "errors handle spec ledger codec policy debts",  # 0 names: no clock, no lock, no I/O
    "backend tally memory",  # 1 the contract, how it is counted; what the kernel says about memory
    "store guard pressure",  # 2 engines: know the contract, not one another
    "backends",  # 3 places
    "config slot registry pool",  # 4 binding: never imports backends
    "source reader",  # 5 reading
    "frontends metrics cli testing",  # 6 surfaces
)
ENGINES, BINDING, SURFACES = 2, 4, 6
PLACE = {
    part: (row, 0 if row == ENGINES else at) for row, parts in enumerate(ROWS) for at, part in enumerate(parts.split())
}
TOP_PLACE = (99, 0)  # cleancache/__init__.py stands above all of them

# third-party modules: only in the files whose work needs them, loaded at first use (style: import cleancache < 50 ms)
MAY_IMPORT_OTHERS = {"__init__", "codec", "store", "backends", "source", "frontends", "metrics", "cli", "testing"}
UNCLOCKED = {"time", "socket", "asyncio", "threading", "subprocess", "select"}
EXCUSED = {
    ("codec", "threading"): "a compressor and a decompressor for each thread: threading.local, no lock",
}


def modules() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(SRC).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that *path* imports anywhere, as a dotted name, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports are absolute"
            module = node.module or ""
            if module == "cleancache":
                yield from ((f"cleancache.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


@pytest.mark.parametrize("path", modules(), ids=name)
def test_imports_point_down(path: Path) -> None:
    here = part_of(path)
    assert here == "__init__" or here in PLACE, f"{name(path)}: place it on a row of the house"
    place = TOP_PLACE if here == "__init__" else PLACE[here]
    for module, line in imports(path):
        if not module.startswith("cleancache."):
            continue
        there = module.split(".")[1]
        if there not in PLACE:  # a public name of the package itself, as in `from cleancache import connect`
            assert place[0] == SURFACES, f"{name(path)}:{line}: only surfaces use the package as users do"
            continue
        assert there == here or PLACE[there] < place, f"{name(path)}:{line}: {here} imports {there}"
        if place[0] == BINDING:
            assert there != "backends", f"{name(path)}:{line}: the binding knows back ends by entry points only"


@pytest.mark.parametrize("path", modules(), ids=name)
def test_third_party_modules_stay_where_they_are_needed(path: Path) -> None:
    here = part_of(path)
    for module, line in imports(path):
        top = module.split(".")[0]
        if top == "cleancache" or top in sys.stdlib_module_names:
            continue
        assert here in MAY_IMPORT_OTHERS, f"{name(path)}:{line}: {here} imports {top}"


@pytest.mark.parametrize("path", [path for path in modules() if PLACE.get(part_of(path), (9, 0))[0] == 0], ids=name)
def test_names_know_no_clock_and_no_lock(path: Path) -> None:
    for module, line in imports(path):
        top = module.split(".")[0]
        assert top not in UNCLOCKED or (part_of(path), top) in EXCUSED, f"{name(path)}:{line}: {top}"


def test_importing_cleancache_is_quick_and_brings_no_big_modules() -> None:
    program = (
        "import sys, time; begun = time.process_time(); import cleancache; took = time.process_time() - begun; "
        "print(took, *{'fsspec', 'click', 'aiohttp', 'lz4', 'numpy'} & set(sys.modules))"
    )

    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(5)
    ]

    words = [run.stdout.split() for run in runs]
    assert all(len(line) == 1 for line in words), words
    assert min(float(line[0]) for line in words) < 0.05
