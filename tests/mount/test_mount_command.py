"""The helper of mount(8): options, exit codes, what `findmnt` shows, dead mounts, the ends of the process."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cleancache import errors
from cleancache.frontends import control, unmount
from cleancache.frontends.fuse import options
from tests.mount.mounting import MAIN, is_mounted, mount, mounted, pid_of, stats, wait_gone

SCRIPTS = Path(sys.executable).parent


def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A command that must end with *code*."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == code, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
    return done


@contextmanager
def linked() -> Iterator[None]:
    """The links of `cleancache setup`, taken away again if they were not there."""
    command = str(SCRIPTS / "cleancache")
    had = Path("/sbin/mount.cleancache").exists()
    run(command, "setup")
    try:
        yield
    finally:
        if not had:
            run(command, "setup", "--undo")


@pytest.mark.slow
def test_W3_mount_takes_the_type_and_the_stack_as_options(source: Path, where: Path) -> None:
    (source / "f").write_bytes(b"clean")
    with linked():
        for kind in ("cleancache", "fuse.cleancache"):
            run("mount", "-t", kind, str(source), str(where), "-o", "cleancache=zcache:32M,noatime")
            try:
                pid = pid_of(where)
                assert stats(where)["stack"] == "zcache:32M"
                found = run("findmnt", "-n", "-t", "fuse.cleancache", "-o", "SOURCE,FSTYPE", str(where)).stdout.split()
                assert found == [str(source), "fuse.cleancache"]
                assert (where / "f").read_bytes() == b"clean"
            finally:
                run("umount", str(where))
            wait_gone(pid)


@pytest.mark.slow
def test_an_fstab_line_is_enough(source: Path, where: Path, tmp_path: Path) -> None:
    table = tmp_path / "fstab"
    table.write_text(f"{source} {where} cleancache cleancache=zcache:32M,nofail,_netdev,x-systemd.automount 0 0\n")
    with linked():
        run("mount", "--fstab", str(table), str(where))
        try:
            pid = pid_of(where)
        finally:
            run("umount", str(where))
        wait_gone(pid)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_stael=3s", "did you mean 'max_stale'"),
        ("colour=red", "'colour' is no option"),
        ("cleancache=zcache:9X", "9X"),
        ("pool=77", "UUID"),
        ("page_size=3000", "page"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(text: str, said: str, source: Path, where: Path) -> None:
    assert said in mount(source, where, text, code=1)
    assert not is_mounted(where)


def test_each_obstacle_is_one_sentence_with_the_remedy(source: Path, where: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    inside = where / "inside"
    inside.mkdir()

    for said, code, one, other in (
        ("is no directory", 32, source, file),
        ("No such file", 32, tmp_path / "none", where),
        ("mkdir -p", 32, source, tmp_path / "none"),
        ("is a file", 32, file, where),
        ("would read itself", 32, inside, where),
    ):
        text = mount(one, other, code=code)
        assert said in text
        assert len(text.splitlines()) == 1


def test_usage_is_exit_1() -> None:
    run(sys.executable, "-c", MAIN, code=1)
    run(sys.executable, "-c", MAIN, "a", "b", "c", code=1)
    run(sys.executable, "-c", MAIN, "a", "b", "-o", code=1)


def test_a_dry_run_checks_and_mounts_nothing(source: Path, where: Path) -> None:
    run(sys.executable, "-c", MAIN, str(source), str(where), "-f", "-o", "cleancache=none")
    assert not is_mounted(where)


def test_without_the_library_one_line_says_what_to_install(source: Path, where: Path, tmp_path: Path) -> None:
    program = f"import ctypes.util; ctypes.util.find_library = lambda name: None; {MAIN}"
    said = run(sys.executable, "-c", program, str(source), str(where), code=32).stderr

    assert "apt-get install fuse3" in said
    assert len(said.splitlines()) == 1


def test_words_of_mount_that_mean_nothing_here_are_left_out() -> None:
    found = options.parse("rw,_netdev,nofail,user,x-systemd.automount,relatime,nosuid,allow_other,cleancache=tmem")

    assert found.kernel == ["nosuid", "allow_other"]
    assert found.settings == {"stack": "tmem"}


def test_a_value_is_percent_decoded_once() -> None:
    found = options.parse("files=a%2Cb%2525,option.client_kwargs.endpoint_url=http://h:1,option.anon=true")

    assert found.files == "a,b%25"
    assert found.storage == {"client_kwargs": {"endpoint_url": "http://h:1"}, "anon": True}


def test_an_option_without_its_value_is_refused() -> None:
    for text in ("cleancache=", "uid=x", "pool", "ro=1", "max_read=x"):
        with pytest.raises(errors.SpecError):
            options.parse(text)


def test_P12_no_secret_is_shown(where: Path) -> None:
    from cleancache.frontends.fuse.serve import public

    assert public("https://me:secret@host/x?token=t") == "https://host/x"
    assert public("s3://key:secret@bucket/x") == "s3://bucket/x"


def test_a_read_only_mount_refuses_writes(source: Path, where: Path) -> None:
    (source / "f").write_bytes(b"clean")
    with mounted(source, where, "ro,cleancache=none"):
        with pytest.raises(OSError, match="Read-only") as caught:
            (where / "f").write_bytes(b"")
        assert caught.value.errno == errno.EROFS
        assert (where / "f").read_bytes() == b"clean"


@pytest.mark.slow
def test_I5_a_stack_whose_kind_is_not_there_mounts_at_once(source: Path, where: Path) -> None:
    (source / "f").write_bytes(b"clean" * 100)
    with mounted(source, where, "cleancache=someday:1G"):
        assert (where / "f").read_bytes() == b"clean" * 100
        with (where / "f").open("r+b") as file:
            file.write(b"CLEAN")
        assert (where / "f").read_bytes() == b"CLEAN" + b"clean" * 99


def test_X59_a_killed_mount_is_found_taken_away_and_mounted_over(source: Path, where: Path) -> None:
    (source / "f").write_bytes(b"clean")
    for remedy in ("umount", "mount"):
        mount(source, where)
        pid = pid_of(where)
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at below
            os.stat(where)
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)  # the second while it is being torn down
        if remedy == "umount":
            assert "whose process is gone" in unmount.unmount(str(where))
            assert not is_mounted(where)
        else:
            with mounted(source, where):
                assert (where / "f").read_bytes() == b"clean"
    assert [mount for _, mount, _ in unmount.mounts() if mount == str(where)] == []


def test_X62_a_busy_mount_is_not_unmounted_but_lazily(source: Path, where: Path) -> None:
    (source / "f").write_bytes(b"clean")
    mount(source, where)
    pid = pid_of(where)
    with (where / "f").open("rb") as held:
        with pytest.raises(errors.Error, match="--lazy"):
            unmount.unmount(str(where))
        unmount.unmount(str(where), lazy=True)
        assert not is_mounted(where)
        assert held.read() == b"clean"
    wait_gone(pid)


def test_SIGTERM_unmounts_and_ends(source: Path, where: Path) -> None:
    mount(source, where)
    pid = pid_of(where)
    os.kill(pid, signal.SIGTERM)
    wait_gone(pid)

    assert not is_mounted(where)


def test_foreground_stays_until_it_is_unmounted(source: Path, where: Path) -> None:
    command = [str(SCRIPTS / "cleancache"), "mount", "--foreground", str(source), str(where), "-o", "cleancache=none"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as child:
        try:
            end = time.monotonic() + 30
            while not is_mounted(where):
                assert time.monotonic() < end
                assert child.poll() is None
                time.sleep(0.02)
            assert pid_of(where) == child.pid
            run(str(SCRIPTS / "cleancache"), "umount", str(where))
            assert child.wait(30) == 0
        finally:
            child.kill()


def test_stats_and_flush_reach_every_mount_of_this_user(source: Path, where: Path, tmp_path: Path) -> None:
    (source / "f").write_bytes(b"clean")
    with mounted(source, where, "cleancache=zcache:32M"), mounted(source, tmp_path / "second", "cleancache=zcache:16M"):
        shown = json.loads(run(str(SCRIPTS / "cleancache"), "stats", "--json").stdout)["mounts"]
        mine = {each["directory"]: each["stack"] for each in shown}
        assert mine[str(where)] == "zcache:32M"
        assert mine[str(tmp_path / "second")] == "zcache:16M"
        assert "flushed" in run(str(SCRIPTS / "cleancache"), "flush", str(where)).stderr
        text = run(str(SCRIPTS / "cleancache"), "stats", "--format=prometheus").stdout
        assert 'cleancache_hits_total{tier="zcache:32M"}' in text
    directory = control.runtime_directory()
    assert directory is not None
    assert not any(each["directory"] == str(where) for each in control.ask_all(verb="stats"))


@pytest.mark.slow
def test_X59_kill_9_in_the_middle_of_writes_never_damages_the_source(source: Path, where: Path) -> None:
    """Whole files are written and renamed; whatever moment the mount dies, the source has whole files only."""
    loops = int(os.environ.get("CLEANCACHE_KILLS", "5"))
    writer = (
        "import os, sys\n"
        "where, number = sys.argv[1], 0\n"
        "while True:\n"
        "    number += 1\n"
        "    data = (b'%08d' % number) * 20000\n"
        "    open(where + '/new', 'wb').write(data)\n"
        "    os.rename(where + '/new', where + '/f')\n"
        "    assert open(where + '/f', 'rb').read() == data\n"
    )
    (source / "kept").write_bytes(b"kept" * 50_000)
    for loop in range(loops):
        mount(source, where)
        pid = pid_of(where)
        with subprocess.Popen([sys.executable, "-c", writer, str(where)], stderr=subprocess.PIPE) as child:
            time.sleep(0.15 + 0.037 * (loop % 10))
            os.kill(pid, signal.SIGKILL)
            assert child.wait(30) != 0
            assert child.stderr is not None
            assert b"AssertionError" not in child.stderr.read()
        wait_gone(pid)
        data = (source / "f").read_bytes() if (source / "f").exists() else b""
        assert data == data[:8] * (len(data) // 8)
        assert len(data) in (0, 160_000)
        assert (source / "kept").read_bytes() == b"kept" * 50_000
        with mounted(source, where):
            assert (where / "f").exists() == (source / "f").exists()
            if data:
                assert (where / "f").read_bytes() == data
        assert not [name for name in os.listdir(source) if name.startswith(".fuse")]
