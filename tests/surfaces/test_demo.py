"""The demo is the main job: it says the truth about what was read, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import demo.__main__ as program
import pytest
from demo.files import choose
from demo.report import table

SMALL_BYTES = 1_500_000


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_second_pass_fetches_nothing_and_a_change_is_seen_at_once(scratch: Path) -> None:
    document = program.run(SMALL_BYTES, 0.001, only=["no cache", "cleancache"])

    plain, cached = document["rows"]
    files, size = document["files"], document["bytes"]
    assert [row["way"] for row in document["rows"]] == ["no cache", "cleancache"]
    assert all(phase["read_bytes"] > 0 for row in document["rows"] for phase in row["phases"].values())
    assert plain["phases"]["second"]["source_bytes"] == size
    assert cached["phases"]["first"]["source_bytes"] == size
    assert cached["phases"]["second"]["source_bytes"] == 0
    assert cached["phases"]["second"]["requests"] == files  # F5: the version is asked at every open, and nothing else
    assert cached["phases"]["pieces"]["source_bytes"] == 0
    assert cached["new_bytes_after_change"]
    assert 0 < cached["held_bytes"] <= cached["limit_bytes"]
    assert "new bytes" in table(document)
    assert list(scratch.iterdir()) == []


def test_max_stale_asks_once(scratch: Path) -> None:
    document = program.run(SMALL_BYTES, 0.001, only=["cleancache, max_stale=60s"])

    assert document["rows"][0]["phases"]["second"]["requests"] == 0


def test_the_document_is_json(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "ways", lambda folder: [{"way": "no cache", "prefix": "", "options": {}}])

    code = program.main(["--json", "--megabytes", "1", "--delay", "0"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["way"] == "no cache"


def test_a_server_that_does_not_start_is_one_sentence(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    code = program.main(["--megabytes", "1"])

    assert code == 1
    assert "the HTTP server" in capsys.readouterr().err
    assert list(scratch.iterdir()) == []


def test_a_way_that_fails_says_why(scratch: Path) -> None:
    with pytest.raises(program.DemoError, match="nonsense"):
        program.run_way({"way": "nonsense", "base": "http://127.0.0.1:1", "files": {}, "changing": ""}, scratch)


def test_the_server_ends_with_whoever_started_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "demo.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('{"files": {}, "delay_s": 0}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["port"] > 0

        process.stdin.close()  # what the kernel does when the starter dies

        assert process.wait(60) == 0


def test_files_are_real_bounded_and_the_same_each_time() -> None:
    chosen = choose(SMALL_BYTES)

    assert chosen == choose(SMALL_BYTES)
    assert 0 < sum(path.stat().st_size for path in chosen.values()) <= SMALL_BYTES
    assert {path.suffix for path in chosen.values()} >= {".py", ".pyc"}
