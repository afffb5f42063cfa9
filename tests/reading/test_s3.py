"""S3 over a moto server: versions asked past the listings, reads pinned to them (S24–S26, S29)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from cleancache.errors import Changed
from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source import NONE, STRONG, WEAK, source_for
from cleancache.source.s3 import S3Source, version_of
from tests.reading.sources import DictBackend

pytestmark = [
    pytest.mark.process_wide("Thread-"),  # werkzeug's
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),  # botocore's and moto's
]

OLD = random.Random(5).randbytes(300_000)
NEW = random.Random(6).randbytes(300_000)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def s3_file_system(endpoint: str, secret: str = "test") -> Any:
    return fsspec.filesystem(
        "s3",
        key="test",
        secret=secret,
        endpoint_url=endpoint,
        client_kwargs={"region_name": "us-east-1"},
        skip_instance_cache=True,
    )


@pytest.fixture(scope="module")
def buckets(endpoint: str) -> Any:
    fs = s3_file_system(endpoint)
    for bucket in ("plain", "versioned"):
        fs.call_s3("create_bucket", Bucket=bucket)
    fs.call_s3("put_bucket_versioning", Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    return fs


@pytest.fixture
def fs(buckets: Any) -> Any:
    for bucket in ("plain", "versioned"):
        buckets.pipe_file(f"{bucket}/a", OLD)
    return buckets


@pytest.fixture
def reader(fs: Any, open_pool: Pool) -> Reader:
    return Reader(source_for(fs), open_pool, readahead=0)


@pytest.mark.parametrize("name", ["plain/a", "versioned/a"])
def test_a_cold_read_is_one_request_and_a_warm_one_only_asks(reader: Reader, backend: DictBackend, name: str) -> None:
    assert reader.fetch(name) == OLD
    assert reader.stats().source_reads == 1
    assert len(backend.pages) == 5

    assert reader.fetch(name) == OLD
    assert reader.fetch(name, -100, -1) == OLD[-100:-1]

    stats = reader.stats()
    assert stats.source_reads == 3
    assert stats.source_bytes == len(OLD)


@pytest.mark.parametrize("name", ["plain/a", "versioned/a"])
def test_S26_a_listing_that_is_remembered_hides_no_change(reader: Reader, fs: Any, endpoint: str, name: str) -> None:
    """B22: the ETag never comes from a listing."""
    other = s3_file_system(endpoint)
    fs.ls(name.partition("/")[0], detail=True)
    assert reader.fetch(name) == OLD
    other.pipe_file(name, NEW)

    assert reader.fetch(name) == NEW


def test_S24_an_overwrite_between_head_and_get_is_never_blended(reader: Reader, fs: Any) -> None:
    opened = reader.open("plain/a")
    assert reader.read(opened, 0, 10) == OLD[:10]
    fs.pipe_file("plain/a", NEW)

    with pytest.raises(OSError, match="Stale"):
        reader.read(opened, 0, 300_000)
    assert reader.fetch("plain/a") == NEW


def test_an_open_file_of_a_versioned_bucket_keeps_its_version(reader: Reader, fs: Any) -> None:
    opened = reader.open("versioned/a")
    fs.pipe_file("versioned/a", NEW)

    assert reader.read(opened, 0, 300_000) == OLD
    assert reader.fetch("versioned/a") == NEW


def test_If_Match_is_what_stops_an_old_version(fs: Any) -> None:
    source = S3Source(fs)
    version = source.version("plain/a")
    fs.pipe_file("plain/a", NEW)

    with pytest.raises(Changed):
        source.read("plain/a", version, 0, 10)
    fs.pipe_file("plain/a", b"short")
    with pytest.raises(Changed):
        source.read("plain/a", version, 200_000, 10)


@pytest.mark.parametrize("length", [0, 1, 65536])
def test_every_length_comes_back_exact(reader: Reader, fs: Any, length: int) -> None:
    fs.pipe_file("plain/b", OLD[:length])

    for start, end in ((None, None), (0, 10), (5, None), (-3, None), (10**6, None)):
        for _ in range(2):
            assert reader.fetch("plain/b", start, end) == OLD[:length][start:end]


def test_X33_errors_are_those_of_s3fs(reader: Reader, fs: Any) -> None:
    """S29 too: absence is not remembered."""
    with pytest.raises(FileNotFoundError):
        reader.fetch("plain/absent")
    with pytest.raises(FileNotFoundError):
        reader.open("plain/absent")
    fs.pipe_file("plain/absent", b"now it is there")
    assert reader.fetch("plain/absent") == b"now it is there"
    with pytest.raises((IsADirectoryError, FileNotFoundError)):
        reader.fetch("plain")
    fs.rm("plain/absent")


def test_P12_the_identity_knows_who_asks_and_tells_no_secret(
    fs: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = s3_file_system(endpoint, secret="other secret")
    identities = {S3Source(fs).identity, S3Source(other).identity}
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    identities.add(S3Source(fs).identity)

    assert len(identities) == 3
    assert "secret" not in "".join(identities)


def test_S25_what_counts_is_the_version_id_else_etag_size_and_time_together() -> None:
    etag = '"d41d8cd98f00b204e9800998ecf8427e-2"'
    one = version_of(None, etag, 10, 1, {})
    others = [
        version_of(None, etag, 11, 1, {}),
        version_of(None, etag, 10, 2, {}),
        version_of("null", '"x"', 10, 1, {}),
    ]

    assert one.strength == STRONG
    assert version_of("null", etag, 10, 1, {}).token == one.token
    assert all(other.token != one.token for other in others)
    assert version_of("v1", etag, 10, 1, {}).token == version_of("v1", '"y"', 10, 2, {}).token
    assert version_of(None, 'W/"1"', 10, 1, {}).strength == WEAK
    assert version_of(None, "", 10, 1, {}).strength == NONE


def test_a_multipart_object_reads_back(reader: Reader, fs: Any) -> None:
    content = random.Random(9).randbytes(11 << 20)
    with fs.open("plain/big", "wb", block_size=5 << 20) as file:
        file.write(content)

    assert reader.fetch("plain/big") == content
    opened = reader.open("plain/big")
    assert "-" in opened.details["ETag"]
    assert reader.read(opened, 5_000_000, 3_000_000) == content[5_000_000:8_000_000]
    assert reader.stats().source_bytes == len(content)
    fs.rm("plain/big")
