"""Writes pass through: the new bytes are read at once, whichever verb wrote them; nothing is kept meanwhile."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.surfaces.servers import BUCKET, S3, clean_start, s3_server

__all__ = ["clean_start"]
OLD, NEW = random.Random(1).randbytes(9000), random.Random(2).randbytes(9000)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def fs(s3: S3) -> Any:
    # "immutable": what is cached stays without any question, so only a flush can make a write visible
    return fsspec.filesystem(
        "cleancache",
        target_protocol="s3",
        target_options=s3.options,
        stack="zcache:16M",
        page_size=4096,
        immutable=True,
    )


def by_open(fs: Any, path: str, tmp: Path) -> None:
    with fs.open(path, "wb") as file:
        file.write(NEW)


def by_text(fs: Any, path: str, tmp: Path) -> None:
    with fs.open(path, "w", encoding="latin-1", newline="") as file:
        file.write(NEW.decode("latin-1"))


def by_pipe(fs: Any, path: str, tmp: Path) -> None:
    fs.pipe({path: NEW})


def by_pipe_file(fs: Any, path: str, tmp: Path) -> None:
    fs.pipe_file(f"cleancache::s3://{path}", NEW)


def by_write_bytes(fs: Any, path: str, tmp: Path) -> None:
    fs.write_bytes(path, NEW)


def by_put_file(fs: Any, path: str, tmp: Path) -> None:
    (tmp / "new").write_bytes(NEW)
    fs.put_file(str(tmp / "new"), path)


def by_put_into_a_folder(fs: Any, path: str, tmp: Path) -> None:
    (tmp / path.rsplit("/", 1)[1]).write_bytes(NEW)
    fs.put(str(tmp) + "/", path.rsplit("/", 1)[0] + "/", recursive=True)


def by_copy(fs: Any, path: str, tmp: Path) -> None:
    fs.fs.pipe_file(f"{BUCKET}/elsewhere", NEW)
    fs.cp(f"{BUCKET}/elsewhere", path)


def by_copy_of_a_tree(fs: Any, path: str, tmp: Path) -> None:
    folder, name = path.rsplit("/", 1)
    fs.fs.pipe_file(f"{BUCKET}/tree/{name}", NEW)
    fs.copy(f"{BUCKET}/tree/", folder + "/", recursive=True)


def by_move(fs: Any, path: str, tmp: Path) -> None:
    fs.fs.pipe_file(f"{BUCKET}/elsewhere", NEW)
    fs.mv(f"{BUCKET}/elsewhere", path)


def by_rm_and_pipe(fs: Any, path: str, tmp: Path) -> None:
    fs.rm(path)
    fs.fs.pipe_file(path, NEW)


def by_rm_of_a_tree(fs: Any, path: str, tmp: Path) -> None:
    fs.rm(path.rsplit("/", 1)[0], recursive=True)
    fs.fs.pipe_file(path, NEW)


def by_touch(fs: Any, path: str, tmp: Path) -> None:
    fs.touch(path)
    fs.fs.pipe_file(path, NEW)


def by_mapper(fs: Any, path: str, tmp: Path) -> None:
    folder, name = path.rsplit("/", 1)
    fs.get_mapper(folder)[name] = NEW


def by_async_twin(fs: Any, path: str, tmp: Path) -> None:
    asyncio.run(fs._pipe_file(path, NEW))


def by_a_method_of_the_target_alone(fs: Any, path: str, tmp: Path) -> None:
    fs.setxattr(path, kind="new")
    fs.fs.pipe_file(path, NEW)


WAYS = [value for name, value in sorted(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_a_write_is_read_at_once(write: Callable[[Any, str, Path], None], fs: Any, tmp_path: Path) -> None:
    path = f"{BUCKET}/data/{write.__name__}"
    fs.fs.pipe_file(path, OLD)
    assert fs.cat_file(path) == OLD
    fs.fs.pipe_file(path, NEW)
    assert fs.cat_file(path) == OLD  # immutable by the user's word, so this is what only a flush can end

    write(fs, path, tmp_path)

    assert fs.cat_file(path) == NEW
    with fs.open(path) as file:
        assert file.read() == NEW
    assert fs.info(path)["size"] == len(NEW)


def test_nothing_is_kept_while_a_name_is_open_to_write(tmp_path: Path) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="file", stack="zcache:16M", immutable=True)
    path = str(tmp_path / "a")
    fs.pipe_file(path, b"old bytes")
    assert fs.cat_file(path) == b"old bytes"

    with fs.open(path, "r+b") as file:
        file.write(b"new")
        file.flush()
        assert fs.cat_file(path) == b"new bytes"
        assert fs.cat_ranges([path, path], [0, 4], [3, None]) == [b"new", b"bytes"]
        with fs.open(path) as reader:
            assert reader.read() == b"new bytes"
        file.write(b"er")
    assert fs.cat_file(path) == b"newerytes"

    with fs.open(path, "ab") as file:
        file.write(b"!")
    assert fs.cat_file(path) == b"newerytes!"


def test_a_writer_that_nobody_closed_ends_with_its_file(tmp_path: Path) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="file", stack="zcache:16M")
    path = str(tmp_path / "a")
    file = fs.open(path, "wb")
    assert fs._shared().is_written(path)

    file._file.close()
    del file
    gc.collect()

    assert not fs._shared().is_written(path)


def test_modes_that_create_refuse_what_is_there(fs: Any, tmp_path: Path) -> None:
    path = f"{BUCKET}/there"
    fs.pipe_file(path, OLD)

    with pytest.raises(FileExistsError):
        fs.open(path, "xb")
    with pytest.raises(FileExistsError):
        fs.pipe_file(path, NEW, mode="create")
    local = fsspec.filesystem("cleancache", target_protocol="file", stack="zcache:16M")
    with local.open(str(tmp_path / "a"), "xb") as file:
        file.write(NEW)
    with pytest.raises(FileExistsError):
        local.pipe_file(str(tmp_path / "a"), OLD, mode="create")
    assert local.cat_file(str(tmp_path / "a")) == NEW
    assert not local._shared().is_written(str(tmp_path / "a"))


def test_a_failed_write_leaves_the_name_cachable(fs: Any) -> None:
    with pytest.raises(FileNotFoundError):
        fs.open("no-such-bucket/a", "wb").close()

    assert not fs._shared()._writings


@pytest.fixture
def local(tmp_path: Path) -> Any:
    return fsspec.filesystem("cleancache", target_protocol="file", stack="zcache:16M", immutable=True)


def test_a_transaction_is_seen_at_its_commit(local: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    local.pipe_file(path, OLD)
    assert local.cat_file(path) == OLD

    with local.transaction:
        with local.open(path, "wb") as file:
            file.write(NEW)
        local.pipe_file(str(tmp_path / "b"), NEW)
        assert local.cat_file(path) == OLD
        assert not local.exists(str(tmp_path / "b"))

    assert local.cat_file(path) == NEW
    assert local.cat_file(str(tmp_path / "b")) == NEW
    assert not local.fs._intrans


def test_a_transaction_that_fails_changes_nothing(local: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    local.pipe_file(path, OLD)

    def fail() -> None:
        with local.transaction:
            with local.open(path, "wb") as file:
                file.write(NEW)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()

    assert local.cat_file(path) == OLD
    assert not local.fs._intrans
    local.start_transaction()
    local.pipe_file(path, NEW)
    local.end_transaction()
    assert local.cat_file(path) == NEW


def test_a_file_that_commits_later_is_seen_when_it_does(local: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    local.pipe_file(path, OLD)
    assert local.cat_file(path) == OLD

    with local.open(path, "wb", autocommit=False) as thrown_away:
        thrown_away.write(NEW[:5])
    thrown_away.discard()
    with local.open(path, "wb", autocommit=False) as file:
        file.write(NEW)
    assert local.cat_file(path) == OLD
    file.commit()

    assert local.cat_file(path) == NEW


def test_single_names_are_copied_and_removed(local: Any, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    local.pipe({one: OLD, two: NEW})
    assert local.cat([one, two]) == {one: OLD, two: NEW}

    local.cp_file(one, two)
    assert local.cat_file(two) == OLD
    local.fs.pipe_file(one, NEW)
    local.chmod(one, 0o600)  # the target's own; it may write, so it is flushed around
    assert local.cat_file(one) == NEW
    local.rm_file(one)

    with pytest.raises(FileNotFoundError):
        local.cat_file(one)


def test_moving_and_removing_directories_flushes_what_was_in_them(local: Any, tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    local.pipe({f"{one}/a": OLD, f"{one}/sub/b": OLD, f"{two}/a": NEW})
    assert len(local.cat([f"{one}/a", f"{one}/sub/b", f"{two}/a"])) == 3
    local.fs.rm(f"{two}/a")

    local.mv(one, two, recursive=True)  # into the directory that is there
    assert local.cat_file(f"{two}/one/sub/b") == OLD
    local.mv(f"{two}/one/a", f"{two}/a")
    assert local.cat_file(f"{two}/a") == OLD
    local.rm(two, recursive=True)

    for gone in (f"{one}/a", f"{two}/a", f"{two}/one/a", f"{two}/one/sub/b"):
        with pytest.raises(FileNotFoundError):
            local.open(gone).read()


@pytest.mark.parametrize("name", ["mkdir", "makedirs", "exists", "isdir", "isfile", "ls", "find", "glob", "walk", "du"])
def test_what_is_delegated_asks_the_target(name: str, local: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(OLD)
    makes = name in ("mkdir", "makedirs")
    path = str(tmp_path / "sub") if makes else str(tmp_path)
    other = fsspec.filesystem("file", auto_mkdir=True)

    got = getattr(local, name)(f"cleancache::file://{path}")

    if makes:
        assert other.isdir(path)
    elif name == "walk":
        assert list(got) == list(other.walk(path))
    else:
        assert got == getattr(other, name)(path)


def test_the_targets_listing_of_a_written_name_is_dropped(s3: S3) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, stack="zcache:16M")
    assert fs.ls(f"{BUCKET}", detail=False) is not None
    fs.pipe_file(f"{BUCKET}/fresh", NEW)

    assert f"{BUCKET}/fresh" in fs.ls(BUCKET, detail=False)
    fs.invalidate_cache()
    assert BUCKET not in fs.dircache
    assert fs.modified(f"{BUCKET}/fresh").tzinfo is not None
    assert fs.sizes([f"s3://{BUCKET}/fresh"]) == [len(NEW)]
