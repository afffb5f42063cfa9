"""Programs give the same in the mount as outside: files of every kind, owners, locks, databases, archives, builds."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.conftest import cannot
from tests.mount.mounting import mounted


def run(*words: str | Path, where: Path | None = None, user: int | None = None) -> str:
    """A program that must succeed; what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        cannot(f"{program} is missing: apt-get install {package}")


def test_every_call_goes_through_to_the_source(source: Path, where: Path) -> None:
    with mounted(source, where):
        (where / "f").write_bytes(b"x" * 10)
        os.chmod(where / "f", 0o6750)
        os.chown(where / "f", 12, 34)
        os.chmod(where / "f", 0o640)
        os.utime(where / "f", ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
        os.setxattr(where / "f", "user.word", b"value")
        os.link(where / "f", where / "hard")
        os.symlink("f", where / "soft")
        os.lchown(where / "soft", 5, 6)
        os.utime(where / "soft", ns=(1, 2), follow_symlinks=False)
        os.mkfifo(where / "fifo", 0o600)
        os.mknod(where / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mkdir(where / "folder", 0o750)
        (where / "folder" / "inner").write_text("inner")
        os.rename(where / "folder", where / "moved")

        for name in ("f", "hard", "soft", "fifo", "null", "moved", "moved/inner"):
            inside, outside = os.lstat(where / name), os.lstat(source / name)
            for field in ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink", "st_rdev", "st_mtime_ns", "st_ino"):
                assert getattr(inside, field) == getattr(outside, field), f"{name}: {field}"
        assert (source / "f").stat().st_mtime_ns == 987_654_321_987_654_321
        assert os.getxattr(source / "f", "user.word") == os.getxattr(where / "hard", "user.word") == b"value"
        assert os.listxattr(where / "f") == ["user.word"]
        os.removexattr(where / "f", "user.word")
        assert os.listxattr(source / "f") == []
        assert os.readlink(where / "soft") == "f"
        assert sorted(os.listdir(where)) == sorted(os.listdir(source))
        inside_fs, outside_fs = os.statvfs(where), os.statvfs(source)
        assert (inside_fs.f_blocks, inside_fs.f_bsize) == (outside_fs.f_blocks, outside_fs.f_bsize)


def test_rename_obeys_its_flags_and_is_atomic_over_an_open_file(source: Path, where: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with mounted(source, where):
        (where / "a").write_text("a")
        (where / "b").write_text("b")
        old, new = os.fsencode(where / "a"), os.fsencode(where / "b")
        assert libc.renameat2(-100, old, -100, new, 1) == -1
        assert ctypes.get_errno() == errno.EEXIST
        assert libc.renameat2(-100, old, -100, new, 2) == 0
        assert [(where / name).read_text() for name in "ab"] == ["b", "a"]

        missing, is_done = [], threading.Event()

        def look() -> None:
            while not is_done.is_set():
                if not (where / "a").exists():
                    missing.append(1)

        watcher = threading.Thread(target=look)
        watcher.start()
        with (where / "a").open("rb"):
            for number in range(200):
                (where / "new").write_text(str(number))
                os.rename(where / "new", where / "a")
        is_done.set()
        watcher.join()
        assert missing == []


def test_an_unlinked_open_file_goes_on(source: Path, where: Path) -> None:
    with mounted(source, where):
        with tempfile.TemporaryFile(dir=where) as file:
            file.write(b"still here")
            file.seek(0)
            assert file.read() == b"still here"
            assert os.fstat(file.fileno()).st_nlink == 0
            os.ftruncate(file.fileno(), 5)
            os.fchmod(file.fileno(), 0o600)
            assert os.fstat(file.fileno()).st_size == 5
        with (where / "f").open("w+b") as file:
            os.unlink(where / "f")
            file.write(b"x")
            file.flush()
            assert os.fstat(file.fileno()).st_size == 1
            assert os.listdir(source) == []


def test_holes_are_found_as_in_the_source(source: Path, where: Path) -> None:
    with (source / "f").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
    with mounted(source, where):
        found = []
        for place in (source, where):
            with (place / "f").open("rb") as file:
                found.append([os.lseek(file.fileno(), 0, os.SEEK_DATA), os.lseek(file.fileno(), 0, os.SEEK_HOLE)])
        assert found[0] == found[1]


def test_the_caller_owns_what_it_makes_and_may_do_no_more_than_outside(source: Path, where: Path) -> None:
    nobody = 65534
    for above in source.parents:  # pytest's directories are its user's alone
        mode = above.stat().st_mode & 0o7777
        if mode & 0o005 != 0o005:
            above.chmod(mode | 0o055)
    source.chmod(0o1777)
    (source / "secret").write_text("secret")
    (source / "secret").chmod(0o600)
    program = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "open('mine', 'w').write('mine'); os.mkdir('folder'); os.symlink('x', 'link')\n"
        "def refused(call, *arguments):\n"
        "    try: call(*arguments)\n"
        "    except PermissionError: return\n"
        "    sys.exit(f'{call} {arguments} was allowed')\n"
        "refused(open, 'secret'); refused(os.unlink, 'secret'); refused(os.chmod, 'secret', 0o666)\n"
        "refused(os.chown, 'mine', 0, 0); refused(os.rename, 'secret', 'mine'); refused(os.truncate, 'secret', 0)\n"
    )
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    with mounted(source, where, "allow_other,cleancache=zcache:16M"):
        run(python, "-c", program, where, user=nobody)
        for name in ("mine", "folder", "link"):
            status = os.lstat(source / name)
            assert (status.st_uid, status.st_gid) == (nobody, nobody)


def test_locks_hold_between_two_mounts_and_beside_them(source: Path, where: Path, tmp_path: Path) -> None:
    (source / "f").write_bytes(b"x" * 100)
    with mounted(source, where), mounted(source, tmp_path / "second") as second:
        for take in (fcntl.flock, fcntl.lockf):
            with (where / "f").open("r+b") as one:
                take(one, fcntl.LOCK_EX)
                for place in (second, source):
                    with (place / "f").open("r+b") as other:
                        with pytest.raises(BlockingIOError):
                            take(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        waiter = threading.Thread(target=take, args=(other, fcntl.LOCK_EX))
                        if place == second:
                            waiter.start()
                            take(one, fcntl.LOCK_UN)
                            waiter.join(20)
                            assert not waiter.is_alive()
                            take(other, fcntl.LOCK_UN)
                            take(one, fcntl.LOCK_EX)


def test_two_sqlite_clients_on_two_mounts_count_right(source: Path, where: Path, tmp_path: Path) -> None:
    program = (
        "import sqlite3, sys\n"
        "base = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "for _ in range(40):\n"
        "    base.execute('begin immediate')\n"
        "    number = base.execute('select max(n) from t').fetchone()[0]\n"
        "    base.execute('insert into t values (?, ?)', (number + 1, 'x' * 3000))\n"
        "    base.execute('commit')\n"
    )
    with mounted(source, where), mounted(source, tmp_path / "second") as second:
        with sqlite3.connect(where / "base") as base:
            base.execute("create table t (n integer primary key, s text)")
            base.execute("insert into t values (0, '')")
        base.close()
        children = [subprocess.Popen([sys.executable, "-c", program, str(place / "base")]) for place in (where, second)]
        assert [child.wait(120) for child in children] == [0, 0]
        for place in (where, second, source):
            found = sqlite3.connect(place / "base")
            assert found.execute("select count(*), max(n) from t").fetchone() == (81, 80)
            assert found.execute("pragma integrity_check").fetchone() == ("ok",)
            found.close()


@pytest.mark.slow
def test_sqlite_works_with_a_shared_log(source: Path, where: Path) -> None:
    with mounted(source, where):
        base = sqlite3.connect(where / "base")
        assert base.execute("pragma journal_mode=wal").fetchone() == ("wal",)
        base.execute("create table t (n integer)")
        base.executemany("insert into t values (?)", ((number,) for number in range(5000)))
        base.commit()
        other = sqlite3.connect(where / "base")
        assert other.execute("select count(*) from t").fetchone() == (5000,)
        other.close()
        base.close()


@pytest.mark.slow
def test_git_tar_rsync_and_a_build_give_the_same(source: Path, where: Path, tmp_path: Path) -> None:
    need("git", "git")
    need("rsync", "rsync")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for number in range(60):
        (tree / "sub" / f"m{number}.py").write_text(f"VALUE = {number}\n" * 200)
    (tree / "Makefile").write_text("all: a.out b.out\n%.out: sub/m1.py\n\tcat sub/*.py > $@\n")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    run(*git, "init", "-q", where=tree)
    run(*git, "add", ".", where=tree)
    run(*git, "commit", "-qm", "all", where=tree)
    with mounted(source, where):
        run("git", "clone", "-q", tree, where / "clone")
        assert run("git", "status", "--porcelain", where=where / "clone") == ""
        assert "dangling" not in run("git", "fsck", "--strict", where=where / "clone")
        run(*git, "checkout", "-qb", "other", where=where / "clone")
        (where / "clone" / "sub" / "m1.py").write_text("VALUE = 0\n")
        run(*git, "commit", "-qam", "one", where=where / "clone")
        run("git", "gc", "-q", where=where / "clone")
        run("make", "-s", "-j4", where=where / "clone")
        run("python3", "-m", "compileall", "-q", "sub", where=where / "clone")
        run("tar", "cf", where / "all.tar", "-C", tree, ".")
        (where / "untarred").mkdir()
        run("tar", "xf", where / "all.tar", "-C", where / "untarred")
        assert run("rsync", "-rlptgoDcni", "--delete", f"{tree}/", f"{where}/untarred/") == ""
        run("rsync", "-a", f"{tree}/", f"{where}/synced/")
        assert run("diff", "-r", tree, where / "synced") == ""
        assert run("diff", "-r", source, where) == ""
        run("rm", "-rf", *where.iterdir())
        assert os.listdir(source) == []


@pytest.mark.slow
def test_fio_verifies_what_it_wrote(source: Path, where: Path) -> None:
    need("fio", "fio")
    with mounted(source, where):
        said = run(
            "fio", "--name=v", f"--directory={where}", "--rw=randrw", "--verify=crc32c", "--verify_fatal=1",
            "--size=8m", "--ioengine=psync", "--bs=4k", "--output-format=json", where=where,
        )  # fmt: skip
    assert json.loads(said[said.index("{") :])["jobs"][0]["error"] == 0


@pytest.mark.slow
def test_stress_ng_verifies_what_it_wrote(source: Path, where: Path) -> None:
    need("stress-ng", "stress-ng")
    seconds = os.environ.get("CLEANCACHE_STRESS_S", "3")
    with mounted(source, where):
        run(
            "stress-ng", "--hdd", "1", "--hdd-bytes", "16m", "--rename", "1", "--link", "1", "--dentry", "1",
            "--verify", "--temp-path", where, "-t", seconds, where=where,
        )  # fmt: skip
