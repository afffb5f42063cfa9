"""What no file of the project may contain: bare lint exceptions, paths of one machine, hosts that only some reach."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.project.tree import TOP, files, name

MAX_LINES = 400  # at 400 look for the second idea

# written with character classes, so that this file does not contain what it looks for
PATHS = re.compile(r"(?<![\w.])/(?:roo[t]|wor[k])/")
HOSTS = re.compile(r"pyp[i]\.(?:org|io)|python[h]osted|deb\.debia[n]\.|index-ur[l]=")
EXCEPTION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma: no cover|pylint)")
REASONED = re.compile(
    r"#\s*noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*[ :;,–-]+\s*\S+"
    r"|#\s*type: ignore\[[\w, -]+\]\s+#\s*\S+ \S+"
    r"|#\s*pragma: no cover\W+\S+"
)
TODO = re.compile(r"#\s*(?:TOD[O]|FIXM[E]|XX[X])\b(?!.*#\d)")

PYTHON = list(files(".py"))
TEXT = [path for path in files() if path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ""}]


def lines(path: Path, pattern: re.Pattern[str]) -> list[str]:
    text = path.read_text(errors="replace").splitlines()
    return [f"{name(path)}:{at}: {line.strip()}" for at, line in enumerate(text, 1) if pattern.search(line)]


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_file_holds_one_idea(path: Path) -> None:
    count = len(path.read_text().splitlines())

    assert count <= MAX_LINES, f"{name(path)} has {count} lines: look for the second idea in it"


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_every_lint_exception_carries_its_reason(path: Path) -> None:
    if path == Path(__file__):
        return
    bare = [line for line in lines(path, EXCEPTION) if not REASONED.search(line)]

    assert bare == []


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_a_task_left_over_has_a_number(path: Path) -> None:
    assert lines(path, TODO) == []


@pytest.mark.parametrize("path", [path for path in TEXT if path.name != "LICENSE"], ids=name)
def test_no_file_knows_a_machine_or_a_registry(path: Path) -> None:
    assert lines(path, PATHS) + lines(path, HOSTS) == []


def test_scripts_can_be_run() -> None:
    for path in [*(TOP / "scripts").iterdir(), TOP / ".ci" / "run"]:
        if path.suffix == "":
            assert path.stat().st_mode & 0o100, f"{name(path)} is not executable"
            assert path.read_text().startswith("#!"), f"{name(path)} names no interpreter"
