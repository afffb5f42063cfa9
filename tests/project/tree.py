"""Where things are in the repository, for the tests that read it as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SRC = TOP / "src" / "cleancache"
DOCS = TOP / "docs"
FOLDERS = ("src", "tests", "bench", "demo", "scripts", "docs", "changes", "requirements", ".ci")
BUILT = {"__pycache__", "results"}


def files(*suffixes: str) -> Iterator[Path]:
    """Every file of the project that a person wrote, or those that end in one of *suffixes*."""
    found = [path for path in TOP.iterdir() if path.is_file() and not path.name.startswith((".coverage", ".git"))]
    for folder in FOLDERS:
        found += [path for path in (TOP / folder).rglob("*") if path.is_file() and not BUILT & set(path.parts)]
    for path in sorted(found):
        if not suffixes or path.suffix in suffixes:
            yield path


def name(path: Path) -> str:
    """*path* as it is written in messages: relative to the top of the repository."""
    return str(path.relative_to(TOP))
