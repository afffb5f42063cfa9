"""docs/write-a-back-end.md: its back end keeps the laws, its five lines find a fault, its tables name what exists."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cleancache.testing
from cleancache.handle import Handle, Scope
from cleancache.registry import Registry
from cleancache.testing import Laws, run_laws
from cleancache.testing.machine import run_machine
from cleancache.testing.suite import Bench

PAGE = Path(__file__).parents[2] / "docs" / "write-a-back-end.md"


def blocks() -> list[str]:
    """The Python of the page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@contextmanager
def example() -> Iterator[dict[str, Any]]:
    """The names that the page defines, with temporary directories that end with the block."""
    with tempfile.TemporaryDirectory() as top:
        names: dict[str, Any] = {"tempfile": _In(top)}
        for block in blocks():
            exec(compile(block, str(PAGE), "exec"), names)
        yield names


class _In:
    def __init__(self, top: str) -> None:
        self._top = top

    def mkdtemp(self) -> str:
        """A directory that is gone when the test is."""
        return tempfile.mkdtemp(dir=self._top)


def test_the_back_end_of_the_page_keeps_every_law() -> None:
    with example() as names:
        suite: type[Laws] = names["TestFiles"]
        assert run_laws(suite().make, steps=100, seconds=0.1) >= 16
        run_machine(suite().make, examples=5, steps=20, max_page_bytes=1 << 20)


def test_the_second_suite_of_the_page_runs_with_its_switch() -> None:
    with example() as names:
        assert run_laws(names["TestFull"]().make, switches=True, steps=300, seconds=0.1) >= 18


def test_the_five_lines_are_five() -> None:
    (lines,) = [block for block in blocks() if "class TestFiles" in block]

    assert len([line for line in lines.splitlines() if line.strip()]) <= 5


@pytest.mark.parametrize(
    ("old", "new", "law"),
    [
        ("            if known:\n", "            if False:\n", "V2"),
        ('self.path(scope) + "-*"', 'self.path(scope) + "-0"', "V3|V12"),
    ],
    ids=["a refused put keeps the older copy", "a flush finds page 0 only"],
)
def test_the_five_lines_find_a_fault(old: str, new: str, law: str) -> None:
    source = blocks()[0]
    assert old in source
    with tempfile.TemporaryDirectory() as top:
        names: dict[str, Any] = {}
        exec(compile(source.replace(old, new), str(PAGE), "exec"), names)

        def make() -> Any:
            return names["Files"](Path(tempfile.mkdtemp(dir=top)))

        with pytest.raises(AssertionError, match=law):
            run_laws(make, steps=300, seconds=0.1)


def test_the_kind_of_the_page_fills_a_slot() -> None:
    with example() as names, tempfile.TemporaryDirectory() as top:
        registry = Registry(group=None)
        registry.register("files", names["connect"])
        slot = registry.connect(f"files:{top}")
        handle = Handle(bytes(16), bytes(24), 7)

        assert slot.put(handle, b"page")
        assert slot.get(handle) == b"page"
        assert slot.flush(Scope(bytes(16)))
        assert slot.get(handle) is None
        registry.close()


def test_every_public_name_of_the_kit_is_on_the_page() -> None:
    words = set(re.findall(r"[\w.]+", PAGE.read_text()))

    assert {name for name in cleancache.testing.__all__ if name not in words} == set()
    assert set(vars(Bench)["__annotations__"]) - words == set()
