"""Trouble of the cache is never trouble of a read, and no race between readers and writers brings old bytes back."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

import cleancache
from cleancache.backend import Absent, Buffer
from cleancache.frontends import _process
from cleancache.handle import Handle, Scope
from cleancache.spec import Tier
from cleancache.testing.shelf import Shelf
from tests.surfaces.servers import BUCKET, S3, clean_start, s3_server
from tests.surfaces.web import Site, serving

__all__ = ["clean_start"]
DATA = random.Random(1).randbytes(200_000)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


class Raising(Absent):
    """A tier with a bug in every verb."""

    def put(self, handle: Handle, data: Buffer) -> bool:
        raise RuntimeError("put")

    def get(self, handle: Handle) -> bytes | None:
        raise RuntimeError("get")

    def flush(self, scope: Scope) -> bool:
        raise RuntimeError("flush")


class Lying(Absent):
    """A tier that gives what nobody put."""

    def get(self, handle: Handle) -> bytes | None:
        return b"short"


def _cannot_start(tier: Tier) -> Any:
    raise OSError("no memory at all")


@pytest.mark.expects_logs
@pytest.mark.parametrize("make", [lambda tier: Raising(), lambda tier: Lying(), _cannot_start])
def test_a_tier_in_trouble_never_fails_a_read(make: Callable[[Tier], Any], site: Site) -> None:
    url = site.write("a.bin", DATA)
    cleancache.register("troubled", make)
    try:
        fs = fsspec.filesystem("cleancache", target_protocol="http", stack="troubled")
        for _ in range(3):
            assert fs.cat_file(url) == DATA
            with fs.open(url) as file:
                file.seek(70_000)
                assert file.read(10) == DATA[70_000:70_010]
            assert fs.cat_ranges([url, url], [0, 99_999], [5, 100_009]) == [DATA[:5], DATA[99_999:100_009]]
            _process.here().shared(fs.fs).write([url]).end()
    finally:
        cleancache.unregister("troubled")


@pytest.mark.expects_logs
def test_a_tier_that_nobody_registered_yet_is_waited_for(site: Site) -> None:
    url = site.write("a.bin", DATA)
    fs = fsspec.filesystem("cleancache", target_protocol="http", stack="later:1M")
    assert fs.cat_file(url) == DATA

    cleancache.register("later", lambda tier: Shelf())
    try:
        assert fs.cat_file(url) == DATA
        site.requests.clear()
        assert fs.cat_file(url) == DATA
        assert site.requests == {"HEAD": 1}
    finally:
        cleancache.unregister("later")


def race(write: Callable[[int], None], read: Callable[[random.Random], bytes], seconds: float) -> int:
    """Write versions one after another while threads read; nobody gets less than what was written before they began."""
    done, is_over, reads = [0], threading.Event(), [0] * 4

    def reader(number: int) -> None:
        chance = random.Random(number)
        while not is_over.is_set():
            least = done[0]
            try:
                got = read(chance)
            except OSError as problem:
                if problem.errno != errno.ESTALE:  # that one says: it changes faster than it can be read
                    raise
                continue
            versions = {got[n : n + 8] for n in range(0, len(got) // 8 * 8, 8)}
            assert len(versions) == 1, "two versions in one read"
            assert int(versions.pop()) >= least, "older than what was written before the read began"
            reads[number] += 1

    write(0)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(reader, number) for number in range(4)]
        end = time.monotonic() + seconds
        version = 0
        while time.monotonic() < end and not any(each.done() for each in running):
            version += 1
            write(version)
            done[0] = version
        is_over.set()
        for each in running:
            each.result()
    return min(reads)


def body(version: int) -> bytes:
    return b"%08d" % version * 20_000


@pytest.mark.slow
@pytest.mark.parametrize("through_us", [True, False], ids=["written through us", "written beside us"])
def test_readers_never_get_older_bytes_than_those_there_when_they_began(through_us: bool, tmp_path: Path) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="file", stack="zcache:16M")
    path = str(tmp_path / "a")

    def write(version: int) -> None:
        if through_us:
            fs.pipe_file(f"{path}.new", body(version))
            fs.mv(f"{path}.new", path)
        else:
            (tmp_path / "a.new").write_bytes(body(version))
            (tmp_path / "a.new").rename(path)

    def read(chance: random.Random) -> bytes:
        if chance.random() < 0.5:
            return bytes(fs.cat_file(path))
        start = chance.randrange(19_000) * 8
        first, second = fs.cat_ranges([path, path], [0, start], [800, start + 800], on_error="raise")
        return bytes(first + second)

    assert race(write, read, 1.5) > 10


@pytest.mark.slow
def test_readers_of_s3_never_get_older_bytes_than_those_there_when_they_began() -> None:
    with s3_server() as s3:
        run_on_s3(s3)


def run_on_s3(s3: S3) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, stack="zcache:16M")
    path = f"{BUCKET}/raced"

    def read(chance: random.Random) -> bytes:
        if chance.random() < 0.5:
            return bytes(fs.cat_file(path))
        with fs.open(path) as file:
            return bytes(file.read())

    assert race(lambda version: fs.pipe_file(path, body(version)), read, 2.0) > 2
