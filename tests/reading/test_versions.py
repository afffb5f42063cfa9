"""Which version, when it is asked, and what happens when it changes under a read."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.reader.names import MOST_OBJECTS, Names
from cleancache.source import NONE, WEAK, Garbled, Version
from cleancache.testing import FakeClock
from tests.reading.sources import DictBackend, DictSource

PAGE = 4096
OLD = random.Random(5).randbytes(4 * PAGE)
NEW = random.Random(6).randbytes(4 * PAGE)


def reader_of(source: DictSource, pool: Pool, **options: object) -> Reader:
    return Reader(source, pool, **{"page_size": PAGE, "readahead": 0, **options})  # type: ignore[arg-type]  # test options


def test_F5_the_version_is_asked_at_every_open(pool: Pool) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, pool)

    for number in range(5):
        content = OLD[number:] + OLD[:number]
        source.change("a", content)
        assert reader.fetch("a") == content
        assert reader.fetch("a") == content
    assert len(source.asked) == 10


def test_F5_a_failed_check_is_the_sources_error_and_no_hit(pool: Pool) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, pool)
    reader.fetch("a")
    source.error = PermissionError("revoked")

    with pytest.raises(PermissionError, match="revoked"):
        reader.fetch("a")


def test_F5_max_stale_counts_from_when_the_source_was_asked(pool: Pool) -> None:
    source, clock = DictSource({"a": OLD}), FakeClock()
    reader = reader_of(source, pool, max_stale=30.0, clock=clock)
    reader.fetch("a")
    source.change("a", NEW)

    clock.advance(29)
    assert reader.fetch("a") == OLD
    clock.advance(2)
    assert reader.fetch("a") == NEW


def test_F5_immutable_is_asked_once(pool: Pool) -> None:
    source, clock = DictSource({"a": OLD}), FakeClock()
    reader = reader_of(source, pool, immutable=True, clock=clock)

    for _ in range(3):
        assert reader.fetch("a") == OLD
        clock.advance(10**9)

    assert source.asked == ["a"]


def test_immutable_that_is_not_true_heals_when_it_shows(pool: Pool) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, pool, immutable=True)
    assert reader.fetch("a", 0, 10) == OLD[:10]
    source.change("a", NEW)

    assert reader.fetch("a", 0, 10) == OLD[:10]  # the user's word
    assert reader.fetch("a") == NEW  # a page that was not there shows that it does not hold


@pytest.mark.parametrize(
    ("strength", "options", "is_cached"),
    [
        (NONE, {}, False),
        (NONE, {"max_stale": 30.0}, False),
        (NONE, {"immutable": True}, True),
        (WEAK, {}, False),
        (WEAK, {"max_stale": 30.0}, True),
        (WEAK, {"immutable": True}, True),
    ],
)
def test_F7_a_version_that_is_no_proof_is_cached_on_request_only(
    open_pool: Pool, backend: DictBackend, strength: str, options: dict[str, object], is_cached: bool
) -> None:
    source = DictSource({"a": OLD})
    source.strength = strength
    reader = reader_of(source, open_pool, **options)

    opened = reader.open("a")
    assert reader.read(opened, 0, 10**6) == OLD
    assert reader.fetch("a") == OLD

    assert opened.is_cached is is_cached
    assert bool(backend.pages) is is_cached
    assert (reader.stats().unversioned == 0) is is_cached
    assert is_cached or opened.why


def test_F7_absence_is_never_cached(pool: Pool) -> None:
    source = DictSource()
    reader = reader_of(source, pool, max_stale=1e9)

    with pytest.raises(FileNotFoundError):
        reader.fetch("a")
    source.change("a", NEW)
    assert reader.fetch("a") == NEW
    del source.contents["a"]
    with pytest.raises(FileNotFoundError):
        reader_of(source, pool).fetch("a")


def test_F6_bytes_that_may_not_be_put_are_handed_out_and_nothing_more(open_pool: Pool, backend: DictBackend) -> None:
    source = DictSource({"a": OLD})
    source.fit = False
    reader = reader_of(source, open_pool)

    assert reader.fetch("a") == OLD
    assert reader.read(reader.open("a"), 5, 10) == OLD[5:15]

    assert backend.pages == {}


def test_F4_a_change_in_mid_read_starts_over_when_nothing_was_handed_out(pool: Pool) -> None:
    """X36 as well: a page of the old version is in the cache, and still the buffer has one version."""
    source = DictSource({"a": OLD})
    reader = reader_of(source, pool)
    reader.read(reader.open("a"), 0, PAGE)
    version = source.version

    def changing(name: str) -> Version:
        found = version(name)
        source.version = version  # type: ignore[method-assign]  # once
        source.change("a", NEW)
        return found

    calls: list[Callable[[], list[bytes]]] = [
        lambda: [reader.fetch("a")],
        lambda: reader.fetch_ranges("a", [(0, None)]),
    ]
    for call in calls:
        source.change("a", OLD)
        reader.read(reader.open("a"), 0, PAGE)
        source.version = changing  # type: ignore[method-assign]  # the object changes right after it was asked
        assert call() == [NEW]
    assert reader.stats().changed == 2


def test_F4_an_open_file_whose_version_is_gone_says_so(pool: Pool) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, pool)
    opened = reader.open("a")
    assert reader.read(opened, 0, PAGE) == OLD[:PAGE]
    source.change("a", NEW)

    assert reader.read(opened, 0, PAGE) == OLD[:PAGE]  # a copy of this version is still there
    for call in (
        lambda: reader.read(opened, 0, 2 * PAGE),
        lambda: reader.readinto(opened, PAGE, memoryview(bytearray(10))),
        lambda: reader.read_ranges(opened, [(0, 10), (2 * PAGE, 3 * PAGE)]),
    ):
        with pytest.raises(OSError, match="Stale") as caught:
            call()
        assert caught.value.errno == errno.ESTALE
    assert reader.stats().changed == 3
    assert reader.fetch("a") == NEW


def test_F4_an_object_that_never_holds_still_is_an_error_not_a_blend(pool: Pool) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, pool)
    version = source.version

    def moving(name: str) -> Version:
        found = version(name)
        source.change("a", source.contents["a"])
        return found

    source.version = moving  # type: ignore[method-assign]  # a source that changes after each answer

    with pytest.raises(OSError, match="again and again") as caught:
        reader.fetch("a")
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"", lambda data: data[:10]])
def test_X34_a_short_answer_is_asked_for_once_more_then_it_is_the_sources_error(
    open_pool: Pool, backend: DictBackend, spoil: object
) -> None:
    source = DictSource({"a": OLD})
    source.spoil = spoil  # type: ignore[assignment]  # a lambda
    reader = reader_of(source, open_pool)

    with pytest.raises(Garbled) as caught:
        reader.fetch("a")

    assert caught.value.errno == errno.EIO
    assert len(source.reads) == 2
    assert backend.pages == {}
    source.spoil = None
    assert reader.fetch("a") == OLD


@pytest.mark.parametrize(
    "error", [PermissionError("403"), FileNotFoundError("404"), TimeoutError("late"), ValueError("odd")]
)
def test_X33_the_sources_own_errors_pass_unchanged_and_leave_no_page(
    open_pool: Pool, backend: DictBackend, error: Exception
) -> None:
    """F11."""
    source = DictSource({"a": OLD})
    reader = reader_of(source, open_pool)
    opened = reader.open("a")
    source.error = error

    with pytest.raises(type(error)) as caught:
        reader.read(opened, 0, 2 * PAGE)

    assert caught.value is error
    assert backend.pages == {}
    assert reader.stats().source_errors == 1


def test_F12_the_first_audit_that_differs_stops_caching(open_pool: Pool, backend: DictBackend) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, open_pool, audit_every=4)
    for _ in range(3):
        assert reader.fetch("a") == OLD
    assert reader.stats().stale_hits == 0

    source.change("a", NEW, is_seen=False)  # a source that lies about its version
    opened = reader.open("a")
    got = reader.read(opened, 0, 4 * PAGE)

    assert reader.stats().stale_hits == 1
    assert got == NEW  # the whole buffer, not only the page that was looked at
    assert reader.fetch("a") == NEW
    assert not reader.open("a").is_cached
    assert backend.pages == {}


def test_F12_no_verdict_when_the_object_moved_on(open_pool: Pool) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, open_pool, audit_every=1)
    opened = reader.open("a")
    reader.read(opened, 0, 4 * PAGE)
    source.change("a", NEW)

    assert reader.read(opened, 0, 4 * PAGE) == OLD
    assert reader.stats().stale_hits == 0


def test_a_flush_of_a_name_covers_every_version_that_was_read(open_pool: Pool, backend: DictBackend) -> None:
    source = DictSource({"a": OLD, "b": OLD})
    reader = reader_of(source, open_pool)
    reader.fetch("b")
    kept = len(backend.pages)
    for number in range(MOST_OBJECTS + 3):
        source.change("a", OLD[number:])
        reader.fetch("a")

    assert reader.flush("a")

    assert len(backend.pages) == kept


def test_a_flush_of_a_name_that_was_forgotten_covers_the_pool() -> None:
    names = Names(limit=2)
    for number, name in enumerate("abc"):
        names.remember(name, Version(b"v", 1, "strong"), 0.0, bytes([number]) * 24)

    assert names.flushed("c") == (b"\x02" * 24,)
    assert names.flushed("a") is None
    assert Names().flushed("a") == ()


def test_a_flush_that_must_cover_the_pool_does(open_pool: Pool, backend: DictBackend) -> None:
    source = DictSource({"a": OLD, "b": OLD})
    reader = reader_of(source, open_pool)
    reader._gather.names._limit = 1
    reader.fetch("a")
    reader.fetch("b")

    assert reader.flush("a")

    assert backend.pages == {}


def test_the_flush_after_a_write_finds_what_an_open_file_put_since_the_flush_before(open_pool: Pool) -> None:
    source = DictSource({"a": OLD})
    reader = reader_of(source, open_pool)
    opened = reader.open("a")
    reader.flush("a")
    reader.read(opened, 0, 4 * PAGE)
    source.change("a", NEW, is_seen=False)  # the write, inside the clock's grain

    reader.flush("a")

    assert reader.fetch("a") == NEW


def test_F10_readers_of_a_shared_pool_each_serve_the_version_they_asked_for(backend: DictBackend) -> None:
    """S31: no pointer to the latest version; a write on one side, seen at the next open on the other."""
    source = DictSource({"a": OLD})
    here, there = (Pool(backend, bytes(range(16)), shared=True) for _ in range(2))
    reader, other = reader_of(source, here), reader_of(source, there)
    assert reader.fetch("a") == other.fetch("a") == OLD
    assert len(source.reads) == 1
    opened = other.open("a")

    with reader.writing("a"):
        source.change("a", NEW)

    assert other.fetch("a") == NEW
    assert reader.fetch("a") == NEW
    with pytest.raises(OSError, match="Stale"):
        other.read(opened, 0, PAGE)
    here.close()
    there.close()


def test_a_flush_in_a_shared_pool_asks_which_pages_others_may_have_put(backend: DictBackend) -> None:
    source = DictSource({"a": OLD})
    here, there = (Pool(backend, bytes(range(16)), shared=True) for _ in range(2))
    reader_of(source, here).fetch("a")
    assert backend.pages

    assert reader_of(source, there).flush("a")

    assert backend.pages == {}
    here.close()
    there.close()
