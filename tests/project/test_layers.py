"""The house of docs/design.md: which file may import which, and what the lowest rows must not know.

Imports go to rows above, or further left in the same row; but no engine imports another. A file that is on no row
fails: a new file is placed here and in docs/design.md together.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.project.tree import SRC, TOP, name

ROWS = (
    "errors handle spec ledger codec policy debts breaker",  # 0 names: no clock, no lock, no I/O
    "backend tally memory",  # 1 the contract, how it is counted; what the kernel says about memory
    "store guard pressure",  # 2 engines: know the contract, not one another
    "backends",  # 3 places
    "config slot registry pool",  # 4 binding: never imports backends
    "source reader",  # 5 reading
    "metrics frontends cli testing",  # 6 surfaces
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


def complaint(path: Path, module: str) -> str | None:
    """What is wrong with *path* importing *module*, if anything is."""
    here, top = part_of(path), module.split(".")[0]
    if top != "cleancache":
        return None if top in sys.stdlib_module_names or here in MAY_IMPORT_OTHERS else f"{here} imports {top}"
    place, there = TOP_PLACE if here == "__init__" else PLACE[here], module.partition(".")[2].split(".")[0]
    if there not in PLACE:  # a public name of the package itself, as in `from cleancache import connect`
        return None if place[0] == SURFACES else "only surfaces use the package as users do"
    if there == "backends" and place[0] == BINDING:
        return "the binding knows back ends by entry points only"
    return None if there == here or PLACE[there] < place else f"{here} imports {there}"


def test_every_file_stands_on_a_row() -> None:
    assert {part_of(path) for path in modules()} - {"__init__"} <= set(PLACE)


def test_imports_point_down_and_third_party_modules_stay_where_they_are_needed() -> None:
    found = [
        f"{name(path)}:{line}: {fault}"
        for path in modules()
        if part_of(path) in PLACE or part_of(path) == "__init__"
        for module, line in imports(path)
        if (fault := complaint(path, module))
    ]

    assert found == []


def test_names_know_no_clock_and_no_lock() -> None:
    found = [
        f"{name(path)}:{line}: {module}"
        for path in modules()
        if PLACE.get(part_of(path), TOP_PLACE)[0] == 0
        for module, line in imports(path)
        if module.split(".")[0] in UNCLOCKED and (part_of(path), module.split(".")[0]) not in EXCUSED
    ]

    assert found == []


def test_the_design_shows_the_same_rows() -> None:
    shown = re.findall(r"^\| \d [a-z]+ \| ([^|]+) \|", (TOP / "docs" / "design.md").read_text(), re.MULTILINE)

    assert [set(re.findall(r"`(\w+)`", row)) for row in shown] == [set(row.split()) for row in ROWS]


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
