"""Real files: the rules S1–S9 of local sources, on the file systems of this machine."""

from __future__ import annotations

import mmap
import os
import random
import threading
import time
from pathlib import Path

import fsspec
import pytest

from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source import NONE, STRONG, source_for
from cleancache.source.local import LocalSource
from cleancache.source.stamp import Stamp, boot_id, stamp_of
from tests.conftest import cannot
from tests.reading.aging import CONTENT, LATER_NS, Wall
from tests.reading.sources import DictBackend


def test_an_old_file_is_cached_under_its_stat(reader: Reader, path: str, backend: DictBackend) -> None:
    assert reader.fetch(path) == CONTENT
    assert len(backend.pages) == 3
    os.utime(path, ns=(0, 0))

    assert reader.fetch(path) == CONTENT
    assert reader.stats().unversioned == 0


def test_S1_a_young_file_is_read_but_not_put(reader: Reader, path: str, wall: Wall, backend: DictBackend) -> None:
    """§3.1; B15."""
    wall.ahead_ns = 0

    opened = reader.open(path)
    assert reader.read(opened, 0, 10**6) == CONTENT
    assert reader.fetch(path, 5, 9) == CONTENT[5:9]

    assert "younger" in opened.why
    assert backend.pages == {}
    assert reader.stats().unversioned == 2


def test_S1_a_file_that_comes_of_age_while_it_is_open_is_cached_then(
    reader: Reader, path: str, wall: Wall, backend: DictBackend
) -> None:
    wall.ahead_ns = 0
    opened = reader.open(path)
    reader.read(opened, 0, 100)
    wall.ahead_ns = LATER_NS

    reader.read(opened, 0, 100)
    reader.read(opened, 0, 100)

    assert opened.is_cached
    assert len(backend.pages) == 1
    reader.flush(path)
    assert backend.pages == {}


@pytest.mark.parametrize("ahead_ns", [-(10**18), 0])
def test_S7_a_stamp_of_the_future_is_young(source: LocalSource, path: str, wall: Wall, ahead_ns: int) -> None:
    wall.ahead_ns = ahead_ns
    os.utime(path, ns=(2**61, 2**61))

    assert source.version(path).strength == NONE


def test_F2_a_rewrite_of_equal_size_inside_the_grain_never_gives_old_bytes(
    reader: Reader, path: str, wall: Wall
) -> None:
    """S1, B14: as fast as this machine can, with the true clock."""
    wall.ahead_ns = 0
    for number in range(300):
        content = bytes([number % 256]) * 5000
        with open(path, "r+b") as file:
            file.truncate()
            file.write(content)
        assert reader.fetch(path) == content
        assert reader.fetch(path, 10, 20) == content[10:20]


def test_F1_a_file_removed_and_made_again_never_gives_old_bytes(reader: Reader, path: str) -> None:
    """S3: the inode's number is given out again, birth time and ctime tell them apart."""
    inodes = set()
    for number in range(100):
        os.unlink(path)
        content = bytes([number]) * 5000
        Path(path).write_bytes(content)
        inodes.add(os.stat(path).st_ino)
        assert reader.fetch(path) == content
    assert inodes


def test_S5_utime_hides_nothing(source: LocalSource, path: str) -> None:
    before, status = source.version(path), os.stat(path)
    with open(path, "r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert os.stat(path).st_mtime_ns == status.st_mtime_ns
    assert source.version(path).token != before.token


@pytest.mark.parametrize("change", ["append", "truncate", "grow", "zero", "rename over", "mapped"])
def test_F3_every_way_to_change_a_file_is_another_version(
    reader: Reader, path: str, tmp_path: Path, change: str
) -> None:
    assert reader.fetch(path) == CONTENT
    wanted = bytearray(CONTENT)
    if change == "append":
        with open(path, "ab") as file:
            file.write(b"more")
        wanted += b"more"
    elif change == "truncate":
        os.truncate(path, 70_000)
        del wanted[70_000:]
    elif change == "grow":
        os.truncate(path, 160_000)
        wanted += bytes(10_000)
    elif change == "zero":
        with open(path, "r+b", buffering=0) as raw:
            os.pwrite(raw.fileno(), bytes(8192), 0)
        wanted[:8192] = bytes(8192)
    elif change == "rename over":
        other = tmp_path / "other"
        other.write_bytes(CONTENT[::-1])
        os.replace(other, path)
        wanted = bytearray(CONTENT[::-1])
    else:
        with open(path, "r+b", buffering=0) as raw, mmap.mmap(raw.fileno(), 0) as view:
            view[10:20] = b"0123456789"
            view.flush()
        wanted[10:20] = b"0123456789"

    assert reader.fetch(path) == wanted


def test_S8_hard_links_and_renames_keep_their_pages(
    source: LocalSource, reader: Reader, path: str, tmp_path: Path
) -> None:
    other = str(tmp_path / "link")
    os.link(path, other)
    reader.fetch(path)
    fetched = reader.stats().source_bytes

    assert reader.fetch(other) == CONTENT

    assert reader.stats().source_bytes == fetched
    assert source.version(path).token == source.version(other).token


def test_S9_the_version_is_asked_by_path_and_an_open_file_keeps_its_own(
    reader: Reader, path: str, tmp_path: Path
) -> None:
    opened = reader.open(path)
    assert reader.read(opened, 0, 10) == CONTENT[:10]
    other = tmp_path / "other"
    other.write_bytes(CONTENT[::-1])
    os.replace(other, path)

    with pytest.raises(OSError, match="Stale"):
        reader.read(opened, 0, 150_000)
    assert reader.fetch(path) == CONTENT[::-1]


def test_S6_the_identity_is_the_file_systems_uuid_or_the_mount_and_the_boot(path: str) -> None:
    with open(path, "rb") as file:
        stamp = stamp_of(file.fileno())
    status = os.stat(path)

    assert len(boot_id()) == 36
    assert str(status.st_ino).encode() in stamp.token
    assert (stamp.size, stamp.mtime_ns, stamp.ctime_ns) == (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def test_S4_tmpfs_is_never_cached_whatever_the_user_says(wall: Wall, open_pool: Pool, backend: DictBackend) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or not os.access(shm, os.W_OK):
        cannot("no writable /dev/shm")
    file = shm / f"cleancache-test-{os.getpid()}"
    try:
        file.write_bytes(CONTENT)
        reader = Reader(LocalSource(wall_ns=wall), open_pool, immutable=True)
        opened = reader.open(str(file))
        assert reader.read(opened, 0, 10**6) == CONTENT
        assert reader.fetch(str(file)) == CONTENT
        assert not opened.is_cached
        assert "RAM" in opened.why
        assert backend.pages == {}
    finally:
        file.unlink(missing_ok=True)


def test_files_that_the_kernel_makes_up_are_read_to_their_end(reader: Reader, backend: DictBackend) -> None:
    opened = reader.open("/proc/self/status")

    assert opened.size is None
    assert b"Pid:" in reader.fetch("/proc/self/status")
    assert b"Pid:" in reader.read(opened, 0, 10**6)
    assert reader.read_ranges(opened, [(0, 5)]) == [b"Name:"]
    assert reader.fetch("/proc/self/status", 0, 5) == b"Name:"
    assert backend.pages == {}


def test_F6_a_file_that_changes_during_the_read_is_neither_put_nor_returned(
    path: str, wall: Wall, open_pool: Pool, backend: DictBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cleancache.source import local

    real = local._pread
    new = CONTENT[::-1]

    def torn(fd: int, offset: int, size: int | None) -> bytes:
        data = real(fd, offset, size)
        monkeypatch.setattr(local, "_pread", real)
        with open(path, "r+b") as file:
            file.write(new)
        return data

    reader = Reader(LocalSource(wall_ns=wall, lease="off"), open_pool)
    monkeypatch.setattr(local, "_pread", torn)

    assert reader.fetch(path) == new
    assert reader.stats().changed == 1


def test_S14_the_clock_of_another_machine_is_not_asked(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S15, S16: a version of a network file system counts once it was seen twice, two seconds apart on our clock."""
    from cleancache.source import local

    now = [100.0]
    real = stamp_of

    def remote(fd: int) -> Stamp:
        return real(fd)._replace(is_remote=True)

    monkeypatch.setattr(local, "stamp_of", remote)
    source = LocalSource(clock=lambda: now[0], wall_ns=lambda: time.time_ns() + 1_800_000_000_000)

    assert source.version(path).strength == NONE
    now[0] += 1.9
    assert source.version(path).strength == NONE
    now[0] += 0.2
    assert source.version(path).strength == STRONG
    assert LocalSource(wall_ns=lambda: time.time_ns() + 2 * 3600 * 10**9).version(path).strength == STRONG


def test_X33_errors_of_files_are_those_of_open(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        reader.fetch(str(tmp_path / "absent"))
    with pytest.raises(IsADirectoryError):
        reader.fetch(str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="only regular files are read"):
        reader.fetch(str(tmp_path / "fifo"))


def test_no_descriptor_stays_open(reader: Reader, path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        reader.fetch(path)
        with pytest.raises(FileNotFoundError):
            reader.fetch(path + "x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_fsspecs_local_files_are_recognised(path: str, open_pool: Pool) -> None:
    source = source_for(fsspec.filesystem("file"), lease="off")

    assert isinstance(source, LocalSource)
    assert Reader(source, open_pool).fetch(f"file://{path}") == CONTENT
    assert Reader(source, open_pool).fetch(path) == CONTENT
    with pytest.raises(ValueError, match="auto, require or off"):
        source_for(fsspec.filesystem("file"), lease="no")


def test_a_kernel_without_statx_is_read_by_fstat(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleancache.source import stamp

    monkeypatch.setattr(stamp, "_has", lambda name: False)
    with open(path, "rb") as file:
        found = stamp_of(file.fileno())

    assert found.size == len(CONTENT)
    assert found.mtime_ns == os.stat(path).st_mtime_ns


def test_F2_files_replaced_and_rewritten_under_many_readers_are_never_old(path: str, pool: Pool, wall: Wall) -> None:
    """Other threads replace the file by rename or rewrite it in place, as fast as they can, under the true clock."""
    wall.ahead_ns = 0
    reader = Reader(LocalSource(wall_ns=wall), pool, page_size=4096)
    size, done, stop, wrong = 20_000, [0], threading.Event(), []
    Path(path).write_bytes(bytes(size))

    def write() -> None:
        for number in range(1, 200):
            if number % 2:
                Path(path + ".new").write_bytes(bytes([number]) * size)
                os.replace(path + ".new", path)
            else:
                with open(path, "r+b", buffering=0) as file:
                    file.write(bytes([number]) * size)
            done[0] = number
        stop.set()

    def read(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            floor, start = done[0], rng.randrange(size - 1)
            got = reader.fetch(path, start, start + rng.randrange(1, 9000))
            if min(got) < floor:
                wrong.append((floor, set(got)))

    threads = [threading.Thread(target=write), *(threading.Thread(target=read, args=(seed,)) for seed in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
