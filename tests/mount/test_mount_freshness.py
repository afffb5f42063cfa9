"""F1–F4, F8, S11–S13 through a mount: no stale byte, whoever changed the file and however."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.exerciser import both
from tests.mount.mounting import age, mounted, stats

OLD, NEW = b"old bytes of the file " * 500, b"new bytes of the file " * 500
OPERATIONS = int(os.environ.get("CLEANCACHE_EXERCISER", "2000"))


def _overwrite(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.write(NEW)


def _mapped(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        view[: len(NEW)] = NEW
        view.flush()


def _renamed_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    other.rename(path)


def _unlinked_and_made(path: Path) -> None:
    path.unlink()
    path.write_bytes(NEW)


def _through_a_hard_link(path: Path) -> None:
    other = path.with_name("other")
    os.link(path, other)
    _overwrite(other)
    other.unlink()


def _truncated_and_written(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.truncate(0)
        file.write(NEW)


def _copied_in_range(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(NEW)
    with other.open("rb") as source, path.open("r+b") as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), len(NEW)) == len(NEW)


WAYS = (
    _overwrite,
    _mapped,
    _renamed_over,
    _unlinked_and_made,
    _through_a_hard_link,
    _truncated_and_written,
    _copied_in_range,
)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_F3_a_change_through_beside_or_by_another_mount_shows_at_the_next_open(
    way: Callable[[Path], None], source: Path, where: Path, tmp_path: Path
) -> None:
    with mounted(source, where), mounted(source, tmp_path / "second") as second:
        places = (where, source, second)
        for number in range(3):
            (source / f"file{number}").write_bytes(OLD)
        age(source / "file2")
        for number, changed in enumerate(places):
            for place in (where, second):  # from the source, then from the cache
                assert [(place / f"file{number}").read_bytes() for _ in range(3)] == [OLD] * 3
            way(changed / f"file{number}")

            assert [(place / f"file{number}").read_bytes() for place in places] == [NEW] * 3


def test_F2_a_file_rewritten_again_and_again_is_never_old(source: Path, where: Path) -> None:
    with mounted(source, where):
        for number in range(300):
            text = b"%08d" % number
            (source / "f").write_bytes(text)
            assert (where / "f").read_bytes() == text


def test_a_held_descriptor_sees_what_is_appended_beside_the_mount(source: Path, where: Path) -> None:
    (source / "log").write_bytes(b"one\n")
    age(source / "log")
    with mounted(source, where), (where / "log").open("rb", buffering=0) as tail:
        assert tail.read() == b"one\n"
        with (source / "log").open("ab") as file:
            file.write(b"two\n")

        assert tail.read() == b"two\n"


@pytest.mark.slow
def test_a_second_read_comes_from_the_cache(source: Path, where: Path) -> None:
    (source / "f").write_bytes(os.urandom(1 << 20))
    age(source / "f")
    with mounted(source, where, "cleancache=zcache:64M,direct_io"):
        first = (where / "f").read_bytes()
        before = stats(where)["stats"]["source_bytes"]
        second = (where / "f").read_bytes()
        after = stats(where)["stats"]

    assert first == second
    assert after["source_bytes"] == before  # but for the version, nothing was asked
    assert after["read_bytes"]["cache"] >= 1 << 20


@pytest.mark.slow
def test_F8_no_page_is_put_while_somebody_writes_through_the_mount(source: Path, where: Path) -> None:
    (source / "f").write_bytes(OLD)
    age(source / "f")
    with mounted(source, where, "cleancache=zcache:64M,direct_io"), (where / "f").open("r+b", buffering=0) as writer:
        before = stats(where)["stats"]["puts"]
        assert (where / "f").read_bytes() == OLD
        writer.write(NEW)
        assert (where / "f").read_bytes() == NEW

        assert stats(where)["stats"]["puts"] == before


@pytest.mark.slow
def test_F3_a_punched_hole_reads_as_zeros(source: Path, where: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    (source / "f").write_bytes(b"x" * 65536)
    age(source / "f")
    with mounted(source, where):
        assert (where / "f").read_bytes() == b"x" * 65536
        with (where / "f").open("r+b") as file:
            assert libc.fallocate(file.fileno(), 3, ctypes.c_int64(4096), ctypes.c_int64(8192)) == 0

        assert (where / "f").read_bytes() == b"x" * 4096 + bytes(8192) + b"x" * 53248


@pytest.mark.slow
@pytest.mark.parametrize("options", ["cleancache=zcache:16M", "cleancache=zcache:16M,direct_io", "cleancache=none"])
def test_F3_the_exerciser_finds_no_difference(options: str, source: Path, where: Path, tmp_path: Path) -> None:
    with mounted(source, where, options):
        both(OPERATIONS, 1, [where], tmp_path / "turn")


@pytest.mark.slow
def test_F10_the_exerciser_finds_no_difference_over_two_mounts_and_the_source(
    source: Path, where: Path, tmp_path: Path
) -> None:
    options = "cleancache=zcache:16M,pool=6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5"
    with mounted(source, where, options), mounted(source, tmp_path / "second", options) as second:
        both(OPERATIONS, 2, [where, second, source], tmp_path / "turn")
