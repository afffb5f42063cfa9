"""What is fetched before it is asked for, and when the cache is not asked at all."""

from __future__ import annotations

import random
import time

from cleancache.handle import Handle
from cleancache.pool import Pool
from cleancache.testing import FakeClock
from tests.reading.sources import DictBackend, DictSource
from tests.reading.test_reader_pages import CONTENT, PAGE, reader_of


def test_a_sequential_reader_is_read_ahead_of(open_pool: Pool, backend: DictBackend) -> None:
    content = random.Random(2).randbytes(64 * PAGE)
    source = DictSource({"a": content})
    reader = reader_of(source, open_pool, readahead=16 * PAGE)
    opened = reader.open("a")

    got = b"".join(reader.read(opened, offset, 1000) for offset in range(0, len(content), 1000))

    assert got == content
    assert len(source.reads) < 20
    assert sum(size or 0 for _, _, size in source.reads) == len(content)  # nothing twice, nothing past the end
    assert max(size or 0 for _, _, size in source.reads) <= 16 * PAGE


def test_nothing_is_read_ahead_of_random_reads_or_of_pages_that_are_there(open_pool: Pool) -> None:
    content = random.Random(2).randbytes(64 * PAGE)
    source = DictSource({"a": content})
    reader = reader_of(source, open_pool, readahead=16 * PAGE)
    opened = reader.open("a")
    for page in (30, 10, 50, 20):
        reader.read(opened, page * PAGE, 100)
    assert sum(size or 0 for _, _, size in source.reads) == 4 * PAGE

    reader.warm("a")
    source.reads.clear()
    opened = reader.open("a")
    for offset in range(0, len(content), PAGE):
        reader.read(opened, offset, PAGE)

    assert source.reads == []


def test_warm_brings_every_page_and_gives_no_bytes_to_anyone(open_pool: Pool, backend: DictBackend) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    steps: list[int] = []

    assert reader.warm("a", steps.append) == len(CONTENT)

    assert sum(steps) == len(CONTENT)
    assert len(backend.pages) == 11
    assert sum((reader.stats().read_bytes or {}).values()) == 0


def test_X41_a_cache_that_is_slower_than_the_source_is_left_alone_for_a_while(backend: DictBackend) -> None:
    class SlowBackend(DictBackend):
        is_slow = True

        def get(self, handle: Handle) -> bytes | None:
            if self.is_slow:
                time.sleep(0.004)  # its slowness is what is measured
            return super().get(handle)

    slow, clock = SlowBackend(), FakeClock()
    pool = Pool(slow)
    reader = reader_of(DictSource({"a": CONTENT}), pool, clock=clock)
    opened = reader.open("a")
    for _ in range(5):
        assert reader.read(opened, 0, 9 * PAGE) == CONTENT[: 9 * PAGE]
    gets = pool.stats().gets
    assert reader.read(opened, 0, 9 * PAGE) == CONTENT[: 9 * PAGE]
    assert pool.stats().gets == gets

    slow.is_slow = False
    for _ in range(5):
        clock.advance(2)
        reader.read(opened, 0, 9 * PAGE)
    assert pool.stats().gets > gets + 20
    pool.close()


def test_X41_two_bytes_across_two_pages_cost_what_two_pages_cost(open_pool: Pool) -> None:
    reader = reader_of(DictSource({"a": CONTENT}), open_pool)
    opened = reader.open("a")
    reader.read(opened, 0, len(CONTENT))
    gets = open_pool.stats().gets

    for _ in range(50):
        assert reader.read(opened, PAGE - 1, 2) == CONTENT[PAGE - 1 : PAGE + 1]

    assert open_pool.stats().gets == gets + 100
