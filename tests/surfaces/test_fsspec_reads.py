"""Reading through `cleancache::` over real HTTP and S3: right bytes, few requests, one version a file."""

from __future__ import annotations

import asyncio
import io
import os
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from aiohttp import ClientResponseError
from fsspec.callbacks import Callback
from fsspec.implementations.memory import MemoryFile

from cleancache.frontends._file import CleancacheFile
from tests.surfaces.servers import BUCKET, S3, clean_start, s3_server
from tests.surfaces.web import Site, serving

__all__ = ["clean_start"]
STACK = "zcache:64M"
PAGE = 4096
DATA = random.Random(1).randbytes(5 * PAGE + 1234)
NEWER = random.Random(2).randbytes(4 * PAGE + 99)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


def over_http(**options: Any) -> Any:
    return fsspec.filesystem("cleancache", target_protocol="http", stack=STACK, page_size=PAGE, **options)


def over_s3(s3: S3, **options: Any) -> Any:
    return fsspec.filesystem(
        "cleancache", target_protocol="s3", target_options=s3.options, stack=STACK, page_size=PAGE, **options
    )


def test_a_second_read_asks_the_version_and_fetches_nothing(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()

    with fs.open(url) as file:
        assert file.read() == DATA
    site.requests.clear()
    with fs.open(url) as file:
        assert file.read() == DATA
    assert fs.cat_file(url, 10, 5000) == DATA[10:5000]

    assert site.requests == {"HEAD": 2}


def test_a_cold_cat_is_one_request(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()

    assert fs.cat_file(url) == DATA

    assert sum(site.requests.values()) == 1


def test_a_changed_object_gives_new_bytes_at_once(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()
    assert fs.cat_file(url) == DATA

    site.write("a.bin", NEWER)

    assert fs.cat_file(url) == NEWER
    with fs.open(url) as file:
        assert file.read() == NEWER


def test_a_changed_object_on_s3_gives_new_bytes_past_the_listing_cache(s3: S3) -> None:
    fs, path = over_s3(s3), f"{BUCKET}/a.bin"
    fs.pipe_file(path, DATA)
    assert path in fs.ls(BUCKET, detail=False)
    assert fs.cat_file(path) == DATA

    fsspec.filesystem("s3", **s3.options, skip_instance_cache=True).pipe_file(path, NEWER)

    assert fs.cat_file(path) == NEWER
    with fs.open(path) as file:
        assert file.read() == NEWER
    s3.forget()
    assert fs.cat_file(path) == NEWER
    assert s3.requests == {"HEAD": 1}


@pytest.mark.parametrize("start", [None, 0, 5, -7, PAGE, -2 * PAGE, 10**9])
@pytest.mark.parametrize("end", [None, 0, 3, -3, 2 * PAGE, 10**9])
def test_ranges_follow_the_rules_of_slices(start: int | None, end: int | None, site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()

    assert fs.cat_file(url, start, end) == DATA[start:end]
    assert fs.cat_ranges([url, url], [start, 1], [end, 9]) == [DATA[start:end], DATA[1:9]]


def test_ranges_of_what_is_not_cached_follow_them_too() -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="memory", stack=STACK)
    fs.pipe_file("/a", DATA)

    assert fs.cat_ranges(["/a"] * 3, [0, -5, 8], [4, None, 6]) == [DATA[:4], DATA[-5:], b""]
    fs.rm("/a")


def test_many_ranges_become_few_requests_and_max_gap_merges_more(site: Site) -> None:
    data = random.Random(3).randbytes(64 * PAGE)
    url, fs = site.write("a.bin", data), over_http(readahead=0)
    starts = [n * 4 * PAGE for n in range(16)]

    got = fs.cat_ranges([url] * 16, starts, [start + 10 for start in starts], max_gap=4 * PAGE)

    assert got == [data[start : start + 10] for start in starts]
    assert site.requests["GET"] == 1


def test_a_range_that_fails_is_an_exception_in_its_place_or_raised(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()

    good, bad = fs.cat_ranges([url, f"{site.url}/none"], 0, 4)

    assert good == DATA[:4]
    assert isinstance(bad, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([url, f"{site.url}/none"], 0, 4, on_error="raise")
    with pytest.raises(ValueError, match="one of each"):
        fs.cat_ranges([url], [1, 2], 4)
    with pytest.raises(TypeError):
        fs.cat_ranges(url, 0, 4)


def test_a_source_without_a_version_is_read_as_if_we_were_not_there(site: Site) -> None:
    site.write("a.bin", DATA)
    url, fs = f"{site.url}/weak/a.bin", over_http()

    with fs.open(url) as file:
        assert not isinstance(file, CleancacheFile)
        assert file.read() == DATA
    site.write("a.bin", NEWER)

    assert fs.cat_file(url) == NEWER
    assert over_http(immutable=True).open(url).read() == NEWER
    assert isinstance(over_http(immutable=True).open(url), CleancacheFile)


def test_memory_is_never_cached() -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="memory", stack=STACK)
    fs.pipe_file("/a", DATA)

    with fs.open("/a") as file:
        assert isinstance(file, MemoryFile)
    with fs.open("/a", "r+b") as file:
        file.write(b"new")

    assert fs.cat_file("/a") == b"new" + DATA[3:]
    fs.rm("/a")


def test_what_only_the_target_understands_goes_to_the_target(s3: S3) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=s3.url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    client.create_bucket(Bucket="kept")
    client.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket="kept", Key="a", Body=b"first")["VersionId"]
    client.put_object(Bucket="kept", Key="a", Body=b"second")
    fs = fsspec.filesystem(
        "cleancache", target_protocol="s3", target_options={**s3.options, "version_aware": True}, stack=STACK
    )

    assert fs.cat_file("kept/a") == b"second"
    assert fs.cat_file("kept/a", version_id=first) == b"first"
    with fs.open("kept/a", version_id=first) as file:
        assert file.read() == b"first"


@pytest.mark.parametrize("verb", ["cat_file", "open", "info", "modified"])
def test_errors_of_the_source_arrive_unchanged(verb: str, site: Site) -> None:
    fs = over_http()

    with pytest.raises(FileNotFoundError):
        getattr(fs, verb)(f"{site.url}/none")
    plain = fsspec.filesystem("http")
    with pytest.raises(ClientResponseError) as theirs:
        plain.cat_file(f"{site.url}/denied/x")
    with pytest.raises(ClientResponseError) as ours:
        fs.cat_file(f"{site.url}/denied/x")
    assert (type(ours.value), ours.value.status) == (type(theirs.value), 403)


class Told(Callback):
    """What a progress bar would be told."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def relative_update(self, inc: int = 1) -> None:
        self.steps.append(inc)


def test_get_file_goes_through_pages_and_tells_how_far_it_is(site: Site, tmp_path: Path) -> None:
    url, fs, told = site.write("a.bin", DATA), over_http(), Told()

    fs.get_file(url, str(tmp_path / "down" / "a"), callback=told)
    site.requests.clear()
    out = io.BytesIO()
    fs.get_file(url, out)

    assert (tmp_path / "down" / "a").read_bytes() == out.getvalue() == DATA
    assert (told.size, sum(told.steps)) == (len(DATA), len(DATA))
    assert site.requests == {"HEAD": 1}


def test_a_failed_get_file_leaves_no_part_behind(site: Site, tmp_path: Path) -> None:
    fs = over_http()

    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{site.url}/none", str(tmp_path / "part"))

    assert not (tmp_path / "part").exists()


def test_bulk_reads_go_through_pages(s3: S3, tmp_path: Path) -> None:
    fs = over_s3(s3)
    fs.pipe({f"{BUCKET}/bulk/{n}": DATA[n:] for n in range(8)})
    wanted = {f"{BUCKET}/bulk/{n}": DATA[n:] for n in range(8)}
    assert fs.cat(f"{BUCKET}/bulk/*") == wanted
    s3.forget()

    assert fs.cat(sorted(wanted)) == wanted
    assert fs.cat(f"{BUCKET}/bulk/3") == DATA[3:]
    fs.get(f"{BUCKET}/bulk/", str(tmp_path), recursive=True)
    assert fs.cat(f"{BUCKET}/bulk/none", on_error="omit") == {}

    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {str(n): DATA[n:] for n in range(8)}
    listed = s3.requests["GET"]
    assert listed <= 6  # listings; no object
    assert fs.head(f"{BUCKET}/bulk/1", 5) == DATA[1:6]
    assert fs.tail(f"{BUCKET}/bulk/1", 5) == DATA[-5:]
    assert fs.read_block(f"{BUCKET}/bulk/1", 3, 4) == DATA[4:8]
    fs.rm(f"{BUCKET}/bulk", recursive=True)


def test_async_twins_work_inside_a_running_loop(site: Site) -> None:
    url = site.write("a.bin", DATA)

    async def use() -> None:
        fs = over_http(asynchronous=True)
        assert await fs._cat_file(url, 3, 9) == DATA[3:9]
        assert await fs._cat([url]) == {url: DATA}
        assert await fs._cat_ranges([url, url], [0, -4], [4, None], max_gap=9) == [DATA[:4], DATA[-4:]]
        assert (await fs._info(url))["size"] == len(DATA)
        assert await fs._exists(url)
        assert [step async for step in fs._walk(url)] == list(fs.fs.walk(url))
        assert fs.cat_file(url) == DATA  # a sync call in a running loop, as in a notebook
        with fs.open(url) as file:
            assert file.read() == DATA

    asyncio.run(use())


def test_bulk_reads_have_as_many_requests_under_way_as_the_target_would(tmp_path: Path) -> None:
    names = 40
    together, most, lock = threading.Barrier(names, timeout=60), [0], threading.Lock()

    class Slow(type(fsspec.filesystem("memory"))):  # type: ignore[misc]  # a class that is only known when it runs
        protocol = "slow"

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
            with lock:
                most[0] += 1
            together.wait()
            return bytes(super().cat_file(path, start, end, **kwargs))

    fsspec.register_implementation("slow", Slow, clobber=True)
    fs = fsspec.filesystem("cleancache", target_protocol="slow", stack=STACK)
    fs.pipe({f"/slow/{n}": b"%d" % n for n in range(names)})

    got = fs.cat([f"/slow/{n}" for n in range(names)])

    assert got == {f"/slow/{n}": b"%d" % n for n in range(names)}
    fs.rm("/slow", recursive=True)


def test_a_young_local_file_is_right_at_every_read(tmp_path: Path) -> None:
    path, fs = tmp_path / "a", fsspec.filesystem("cleancache", target_protocol="file", stack=STACK)

    for n in range(50):  # equal size, inside the clock's grain: law F2
        path.write_bytes(b"%06d" % n)
        assert fs.cat_file(str(path)) == b"%06d" % n
        with fs.open(str(path)) as file:
            assert file.read() == b"%06d" % n


def test_our_prefix_works_above_archives_below_nothing_and_with_compression(site: Site, tmp_path: Path) -> None:
    import gzip
    import zipfile

    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.csv", "x,y\n1,2\n")
    (tmp_path / "a.gz").write_bytes(gzip.compress(DATA))

    with fsspec.open(f"zip://a.csv::cleancache::{site.url}/z.zip", "rt", cleancache={"stack": STACK}) as file:
        assert file.read() == "x,y\n1,2\n"
    with fsspec.open(f"cleancache::{site.url}/a.gz", compression="gzip", stack=STACK) as file:
        assert file.read() == DATA
    with fsspec.open(f"cleancache::{site.url}/a.gz", compression="infer", stack=STACK) as file:
        assert file.read() == DATA


def test_a_mapper_reads_and_writes(tmp_path: Path) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="file", stack=STACK)
    store = fs.get_mapper(str(tmp_path / "store"))

    store["a/b"] = b"bytes"

    assert store["a/b"] == b"bytes"
    assert list(store) == ["a/b"]
    del store["a/b"]
    assert os.listdir(tmp_path / "store" / "a") == []


def test_modified_is_the_targets_word_or_its_listings_or_now(site: Site, tmp_path: Path) -> None:
    url = site.write("a.bin", DATA)
    os.utime(tmp_path / "a.bin", (1_600_000_000, 1_600_000_000))

    class Bare(type(fsspec.filesystem("memory"))):  # type: ignore[misc]  # a class that is only known when it runs
        protocol = "bare"
        stamp: Any = None

        def modified(self, path: str) -> datetime:
            raise NotImplementedError

        def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
            return {**super().info(path, **kwargs), "mtime": self.stamp}

    fsspec.register_implementation("bare", Bare, clobber=True)
    bare = fsspec.filesystem("cleancache", target_protocol="bare", stack=STACK)
    bare.pipe_file("/bare", b"x")
    then = datetime.fromtimestamp(1_600_000_000, UTC)

    assert over_http().modified(url) == then
    for stamp in (1_600_000_000, 1_600_000_000.0, then, then.isoformat(), "Sun, 13 Sep 2020 12:26:40 GMT"):
        Bare.stamp = stamp
        assert bare.modified("/bare") == then
    for none in (None, "some day"):
        Bare.stamp = none
        assert abs((bare.modified("/bare") - datetime.now(UTC)).total_seconds()) < 60
    bare.rm("/bare")
