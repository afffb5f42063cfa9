"""The ways in: bare make lists the targets, the development set is locked, a second bootstrap is instant."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import cannot
from tests.project.tree import TOP


def run(*words: str, cwd: Path = TOP, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, timeout=60, env=os.environ | variables, stdin=subprocess.DEVNULL
    )


def test_bare_make_lists_the_targets() -> None:
    if shutil.which("make") is None:
        cannot("make is not installed")
    written = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))

    done = run("make", "--no-print-directory", MAKEFLAGS="", MFLAGS="")

    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^  make ([a-z]+)", done.stdout, re.MULTILINE)) == written


def test_everything_that_is_developed_with_is_locked() -> None:
    with (TOP / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    groups = project["dependency-groups"]

    def wanted(group: str) -> set[str]:
        found: set[str] = set()
        for item in groups[group]:
            found |= wanted(item["include-group"]) if isinstance(item, dict) else {re.split(r"[\[<>=~; ]", item)[0]}
        return found

    names = wanted("dev") | {re.split(r"[\[<>=~; ]", item)[0] for item in project["project"]["dependencies"]}
    locked = set(re.findall(r"^([\w.-]+)==", (TOP / "requirements" / "dev.txt").read_text(), re.MULTILINE))

    assert {item.lower() for item in names} - locked == set()


def test_a_second_bootstrap_does_nothing(tmp_path: Path) -> None:
    for part in ("pyproject.toml", "requirements", "scripts"):
        (tmp_path / part).symlink_to(TOP / part)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    script = tmp_path / "bootstrap-copy"
    script.write_text((TOP / "scripts" / "bootstrap").read_text())
    # the stamp that the script would write is worked out the way it works it out
    line = next(line for line in script.read_text().splitlines() if line.startswith("want="))
    want = run("bash", "-c", f'cd "$0"; {line}; printf %s "$want"', str(tmp_path), cwd=tmp_path).stdout
    (tmp_path / ".venv" / ".stamp").write_text(want)

    done = run(
        "bash", "-c", f'cd {tmp_path}; sed "/^cd /d" bootstrap-copy | bash -s', PYTHON="no-such-python", cwd=tmp_path
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_python_that_is_too_old_or_missing_is_one_sentence(tmp_path: Path) -> None:
    for part in ("pyproject.toml", "requirements"):
        (tmp_path / part).symlink_to(TOP / part)
    shutil.copytree(TOP / "scripts", tmp_path / "scripts")

    done = run("bash", "scripts/bootstrap", PYTHON="no-such-python", cwd=tmp_path)

    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_every_change_is_one_sentence_to_a_user() -> None:
    kinds = {"feature", "fix", "breaking", "doc"}
    for path in (TOP / "changes").glob("*.md"):
        assert path.stem.split(".")[1] in kinds, path.name
        assert path.read_text().strip().endswith("."), path.name
        assert len(path.read_text().strip().splitlines()) == 1, path.name


@pytest.mark.parametrize("script", ["scripts/bootstrap", "scripts/debian", "scripts/lock", "scripts/lowest", ".ci/run"])
def test_scripts_parse(script: str) -> None:
    done = run("bash", "-n", script)

    assert done.returncode == 0, done.stderr


def test_the_last_line_of_ci_counts_tests_and_is_left_out_when_nobody_knows(tmp_path: Path) -> None:
    cases = "<testcase/><testcase><failure/></testcase><testcase><error/></testcase><testcase><skipped/></testcase>"
    (tmp_path / "check.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    (tmp_path / "soak.xml").write_text("<testsuites><testsuite><testcase/></testsuite></testsuites>")

    known = run(sys.executable, "scripts/count", str(tmp_path), "check", "soak")
    unknown = run(sys.executable, "scripts/count", str(tmp_path), "check", "lowest")

    assert (known.returncode, known.stdout.splitlines()[-1]) == (0, "2 passed, 2 failed")
    assert unknown.returncode == 1
    assert "lowest: no result" in unknown.stdout.splitlines()[-1]
