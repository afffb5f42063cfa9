"""The commands that read a source: over a real web server and real files, in processes of their own where a process
matters."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleancache.cli import main
from cleancache.cli.progress import Progress
from cleancache.cli.say import Say
from tests.surfaces.running import COMMAND, TIMEOUT_S, environment, run
from tests.surfaces.web import Site, serving

DATA = random.Random(7).randbytes(3 * (1 << 20) + 12345)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site")) as site:
        for name in ("a.bin", "dir/b.bin"):
            site.write(name, DATA)
        site.write("big", DATA * 3)
        site.write("empty", b"")
        yield site


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files in a folder; they are so young that the source does not vouch for them yet."""
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    for name, data in (("a.bin", DATA), ("b.txt", b"text"), ("deep/c.bin", DATA[:70000])):
        (folder / name).write_bytes(data)
    return folder


def test_cat_writes_every_byte(site: Site, tmp_path: Path) -> None:
    got = run("cat", f"{site.url}/a.bin", f"cleancache::{site.url}/dir/b.bin", f"{site.url}/empty", home=tmp_path)

    assert (got.returncode, got.stderr) == (0, b"")
    assert got.stdout == DATA + DATA


@pytest.mark.parametrize(
    "span",
    [(0, 10), (5, None), (None, 7), (-10, None), (None, -10), (65530, 65550), (10, 5), (len(DATA), None), (-5, -2)],
)
def test_cat_takes_ranges_as_python_slices(site: Site, tmp_path: Path, span: tuple[int | None, int | None]) -> None:
    start, end = span
    text = f"{'' if start is None else start}:{'' if end is None else end}"

    got = run("cat", f"{site.url}/a.bin", f"--range={text}", home=tmp_path)

    assert (got.returncode, got.stderr) == (0, b"")
    assert got.stdout == DATA[start:end]


def test_cat_reads_local_files_and_patterns(files: Path, tmp_path: Path) -> None:
    got = run("cat", str(files / "*.bin"), (files / "b.txt").as_uri(), home=tmp_path)

    assert got.stdout == DATA + b"text"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("{site}/nothing", "the source has nothing of this name"),
        ("{site}/denied/a.bin", "403"),
        ("http://127.0.0.1:1/a", "127.0.0.1"),
        ("nosuch://a/b", "nosuch"),
        ("/no/such/file", "the source has nothing of this name"),
    ],
)
def test_an_error_of_the_source_is_one_sentence(site: Site, tmp_path: Path, url: str, said: str) -> None:
    got = run("cat", url.format(site=site.url), home=tmp_path)

    lines = got.stderr.decode().splitlines()
    assert got.returncode == 1
    assert got.stdout == b""
    assert len(lines) == 1, lines
    assert lines[0].startswith("cleancache: ")
    assert said in lines[0]


def test_verbose_adds_the_traceback(tmp_path: Path) -> None:
    got = run("cat", "-v", "/no/such/file", home=tmp_path)

    assert got.returncode == 1
    assert b"Traceback" in got.stderr


def test_a_reader_that_goes_away_is_a_broken_pipe(site: Site, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "cat", f"{site.url}/a.bin"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    assert process.stdout is not None
    assert process.stderr is not None

    first = process.stdout.read(1)
    process.stdout.close()

    assert first == DATA[:1]
    assert process.wait(TIMEOUT_S) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("command", ["cat", "warm"])
def test_an_interrupt_is_130_also_while_the_source_hangs(site: Site, tmp_path: Path, command: str) -> None:
    site.hung.clear()
    process = subprocess.Popen(
        [*COMMAND, command, f"{site.url}/hang/x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    assert site.hung.wait(TIMEOUT_S)

    process.send_signal(signal.SIGINT)

    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert said.decode().splitlines()[-1] == "cleancache: interrupted"


def test_warm_first_says_how_much_then_reads(site: Site, tmp_path: Path) -> None:
    got = run("warm", "--json", f"{site.url}/a.bin", f"{site.url}/dir/b.bin", home=tmp_path)

    said = got.stderr.decode().splitlines()
    report = json.loads(got.stdout)
    assert got.returncode == 0, said
    assert said[0].startswith("2 objects, ")
    assert b"\r" not in got.stderr
    assert (report["objects"], report["bytes"], report["read"]) == (2, 2 * len(DATA), 2 * len(DATA))
    assert report["source_bytes"] >= report["read"]
    assert report["resident_pages"] == 2 * -(-len(DATA) // 65536)


def test_warm_takes_directories(tmp_path: Path) -> None:
    folder = Path(json.__file__).parent  # files that have been still for long
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]

    got = run("warm", "-q", "--json", str(folder), home=tmp_path)

    report = json.loads(got.stdout)
    assert (got.returncode, got.stderr) == (0, b"")
    assert (report["objects"], report["read"], report["not_cached"]) == (len(sizes), sum(sizes), 0)


def test_warm_names_what_cannot_be_kept(site: Site, tmp_path: Path) -> None:
    got = run("warm", "-q", f"{site.url}/bare/a.bin", f"{site.url}/a.bin", home=tmp_path)

    assert got.returncode == 1
    assert b"1 of 2 objects cannot be kept" in got.stderr
    assert b"cleancache check" in got.stderr


def test_a_dry_run_reads_nothing(site: Site, tmp_path: Path) -> None:
    before = site.requests["GET"]

    got = run("warm", "--dry-run", f"{site.url}/a.bin", home=tmp_path)

    assert got.returncode == 0
    assert got.stdout.startswith(b"1 object, 3.01 MiB; the limit is ")
    assert got.stderr == b""
    assert site.requests["GET"] == before


def test_warm_refuses_more_than_the_limit_unless_forced(site: Site, tmp_path: Path) -> None:
    words = ("warm", "--stack", "zcache:8M", f"{site.url}/big")

    refused = run(*words, home=tmp_path)
    forced = run(*words, "--force", home=tmp_path)

    assert refused.returncode == 1
    assert b"--force" in refused.stderr
    assert forced.returncode == 0


def test_warm_needs_a_tier(site: Site, tmp_path: Path) -> None:
    got = run("warm", "--stack", "none", f"{site.url}/a.bin", home=tmp_path)

    assert got.returncode == 1
    assert b"no tier to keep them" in got.stderr


def test_warm_shows_a_bar_on_a_terminal_only(site: Site, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        got = subprocess.run(
            [*COMMAND, "warm", f"{site.url}/a.bin"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environment(tmp_path, TERM="xterm"),
            check=False,
            timeout=TIMEOUT_S,
        )
        os.close(theirs)
        theirs = -1
        said = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            said += piece
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)

    assert (got.returncode, got.stdout) == (0, b"")
    assert b"\r\x1b[K" in said


def test_progress_without_a_terminal_is_a_line_each_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    progress = Progress(Say(), 100, clock=lambda: now[0])

    for now[0] in (1.0, 9.9, 10.0, 11.0, 20.5):
        progress.add(10)

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(" 30%")


def test_check_says_what_a_sources_versions_are_worth(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = {}
    for name in ("a.bin", "weak/a.bin", "bare/a.bin", "nothing"):
        code = main(["check", f"{site.url}/{name}", "--json", "--stack", "zcache:32M"])
        found = {each["about"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
        verdicts[name] = code, found.get("version", found["source"])

    assert verdicts["a.bin"][0] == 0
    assert verdicts["a.bin"][1]["text"].startswith("strong")
    for name in ("weak/a.bin", "bare/a.bin"):
        assert verdicts[name][0] == 1
        assert "--immutable" in verdicts[name][1]["do"]
    assert verdicts["nothing"][0] == 1


def test_check_is_content_once_the_user_vouches(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{site.url}/bare/a.bin", "--immutable", "--stack", "zcache:32M"]) == 0


def test_bench_compares_every_byte_and_counts_requests(site: Site, tmp_path: Path) -> None:
    got = run("bench", f"{site.url}/a.bin", "--json", "--reads", "20", home=tmp_path)

    document = json.loads(got.stdout)
    rows = {row["way"]: row for row in document["rows"]}
    assert got.returncode == 0, got.stderr
    assert list(rows) == ["without", "cold", "warm"]
    assert document["bytes"] == len(DATA)
    assert rows["cold"]["requests"] >= 1
    assert rows["warm"]["requests"] == 0
    assert rows["warm"]["random_requests"] == 0


def test_bench_prints_a_table(site: Site, tmp_path: Path) -> None:
    got = run("bench", f"{site.url}/a.bin", "--size", "1M", "--reads", "5", home=tmp_path)

    lines = got.stdout.decode().splitlines()
    assert got.returncode == 0
    assert [line.split()[0] for line in lines[1:]] == ["without", "cold", "warm"]
    assert b"every byte was compared" in got.stderr


def test_no_cache_is_a_stack_too(site: Site, tmp_path: Path) -> None:
    got = run("cat", "--stack", "none", f"{site.url}/a.bin", home=tmp_path)

    assert got.stdout == DATA


def test_workers_end_at_the_first_failure() -> None:
    from cleancache.cli.workers import each

    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0)
        if number == 3:
            raise OSError("three")
        done.append(number)

    with pytest.raises(OSError, match="three"):
        each(1, range(10), work)
    assert done == [0, 1, 2]
