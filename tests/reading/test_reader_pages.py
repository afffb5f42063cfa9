"""Ranges and pages: right bytes, few requests, exact counts."""

from __future__ import annotations

import random

import pytest

from cleancache.backend import READER_BYTES
from cleancache.errors import SpecError
from cleancache.handle import Handle
from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.reader.raw import RawPages, raw_pages
from tests.reading.sources import DictBackend, DictSource

PAGE = 4096
CONTENT = random.Random(7).randbytes(10 * PAGE + 123)


def reader_of(source: DictSource, pool: Pool, **options: object) -> Reader:
    return Reader(source, pool, **{"page_size": PAGE, "readahead": 0, **options})  # type: ignore[arg-type]  # test options


def test_every_range_has_the_bytes_of_the_file_warm_and_cold(pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    rng = random.Random(3)

    for _ in range(3):
        reader = reader_of(source, pool)
        opened = reader.open("a")
        for _ in range(200):
            offset, size = rng.randrange(len(CONTENT) + 100), rng.choice([0, 1, 100, PAGE, 3 * PAGE, 10**6])
            assert reader.read(opened, offset, size) == CONTENT[offset : offset + size]


@pytest.mark.parametrize("length", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_V14_every_length_comes_back_exact(pool: Pool, length: int) -> None:
    source = DictSource({"a": CONTENT[:length]})
    reader = reader_of(source, pool)

    assert [reader.fetch("a") for _ in range(3)] == [CONTENT[:length]] * 3
    assert reader.read(reader.open("a"), 0, 10**9) == CONTENT[:length]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        (5, None),
        (None, 7),
        (-10, None),
        (-10, -3),
        (None, -5),
        (7, 7),
        (9, 3),
        (10**9, None),
        (0, 10**9),
        (-(10**9), 4),
    ],
)
@pytest.mark.parametrize("has_first", [False, True])
def test_fetch_keeps_the_rules_of_slices(pool: Pool, start: int | None, end: int | None, has_first: bool) -> None:
    source = DictSource({"a": CONTENT})
    source.has_first = has_first
    reader = reader_of(source, pool)

    assert reader.fetch("a", start, end) == CONTENT[start:end]
    assert reader.fetch("a", start, end) == CONTENT[start:end]


def test_readinto_fills_the_buffer_of_the_caller(pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, pool)
    opened = reader.open("a")
    buffer = bytearray(3 * PAGE)

    assert reader.readinto(opened, 100, memoryview(buffer)) == 3 * PAGE
    assert buffer == CONTENT[100 : 100 + 3 * PAGE]
    assert reader.readinto(opened, len(CONTENT) - 5, memoryview(buffer)) == 5
    assert buffer[:5] == CONTENT[-5:]
    assert reader.readinto(opened, len(CONTENT) + 5, memoryview(buffer)) == 0


def test_readinto_takes_any_buffer_that_can_be_written(pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, pool)
    opened = reader.open("a")
    buffer = bytearray(4 * PAGE)

    for _ in range(2):
        assert reader.readinto(opened, 0, memoryview(buffer)[::2]) == 2 * PAGE
        assert buffer[::2] == CONTENT[: 2 * PAGE]
        with pytest.raises(TypeError):
            reader.readinto(opened, 0, memoryview(bytes(2 * PAGE)))

    assert "down" not in pool.stats().misses  # and nobody took that for a fault of the tier


class Scribbler(DictBackend):
    """Copies half of each third page, then says that it has none."""

    def get_into(self, handle: Handle, into: memoryview) -> int:
        data = self.get(handle)
        if data is None or handle.page % 3 == 2:
            into[: len(into) // 2] = b"?" * (len(into) // 2)
            return 0
        into[: len(data)] = data
        return len(data)


def test_V6_what_a_tier_left_in_the_buffer_before_it_missed_is_overwritten() -> None:
    source = DictSource({"a": CONTENT})
    pool = Pool(Scribbler())
    reader = reader_of(source, pool)
    opened = reader.open("a")

    for offset in (0, 0, 1, PAGE, PAGE + 7):
        assert reader.read(opened, offset, len(CONTENT)) == CONTENT[offset:]
        buffer = bytearray(5 * PAGE)
        assert reader.readinto(opened, offset, memoryview(buffer)) == 5 * PAGE
        assert buffer == CONTENT[offset : offset + 5 * PAGE]

    source.change("a", CONTENT[::-1])
    with pytest.raises(OSError, match=r"[Ss]tale"):  # its version is gone and its pages are not whole
        reader.read(opened, 0, len(CONTENT))


def test_pages_that_are_read_whole_and_once_put_out_no_raw_page(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT, "b": bytes(PAGE) * 600})
    reader = reader_of(source, open_pool)
    near, scan = reader.open("a"), reader.open("b")
    reader.read(scan, 0, 600 * PAGE)
    reader.read(near, 0, 10)

    for page in range(600):
        reader.read(scan, page * PAGE, PAGE)

    gets = open_pool.stats().gets
    assert reader.at_hand(near, 0) == CONTENT[:PAGE]
    assert reader.at_hand(scan, 7) is None
    for _ in range(3):
        assert reader.read(scan, 7 * PAGE, PAGE) == bytes(PAGE)
    assert reader.at_hand(scan, 7) == bytes(PAGE)
    assert open_pool.stats().gets - gets <= 2


def test_neighbouring_misses_are_one_request(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    opened = reader.open("a")
    reader.read(opened, 4 * PAGE, PAGE)
    source.reads.clear()

    assert reader.read(opened, 0, len(CONTENT)) == CONTENT

    assert sorted(source.reads) == [("a", 0, 4 * PAGE), ("a", 5 * PAGE, 5 * PAGE + 123)]


def test_a_large_read_is_cut_into_requests_of_bounded_size(open_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleancache.reader import gather

    monkeypatch.setattr(gather, "REQUEST_BYTES", 2 * PAGE)
    monkeypatch.setattr(gather, "SIDE_BY_SIDE", 2)
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)

    assert reader.read(reader.open("a"), 0, len(CONTENT)) == CONTENT

    assert sorted(source.reads) == [("a", at * PAGE, min(2 * PAGE, len(CONTENT) - at * PAGE)) for at in range(0, 11, 2)]
    assert len(reader._gather._flights) == 0


def test_an_error_in_one_of_many_requests_leaves_no_flight(open_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleancache.reader import gather

    monkeypatch.setattr(gather, "REQUEST_BYTES", PAGE)
    monkeypatch.setattr(gather, "SIDE_BY_SIDE", 3)
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    opened = reader.open("a")

    def fail(name: str, offset: int, size: int | None) -> None:
        if offset == 4 * PAGE:
            raise ConnectionError("reset")

    source.hook = fail
    with pytest.raises(ConnectionError, match="reset"):
        reader.read(opened, 0, len(CONTENT))
    source.hook = None

    assert reader.read(opened, 0, len(CONTENT)) == CONTENT
    assert len(reader._gather._flights) == 0


def test_ranges_share_pages_and_requests(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    ranges = [(0, 10), (5, 20), (PAGE - 1, PAGE + 1), (9 * PAGE, 10**9), (7, 7), (9, 2)]

    got = reader.read_ranges(reader.open("a"), ranges)

    assert got == [CONTENT[start:stop] for start, stop in ranges]
    assert sorted(source.reads) == [("a", 0, 2 * PAGE), ("a", 9 * PAGE, PAGE + 123)]
    assert reader.fetch_ranges("a", [(-4, None), (0, 3)]) == [CONTENT[-4:], CONTENT[:3]]
    assert len(source.reads) == 2


def test_a_cold_read_is_one_request_where_the_reply_brings_its_version(open_pool: Pool, backend: DictBackend) -> None:
    source = DictSource({"a": CONTENT})
    source.has_first = True
    reader = reader_of(source, open_pool)

    assert reader.fetch("a", 10, PAGE + 5) == CONTENT[10 : PAGE + 5]

    assert source.reads == [("a", 0, 2 * PAGE)]
    assert source.asked == []
    assert len(backend.pages) == 2
    assert reader.fetch("a", 20, PAGE) == CONTENT[20:PAGE]
    assert len(source.reads) == 1
    assert source.asked == ["a"]


def test_a_page_of_another_length_is_a_miss_and_a_flush(open_pool: Pool, backend: DictBackend) -> None:
    """V6 and the law of length: the Reader knows what it must get."""
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    opened = reader.open("a")
    handle = Handle(open_pool.id, opened.object, 2)
    backend.pages[handle] = b"too short"

    assert reader.read(opened, 0, len(CONTENT)) == CONTENT
    assert backend.pages[handle] == CONTENT[2 * PAGE : 3 * PAGE]
    assert any(scope.page == 2 for scope in backend.flushes)


def test_R7_what_callers_got_is_what_was_counted(pool: Pool) -> None:
    source = DictSource({"a": CONTENT, "b": CONTENT[:100]})
    source.has_first = True
    reader = reader_of(source, pool)
    got = 0
    rng = random.Random(1)

    for _ in range(50):
        got += len(reader.fetch("a", rng.randrange(len(CONTENT)), rng.randrange(len(CONTENT))))
        got += len(reader.fetch("b"))
        opened = reader.open("a")
        got += len(reader.read(opened, rng.randrange(len(CONTENT)), 300))
        got += reader.readinto(opened, rng.randrange(len(CONTENT)), memoryview(bytearray(2 * PAGE)))
        got += sum(map(len, reader.read_ranges(opened, [(0, 100), (50, 5000)])))

    stats = reader.stats()
    assert stats.read_bytes is not None
    assert sum(stats.read_bytes.values()) == got
    assert stats.source_bytes is not None
    assert stats.source_bytes >= stats.read_bytes["source"]
    assert stats.source_reads == len(source.asked) + len(source.reads)


def test_small_reads_of_one_page_ask_the_pool_once(pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, pool, page_size=16384)
    opened = reader.open("a")
    reader.read(opened, 0, 10)
    gets = pool.stats().gets

    for offset in range(0, 16384, 512):
        assert reader.read(opened, offset, 512) == CONTENT[offset : offset + 512]

    assert pool.stats().gets == gets


def test_a_flush_empties_the_raw_pages(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    opened = reader.open("a")
    reader.read(opened, 0, 10)
    source.change("a", CONTENT[::-1], is_seen=False)

    assert reader.read(opened, 0, 10) == CONTENT[:10]
    reader.flush("a")
    assert reader.read(opened, 0, 10) == CONTENT[::-1][:10]


def test_M1_the_raw_pages_of_the_process_stay_under_a_mebibyte() -> None:
    table = RawPages(10_000)

    for page in range(100):
        table.keep((b"p", b"o", page), bytes(999), 0)
        assert table.used_bytes <= 10_000

    assert table.get((b"p", b"o", 99), 0) is not None
    assert table.get((b"p", b"o", 0), 0) is None
    assert table.get((b"p", b"o", 99), 1) is None
    assert READER_BYTES == 1 << 20


def test_a_closed_reader_gives_its_raw_pages_back(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    opened = reader.open("a")
    reader.read(opened, 0, 10)
    name = (open_pool.id, opened.object, 0)
    assert raw_pages.get(name, open_pool.mark(opened.object)) is not None

    reader.close()

    assert raw_pages.get(name, open_pool.mark(opened.object)) is None


@pytest.mark.parametrize("page_size", [0, 1, 2048, 5000, 65535, 2 << 20])
def test_a_page_size_that_cannot_be_is_an_error_at_once(open_pool: Pool, page_size: int) -> None:
    with pytest.raises(SpecError, match="power of two from 4 KiB to 1 MiB"):
        Reader(DictSource(), open_pool, page_size=page_size)


def test_other_page_sizes_never_share_pages(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})

    for page_size in (4096, 8192, 65536):
        reader = reader_of(source, open_pool, page_size=page_size)
        assert reader.fetch("a") == reader.fetch("a") == CONTENT
