"""The command's words: exit codes, mistakes, colour, completion. What reads a source is in `test_cli_reading.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cleancache import __version__, registry
from cleancache.backend import Absent
from cleancache.cli import main
from cleancache.cli.app import app
from cleancache.cli.say import colour, hide, sentence
from cleancache.handle import Scope, shared_pool
from tests.surfaces.running import COMMAND, environment, run

COMMANDS = ("bench", "cat", "check", "completion", "config", "flush", "stats", "warm")


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("CLEANCACHE_", "_CLEANCACHE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_version_names_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--version"])

    said = capsys.readouterr().out
    assert code == 0
    for word in (__version__, "python", "fsspec", "lz4", "xxhash", f"kernel {os.uname().release}"):
        assert word in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([command, "--help"])

    assert code == 0
    assert "Usage: cleancache" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["warn", "x"], "did you mean 'warm'?"),
        (["config", "shwo"], "did you mean 'show'?"),
        (["zzz"], "known: bench, cat"),
        (["warm", "--dry-ru", "x"], "--dry-run"),
        (["cat", "--stac", "none", "x"], "--stack"),
        (["cat"], "URL"),
        (["cat", "x", "--range", "5"], "START:END"),
        (["cat", "x", "--range", "a:b"], "START:END"),
        (["cat", "x", "-o", "anon"], "NAME=VALUE"),
        (["cat", "x", "-o", "max_stale=3"], "--max-stale"),
        (["cat", "x", "-o", "pool=6f1c"], "set CLEANCACHE_POOL"),
        (["cat", "x", "-o", "a=1", "-o", "a.b=1"], "has no place"),
        (["cat", "x", "--limit", "lots"], "lots"),
        (["cat", "x", "--stack", "zcache:+"], "zcache:256M"),
        (["completion", "tcsh"], "bash"),
    ],
)
def test_a_mistake_is_usage_and_names_the_nearest_right_word(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(words)

    streams = capsys.readouterr()
    assert code == 2
    assert hint in streams.err
    assert "Traceback" not in streams.err
    assert streams.out == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["completion", shell])

    assert code == 0
    assert "_CLEANCACHE_COMPLETE" in capsys.readouterr().out


def test_completion_completes(tmp_path: Path) -> None:
    got = run(home=tmp_path, _CLEANCACHE_COMPLETE="bash_complete", COMP_WORDS="cleancache wa", COMP_CWORD="1")

    assert got.stdout.split() == [b"plain,warm"]


@pytest.mark.parametrize(
    ("choice", "environ", "want"),
    [
        ("auto", {}, None),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": ""}, None),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_the_flag_wins_over_no_color_and_that_over_force_color(
    choice: str, environ: dict[str, str], want: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert colour(choice) is want


@pytest.mark.parametrize("words", [["check", "--color=always"], ["--color=always", "check"]])
def test_colour_is_there_when_asked_for_and_else_not_in_a_pipe(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(words)
    coloured = capsys.readouterr().out
    main(["check"])
    plain = capsys.readouterr().out

    assert "\x1b[" in coloured
    assert "\x1b[" not in plain


def test_no_credential_is_shown() -> None:
    said = hide("GET https://me:secret@host/a?X-Amz-Signature=abc&versionId=1 failed")

    assert said == "GET https://host/a?X-Amz-Signature=…&versionId=… failed"


def test_errors_are_one_sentence() -> None:
    assert sentence(FileNotFoundError(2, "No such file", "/a/b")) == "the source has nothing of this name: /a/b"
    assert sentence(PermissionError("no")) == "the source does not allow it: no"
    assert sentence(RuntimeError("a\nb")) == "RuntimeError: a b"


def test_stats_say_where_the_counters_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--stack", "zcache:32M"]) == 0
    assert "metrics.snapshot()" in capsys.readouterr().out

    assert main(["stats", "--stack", "zcache:32M", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["stack"] == "zcache:32M"
    assert document["memory_allowed_bytes"] > 0
    assert "zcache" in document["known"]
    assert document["tiers"]["zcache:32M"]["limit_bytes"] <= 32 << 20


def test_stats_print_text_that_prometheus_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--stack", "zcache:32M", "--format=prometheus"]) == 0

    from prometheus_client.parser import text_string_to_metric_families

    names = {family.name for family in text_string_to_metric_families(capsys.readouterr().out)}
    assert {"cleancache_build_info", "cleancache_gets", "cleancache_limit_bytes"} <= names


def test_check_names_an_unknown_kind_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", "--stack", "zcahe:1G", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 1
    assert not found["ok"]
    (bad,) = [each for each in found["findings"] if each["verdict"] == "bad"]
    assert "'zcahe'" in bad["text"]
    assert "zcache" in bad["do"]


@pytest.mark.parametrize(
    ("words", "environ", "is_coloured"),
    [
        (["--color=always"], {}, True),
        ([], {"FORCE_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["--color=never"], {"FORCE_COLOR": "1"}, False),
        ([], {}, False),
    ],
)
def test_a_problem_has_the_colour_that_was_asked_for(
    words: list[str], environ: dict[str, str], is_coloured: bool, tmp_path: Path
) -> None:
    got = run("cat", *words, "/no/such/file", home=tmp_path, **environ)

    assert got.returncode == 1
    assert (b"\x1b[" in got.stderr) is is_coloured


def test_check_is_content_with_a_stack_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--stack", "zcache:32M"]) == 0
    assert "bad" not in capsys.readouterr().out


def test_check_refuses_a_limit_beyond_the_memory_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--stack", "zcache:900T"]) == 1
    assert "--limit" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["https://127.0.0.1:1/x", "6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5"])
def test_flush_says_that_no_tier_is_shared(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["flush", target, "--stack", "zcache:32M"])

    assert code == 1
    assert "no tier that processes share" in capsys.readouterr().err


class Shared(Absent):
    """A tier that other processes share, as far as `flush` can see."""

    def __init__(self, told: list[Scope], *, is_near: bool) -> None:
        self.told, self.is_near = told, is_near

    def flush(self, scope: Scope) -> bool:
        self.told.append(scope)
        return self.is_near


@pytest.mark.parametrize("is_near", [True, False])
def test_flush_reaches_a_tier_that_is_shared(
    is_near: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Scope] = []
    pool = "6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5"
    registry.default.register("shared", lambda tier: Shared(told, is_near=is_near))
    try:
        code = main(["flush", pool, "--stack", "shared"])
        said = capsys.readouterr().err
        main(["flush", __file__, "--stack", "shared"])
        without_pool = capsys.readouterr().err
        monkeypatch.setenv("CLEANCACHE_POOL", pool)
        main(["flush", __file__, "--stack", "shared"])
    finally:
        registry.default.unregister("shared")

    assert told[0] == Scope(shared_pool(pool))
    assert (code, "flushed pool 6f1c2d3e" in said) == ((0, True) if is_near else (1, False))
    assert "CLEANCACHE_POOL" in without_pool
    assert any(scope.pool == shared_pool(pool) and scope.object is not None for scope in told)


def test_config_show_prints_values_and_where_they_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEANCACHE_MAX_STALE", "30s")

    assert main(["config", "show", "--origin", "--json", "--stack", "none"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["stack"]["value"] == "none"
    assert "CLEANCACHE_MAX_STALE" in document["max_stale"]["origin"]
    assert main(["config", "show"]) == 0
    assert "max_stale" in capsys.readouterr().out


def test_config_show_takes_the_settings_of_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cleancache").mkdir()
    (tmp_path / "cleancache" / "config.toml").write_text(
        '[[source]]\nmatch = "https://data.example.org/"\nimmutable = true\n'
    )

    assert main(["config", "show", "https://data.example.org/a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["immutable"] is True
    assert main(["config", "show", "https://example.org/a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["immutable"] is False


def test_a_help_that_nobody_reads_is_a_broken_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        got = subprocess.run(
            [*COMMAND, "--help"], stdout=writing, stderr=subprocess.PIPE, env=environment(tmp_path), check=False
        )
    finally:
        os.close(writing)

    assert (got.returncode, got.stderr) == (141, b"")


def test_the_installed_command_starts_without_fsspec(tmp_path: Path) -> None:
    code = "import sys; from cleancache.cli import main; main(['--version']); sys.exit('fsspec' in sys.modules)"

    got = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, check=False)

    assert got.returncode == 0, got.stderr


def _commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def test_every_command_and_option_is_in_the_manual_page() -> None:
    text = (Path(__file__).parents[2] / "man/cleancache.1").read_text().replace("\\-", "-")

    missing = [
        f"{name} {word}".strip()
        for name, command in _commands(app)
        for word in (name, *(word for each in command.params if isinstance(each, click.Option) for word in each.opts))
        if word not in text
    ]

    assert missing == []


@pytest.mark.parametrize("code", [0, 1, 2, 130, 141])
def test_every_exit_code_is_documented(code: int) -> None:
    assert f"| {code} |" in (Path(__file__).parents[2] / "docs/cli.md").read_text()
