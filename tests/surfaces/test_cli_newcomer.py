"""What somebody types who has not read the documents: each answer is true, one sentence, and says what to do next."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cleancache
from cleancache.cli import main
from cleancache.cli.say import hide
from tests.surfaces.running import run
from tests.surfaces.web import Site, serving


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("CLEANCACHE_", "_CLEANCACHE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site")) as site:
        site.write("a.bin", random.Random(3).randbytes(100_000))
        yield site


@pytest.mark.parametrize(
    "words", [["cat", "--stck", "x"], ["cat"], ["chek"], ["cat", "x", "--range=5"], ["completion", "tcsh"]]
)
def test_a_mistake_of_usage_is_one_line_that_names_the_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(words)

    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("cleancache: ")
    assert said.count("\n") == 1
    assert "--help'" in said


def test_the_list_of_commands_has_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])

    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_a_pattern_that_nothing_matches_is_an_error_and_not_an_empty_answer(tmp_path: Path) -> None:
    got = run("cat", str(tmp_path / "*.parquet"), home=tmp_path)

    assert (got.returncode, got.stdout) == (1, b"")
    assert b"nothing of this pattern" in got.stderr


def test_check_with_no_tier_promises_no_pages(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", "--stack", "none", f"{site.url}/a.bin"])

    said = capsys.readouterr().out
    assert code == 0
    assert "its pages are kept" not in said
    assert "no tier" in said


def test_check_refuses_what_reading_would_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    for stack in ("zcache+tmem", "zcache:2G+zcache:1G", "zcache:1G+zcache:2G"):
        code = main(["check", "--stack", stack])

        assert code == 1
        assert "this version takes one" in capsys.readouterr().out


def test_check_says_what_is_missing_without_the_name_of_a_class(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)

    code = main(["check", "gs://bucket/name"])

    said = capsys.readouterr().out
    assert code == 1
    assert "pip install 'cleancache[gcs]'" in said
    assert "Exception" not in said


def test_what_stands_behind_a_hidden_value_stays() -> None:
    assert hide("http://h/a?token=abc: 4 MiB") == "http://h/a?token=…: 4 MiB"
    assert hide("('http://h/a?token=a,b&sig=c/d==', 3)") == "('http://h/a?token=…&sig=…', 3)"


@pytest.mark.parametrize(
    ("stack", "advice"),
    [
        ("zcache:1G:codec=zstd", "write zcache:codec=zstd:1G"),
        ("zcache:1G:codec=zstd:exclusive=yes", "write zcache:codec=zstd:exclusive=yes:1G"),
        ("zcache:limit=1G", "the limit is the last part, as zcache:512M"),
        ("zcache:codek=zstd:1G", "did you mean codec?"),
    ],
)
def test_a_stack_in_the_wrong_order_is_told_the_right_one(
    stack: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["cat", "--stack", stack, os.devnull])

    assert code == 2
    assert advice in capsys.readouterr().err


def test_open_takes_a_path_object_as_open_does(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"a,b\n1,2\n")

    with cleancache.open(tmp_path / "x.csv", stack="zcache:pressure=no:8M") as file:
        assert file.read() == b"a,b\n1,2\n"


def test_a_device_is_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["cat", os.devnull])

    assert code == 1
    assert capsys.readouterr().err.count("only regular files are read") == 1
