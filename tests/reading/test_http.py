"""HTTP: real requests to a real server that does everything wrong that the catalogue knows (S18–S23, X33, X34, X36,
X37)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from cleancache.errors import Changed
from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source import NONE, STRONG, WEAK, Garbled, source_for
from cleancache.source import http as http_module
from cleancache.source.http import HttpSource
from tests.reading.sources import DictBackend
from tests.servers import Fault, FileServer, http_file_system

OLD = random.Random(5).randbytes(300_000)
NEW = random.Random(6).randbytes(300_000)
MakeReader = Callable[..., Reader]


@pytest.fixture
def make(open_pool: Pool, server: FileServer) -> MakeReader:
    """A Reader over the server, which has OLD at /a."""
    server.objects["/a"] = OLD

    def make(**options: Any) -> Reader:
        return Reader(source_for(http_file_system()), options.pop("pool", open_pool), **{"readahead": 0, **options})

    return make


def test_a_cold_read_is_one_get_and_a_warm_one_is_one_head(make: MakeReader, server: FileServer) -> None:
    reader, url = make(), server.url("/a")

    assert reader.fetch(url) == OLD
    assert server.log == [("GET", "/a", "", 200)]
    assert reader.fetch(url) == OLD
    assert reader.fetch(url, 100, 200) == OLD[100:200]
    assert server.log[1:] == [("HEAD", "/a", "", 200)] * 2


def test_every_range_is_pinned_and_asked_past_the_caches(make: MakeReader, server: FileServer) -> None:
    """S20, S21, S22; B21."""
    reader, url = make(), server.url("/a")
    opened = reader.open(url)
    assert reader.read(opened, 70_000, 10) == OLD[70_000:70_010]

    head, get = server.requests
    assert head["Cache-Control"] == "no-cache"
    assert get["Range"] == "bytes=65536-131071"
    assert get["If-Match"] == opened.details["ETag"]
    assert head["Accept-Encoding"] == get["Accept-Encoding"] == "identity"


def test_a_changed_object_is_seen_at_the_next_open(make: MakeReader, server: FileServer) -> None:
    reader, url = make(), server.url("/a")
    assert reader.fetch(url) == OLD

    server.objects["/a"] = NEW

    assert reader.fetch(url) == NEW
    assert reader.fetch(url, -10, None) == NEW[-10:]


@pytest.mark.parametrize("fault", [Fault(), Fault(ignores_condition=True), Fault(ignores_range=True)])
def test_X36_an_object_that_changes_between_two_pages_is_never_blended(
    make: MakeReader, server: FileServer, fault: Fault
) -> None:
    """F4; S20: whether or not the server honours If-Match."""
    reader, url = make(), server.url("/a")
    opened = reader.open(url)
    assert reader.read(opened, 0, 10) == OLD[:10]
    server.objects["/a"] = NEW
    server.faults["/a"] = fault

    if fault.ignores_range:  # the whole object came with the first page in that case, or nothing of it does
        reader.flush(url)
    with pytest.raises(OSError, match="Stale"):
        reader.read(opened, 0, 300_000)
    assert reader.fetch(url) == NEW


def test_X36_a_change_between_head_and_get_starts_over(make: MakeReader, server: FileServer) -> None:
    reader, url = make(), server.url("/a")
    reader.fetch(url, 0, 10)

    def swap(method: str, path: str) -> None:
        if method == "GET":
            server.objects["/a"] = NEW
            server.hook = None

    server.hook = swap
    assert reader.fetch(url) == NEW
    assert (reader.stats().changed or 0) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(shifted=5, times=1, methods=("GET",)),
        Fault(short=7, times=1, methods=("GET",)),
        Fault(trimmed=7, times=1, methods=("GET",)),
        Fault(headers={"Content-Range": "bytes 0-9/10"}, times=1, methods=("GET",)),
        Fault(headers={"Content-Range": "nonsense"}, times=1, methods=("GET",)),
        Fault(drops=("Content-Range",), times=1, methods=("GET",)),
    ],
)
@pytest.mark.parametrize("is_cold", [True, False])
def test_X34_a_garbled_answer_is_not_put_and_asked_for_once_more(
    make: MakeReader, server: FileServer, fault: Fault, is_cold: bool, backend: DictBackend
) -> None:
    reader, url = make(), server.url("/a")
    if not is_cold:
        reader.fetch(url, 0, 10)
    server.faults["/a"] = Fault(**vars(fault))

    assert reader.fetch(url, 100_000, 200_000) == OLD[100_000:200_000]

    pages = {OLD[at : at + 65536] for at in range(0, len(OLD), 65536)}
    assert set(backend.pages.values()) <= pages


def test_X34_what_stays_garbled_is_the_sources_error(
    make: MakeReader, server: FileServer, backend: DictBackend
) -> None:
    reader, url = make(), server.url("/a")
    server.faults["/a"] = Fault(shifted=5, methods=("GET",))
    with pytest.raises(Garbled, match="were asked for"):
        reader.fetch(url, 100_000, 200_000)

    server.faults["/a"] = Fault(short=5, methods=("GET",))
    with pytest.raises(aiohttp.ClientPayloadError):
        reader.fetch(url, 100_000, 200_000)
    assert backend.pages == {}


def test_X34_a_server_that_ignores_ranges_gives_right_bytes(
    make: MakeReader, server: FileServer, backend: DictBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults["/a"] = Fault(ignores_range=True)
    reader, url = make(), server.url("/a")
    opened = reader.open(url)

    assert reader.read(opened, 100_000, 50_000) == OLD[100_000:150_000]
    assert len(backend.pages) == 5  # all came, all were put
    assert reader.read(opened, 0, 10**6) == OLD
    assert server.count("GET") == 1

    reader.flush(url)
    monkeypatch.setattr(http_module, "WHOLE_LIMIT", 1000)  # as if the object were too large to keep
    opened = reader.open(url)
    assert reader.read(opened, 100_000, 50_000) == OLD[100_000:150_000]
    assert reader.fetch(url) == OLD
    assert len(backend.pages) == 5


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, FileNotFoundError), (403, aiohttp.ClientResponseError), (503, aiohttp.ClientResponseError)],
)
def test_X33_errors_are_those_of_fsspec_without_us(
    make: MakeReader, server: FileServer, status: int, error: type[Exception], backend: DictBackend
) -> None:
    """X37 too: once the credential is revoked there are no hits."""
    reader, url = make(), server.url("/a")
    reader.fetch(url)
    pages = dict(backend.pages)
    server.faults["/a"] = Fault(status=status)

    with pytest.raises(error) as without:
        http_file_system().cat_file(url)
    with pytest.raises(error) as ours:
        reader.fetch(url)
    with pytest.raises(error):
        reader.open(url)

    assert str(ours.value) == str(without.value)
    assert backend.pages == pages


def test_a_server_that_refuses_head_is_asked_by_get(make: MakeReader, server: FileServer) -> None:
    server.faults["/a"] = Fault(head_status=403)
    reader, url = make(), server.url("/a")

    opened = reader.open(url)

    assert opened.is_cached
    assert reader.read(opened, 0, 10**6) == OLD
    assert server.log[:2] == [("HEAD", "/a", "", 403), ("GET", "/a", "bytes=0-0", 206)]


def test_S18_a_weak_etag_is_cached_on_request_only(make: MakeReader, server: FileServer, backend: DictBackend) -> None:
    server.etags["/a"] = 'W/"1"'
    url = server.url("/a")
    reader = make()
    assert reader.fetch(url) == reader.fetch(url) == OLD
    assert reader.open(url).version.strength == WEAK
    assert backend.pages == {}

    reader = make(max_stale=60.0)
    assert reader.fetch(url) == reader.fetch(url, 0, 10**6) == OLD
    assert len(backend.pages) == 5
    assert all("If-Match" not in request for request in server.requests)


@pytest.mark.parametrize(("age_s", "strength"), [(30, NONE), (3600, STRONG)])
def test_S19_last_modified_counts_once_date_is_a_minute_later(
    make: MakeReader, server: FileServer, age_s: float, strength: str, backend: DictBackend
) -> None:
    server.faults["/a"] = Fault(drops=("ETag",))
    server.modified["/a"] = time.time() - age_s
    reader, url = make(), server.url("/a")

    assert reader.fetch(url) == reader.fetch(url) == OLD

    assert reader.open(url).version.strength == strength
    assert bool(backend.pages) is (strength == STRONG)


def test_F7_no_validator_is_not_cached_unless_immutable(
    make: MakeReader, server: FileServer, backend: DictBackend
) -> None:
    server.faults["/a"] = Fault(drops=("ETag", "Last-Modified"))
    url = server.url("/a")
    reader = make()
    assert reader.fetch(url) == reader.fetch(url) == OLD
    server.objects["/a"] = NEW
    assert reader.fetch(url) == NEW
    assert backend.pages == {}
    assert reader.stats().unversioned == 3

    reader = make(immutable=True)
    assert reader.fetch(url) == reader.fetch(url) == NEW
    assert len(backend.pages) == 5


def test_a_server_that_tells_no_length_is_read_whole_and_not_cached(
    make: MakeReader, server: FileServer, backend: DictBackend
) -> None:
    server.faults["/a"] = Fault(has_length=False, ignores_range=True)
    reader, url = make(), server.url("/a")

    assert reader.fetch(url) == OLD
    assert reader.fetch(url, 10, 20) == OLD[10:20]
    assert reader.read(reader.open(url), 10, 10) == OLD[10:20]
    assert reader.fetch(url, -5) == OLD[-5:]
    assert backend.pages == {}


def test_S21_a_body_that_is_encoded_all_the_same_is_decoded_and_not_cached(
    make: MakeReader, server: FileServer, backend: DictBackend
) -> None:
    server.faults["/a"] = Fault(gzips=True, ignores_range=True)
    reader, url = make(), server.url("/a")

    assert reader.fetch(url) == OLD
    assert reader.fetch(url, 10, 20) == OLD[10:20]
    assert reader.read(reader.open(url), 100_000, 20) == OLD[100_000:100_020]
    assert backend.pages == {}


def test_S21_a_host_whose_etags_flap_is_not_cached(server: FileServer, open_pool: Pool) -> None:
    now = [0.0]
    source = HttpSource(http_file_system(), clock=lambda: now[0])
    server.objects["/a"] = OLD
    url = server.url("/a")
    strengths = []
    for number in range(6):
        server.etags["/a"] = f'"{number % 2}"'
        strengths.append(source.version(url).strength)

    assert strengths == [STRONG, STRONG, STRONG, NONE, NONE, NONE]
    now[0] += 301
    assert source.version(url).strength == STRONG


def test_S21_vary_star_is_no_version(make: MakeReader, server: FileServer) -> None:
    server.faults["/a"] = Fault(headers={"Vary": "*"})

    assert not make().open(server.url("/a")).is_cached


def test_S23_the_name_is_the_url_after_redirects(make: MakeReader, server: FileServer, backend: DictBackend) -> None:
    server.objects["/b"] = NEW
    server.etags = {"/a": '"same"', "/b": '"same"'}
    server.faults["/r"] = Fault(redirect="/a")
    reader, url = make(), server.url("/r")
    assert reader.fetch(url) == reader.fetch(url) == OLD
    assert len(backend.pages) == 5
    opened = reader.open(url)

    server.faults["/r"] = Fault(redirect="/b")

    assert reader.fetch(url) == NEW
    reader.flush(url)
    with pytest.raises(OSError, match="Stale"):
        reader.read(opened, 0, 10)


def test_S23_signatures_of_a_redirect_do_not_name_pages(make: MakeReader, server: FileServer) -> None:
    reader, url = make(), server.url("/r")
    for number in range(3):
        server.faults["/r"] = Fault(redirect=f"/a?X-Amz-Signature={number}&Expires={number}&part=1")
        assert reader.fetch(url) == OLD

    assert sum(entry[0] == "GET" and entry[1] == "/a" for entry in server.log) == 1
    server.faults["/r"] = Fault(redirect="/a?X-Amz-Signature=9&part=2")
    assert reader.fetch(url) == OLD
    assert sum(entry[0] == "GET" and entry[1] == "/a" for entry in server.log) == 2


@pytest.mark.parametrize("control", ["private", "no-store, max-age=0"])
def test_S23_private_replies_never_reach_a_shared_pool(
    make: MakeReader, server: FileServer, control: str, backend: DictBackend
) -> None:
    server.faults["/a"] = Fault(headers={"Cache-Control": control})
    url = server.url("/a")
    with Pool(backend, bytes(range(16)), shared=True) as shared:
        reader = make(pool=shared)
        assert reader.fetch(url) == reader.fetch(url) == OLD
        assert backend.pages == {}
        assert "private" in reader.open(url).why

    assert make().open(url).is_cached


def test_P12_other_credentials_are_another_identity() -> None:
    plain = HttpSource(http_file_system())
    again = HttpSource(http_file_system())
    other = HttpSource(http_file_system(headers={"Authorization": "Bearer secret"}))

    assert plain.identity == again.identity
    assert other.identity != plain.identity
    assert "secret" not in other.identity


@pytest.mark.parametrize("content", [b"", b"x"])
def test_empty_and_tiny_objects(make: MakeReader, server: FileServer, content: bytes) -> None:
    server.objects["/e"] = content
    reader, url = make(), server.url("/e")

    for start, end in ((None, None), (0, 10), (5, 10), (-3, None), (None, 0)):
        assert reader.fetch(url, start, end) == content[start:end]
        assert reader.fetch(url, start, end) == content[start:end]


def test_F9_many_threads_cost_one_request(make: MakeReader, server: FileServer) -> None:
    reader, url = make(), server.url("/a")
    opened = reader.open(url)
    server.delay_s = 0.1
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(reader.read(opened, 0, 300_000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert got == [OLD] * 8
    assert server.count("GET") == 1


def test_F11_a_source_that_is_away_gives_its_own_error(make: MakeReader) -> None:
    with FileServer({"/a": OLD}) as gone:
        url = gone.url("/a")
    with pytest.raises(aiohttp.ClientConnectionError):
        make().fetch(url)


def test_changed_is_not_for_callers(make: MakeReader, server: FileServer) -> None:
    source = source_for(http_file_system())
    url = server.url("/a")
    version = source.version(url)
    server.objects["/a"] = NEW[:1000]

    with pytest.raises(Changed):
        source.read(url, version, 0, 10)
    with pytest.raises(Changed):
        source.read(url, version, 200_000, 10)
