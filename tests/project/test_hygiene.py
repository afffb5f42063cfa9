"""What no file of the project may contain: bare lint exceptions, paths of one machine, hosts that only some reach."""

from __future__ import annotations

import re
from pathlib import Path

from tests.project.tree import TOP, files, name

MAX_LINES = 400  # at 400 look for the second idea

# written with character classes, so that this file does not contain what it looks for
PATHS = re.compile(r"(?<![\w.])/(?:roo[t]|wor[k])/")
HOSTS = re.compile(r"pyp[i]\.(?:org|io)|python[h]osted|deb\.debia[n]\.|index-ur[l]=")
EXCEPTION = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma: no cover|pylint)")
REASONED = re.compile(
    r"#\s*noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*[ :;,–-]+\s*\S+"
    r"|#\s*type: ignore\[[\w, -]+\]\s+#\s*\S+"
    r"|#\s*pragma: no cover\W+\S+"
)
TODO = re.compile(r"#\s*(?:TOD[O]|FIXM[E]|XX[X])\b(?!.*#\d)")

PYTHON = list(files(".py"))
TEXT = [path for path in files() if path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ""}]


def faults(pattern: re.Pattern[str], *, among: list[Path], excused: re.Pattern[str] | None = None) -> list[str]:
    """Every line of *among* that *pattern* finds, unless *excused* finds it too; this file shows what it looks for."""
    return [
        f"{name(path)}:{at}: {line.strip()}"
        for path in among
        if path != Path(__file__)
        for at, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line) and not (excused and excused.search(line))
    ]


def test_a_file_holds_one_idea() -> None:
    counts = {name(path): len(path.read_text().splitlines()) for path in PYTHON}

    assert {path: count for path, count in counts.items() if count > MAX_LINES} == {}


def test_every_lint_exception_carries_its_reason() -> None:
    assert faults(EXCEPTION, among=PYTHON, excused=REASONED) == []


def test_a_task_left_over_has_a_number() -> None:
    assert faults(TODO, among=PYTHON) == []


def test_no_file_knows_a_machine_or_a_registry() -> None:
    among = [path for path in TEXT if path.name != "LICENSE"]

    assert faults(PATHS, among=among) + faults(HOSTS, among=among) == []


def test_scripts_can_be_run() -> None:
    for path in [*(TOP / "scripts").iterdir(), TOP / ".ci" / "run"]:
        if path.suffix == "":
            assert path.stat().st_mode & 0o100, f"{name(path)} is not executable"
            assert path.read_text().startswith("#!"), f"{name(path)} names no interpreter"
