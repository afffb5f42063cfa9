"""Threads that miss together, flushes that overtake, forks."""

from __future__ import annotations

import os
import random
import sys
import threading

import pytest

from cleancache.handle import Scope
from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.reader.flights import Flights, Workers
from tests.reading.sources import DictBackend, DictSource

PAGE = 4096
CONTENT = random.Random(5).randbytes(8 * PAGE)


def reader_of(source: DictSource, pool: Pool, **options: object) -> Reader:
    return Reader(source, pool, **{"page_size": PAGE, "readahead": 0, **options})  # type: ignore[arg-type]  # test options


class Gate:
    """Holds the reads of a source until the test lets them go."""

    def __init__(self, source: DictSource) -> None:
        self.arrived = threading.Semaphore(0)
        self.opened = threading.Event()
        source.hook = self._wait

    def _wait(self, name: str, offset: int, size: int | None) -> None:
        self.arrived.release()
        assert self.opened.wait(60)


def run(*jobs: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=job) for job in jobs]  # type: ignore[arg-type]  # callables
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_F9_readers_that_miss_together_fetch_each_page_once(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    gate = Gate(source)
    reader = reader_of(source, open_pool)
    got: list[bytes] = []
    threads = run(*[lambda: got.append(reader.fetch("a"))] * 8)
    assert gate.arrived.acquire(timeout=60)

    while (reader.stats().joined or 0) < 7:
        threading.Event().wait(0.001)
    gate.opened.set()
    join(threads)

    assert got == [CONTENT] * 8
    assert source.reads == [("a", 0, len(CONTENT))]
    stats = reader.stats()
    assert stats.read_bytes == {"cache": 7 * len(CONTENT), "source": len(CONTENT)}


def test_F9_when_the_one_fetch_fails_the_others_fetch_for_themselves(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    failing = threading.Event()
    arrived = threading.Semaphore(0)
    reader = reader_of(source, open_pool)

    def hook(name: str, offset: int, size: int | None) -> None:
        arrived.release()
        if len(source.reads) == 1:
            assert failing.wait(60)
            raise PermissionError("this one alone")

    source.hook = hook
    results: list[object] = []

    def read() -> None:
        try:
            results.append(reader.fetch("a"))
        except PermissionError as error:
            results.append(error)

    threads = run(read, read, read)
    assert arrived.acquire(timeout=60)
    while (reader.stats().joined or 0) < 2:
        threading.Event().wait(0.001)
    failing.set()
    join(threads)

    assert results.count(CONTENT) == 2
    assert sum(isinstance(result, PermissionError) for result in results) == 1


def test_F9_a_fetch_that_takes_too_long_is_not_waited_for(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    slow = threading.Event()
    arrived = threading.Semaphore(0)
    reader = reader_of(source, open_pool, fill_deadline_s=0.02)

    def hook(name: str, offset: int, size: int | None) -> None:
        arrived.release()
        if len(source.reads) == 1:
            assert slow.wait(60)

    source.hook = hook
    threads = run(lambda: reader.fetch("a"))
    assert arrived.acquire(timeout=60)

    assert reader.fetch("a") == CONTENT

    slow.set()
    join(threads)


@pytest.mark.parametrize("scope", ["name", "pool"])
def test_F8_a_flush_during_a_fetch_voids_it(open_pool: Pool, backend: DictBackend, scope: str) -> None:
    """Not put, and not handed to a reader that came after the flush."""
    old, new = CONTENT, CONTENT[::-1]
    source = DictSource({"a": old})
    gate = Gate(source)
    reader = reader_of(source, open_pool)
    early: list[bytes] = []
    threads = run(lambda: early.append(reader.fetch("a")))
    assert gate.arrived.acquire(timeout=60)
    source.change("a", new, is_seen=False)  # as a write inside the clock's grain

    if scope == "name":
        assert reader.flush("a")
    else:
        assert open_pool.flush(Scope(open_pool.id))
    late: list[bytes] = []
    threads += run(lambda: late.append(reader.fetch("a")))
    assert gate.arrived.acquire(timeout=60)  # its own request: it did not join
    gate.opened.set()
    join(threads)

    assert early == [old]
    assert late == [new]
    assert set(backend.pages.values()) <= {new[at : at + PAGE] for at in range(0, len(new), PAGE)}
    assert reader.fetch("a") == new


@pytest.mark.parametrize("scope", ["name", "pool"])
def test_F8_the_same_for_a_first_request_that_brings_its_version(open_pool: Pool, scope: str) -> None:
    """Its object is not known before its bytes are read, so any flush since then voids it."""
    old, new = CONTENT, CONTENT[::-1]
    source = DictSource({"a": old})
    source.has_first = True
    gate = Gate(source)
    reader = reader_of(source, open_pool)
    early: list[bytes] = []
    threads = run(lambda: early.append(reader.fetch("a")))
    assert gate.arrived.acquire(timeout=60)
    source.change("a", new, is_seen=False)  # as a write inside the clock's grain

    reader.flush("a") if scope == "name" else open_pool.flush(Scope(open_pool.id))
    gate.opened.set()
    join(threads)

    assert early == [old]
    assert reader.fetch("a") == new


def test_F8_no_page_is_put_while_the_name_is_open_for_writing(open_pool: Pool, backend: DictBackend) -> None:
    source = DictSource({"a": CONTENT, "b": CONTENT})
    reader = reader_of(source, open_pool)
    reader.fetch("a")
    assert backend.pages

    with reader.writing("a"):
        assert not backend.pages
        assert reader.fetch("a") == CONTENT
        assert not backend.pages
        with reader.writing("a"):
            pass
        reader.fetch("a")
        assert not backend.pages
        reader.fetch("b")
        assert len(backend.pages) == 8

    reader.fetch("a")
    assert len(backend.pages) == 16


def test_V9_threads_that_read_write_and_flush_never_see_a_torn_or_old_buffer(pool: Pool) -> None:
    source = DictSource({"a": bytes([0]) * 8 * PAGE})
    reader = reader_of(source, pool, readahead=4 * PAGE)
    stop = threading.Event()
    done = [0]  # the last number whose write returned
    errors: list[str] = []

    def write() -> None:
        for number in range(1, 120):
            reader.flush("a")
            source.change("a", bytes([number]) * 8 * PAGE, is_seen=number % 3 != 0)
            reader.flush("a")
            done[0] = number
        stop.set()

    def read(seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            floor = done[0]
            start = rng.randrange(8 * PAGE)
            got = reader.fetch("a", start, start + rng.randrange(1, 3 * PAGE))
            if len(set(got)) > 1:
                errors.append(f"torn: {set(got)}")
            elif got and got[0] < floor:
                errors.append(f"old: {got[0]} after {floor}")

    join(run(write, *[lambda seed=seed: read(seed) for seed in range(4)]))
    assert errors == []


def test_T4_an_interrupt_in_the_middle_of_a_fetch_leaves_no_flight(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)

    def interrupt(name: str, offset: int, size: int | None) -> None:
        raise KeyboardInterrupt

    source.hook = interrupt
    with pytest.raises(KeyboardInterrupt):
        reader.fetch("a")
    source.hook = None

    assert reader.fetch("a") == CONTENT
    assert len(reader._gather._flights) == 0


def test_T6_without_threads_everything_is_read_by_the_caller(open_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    from cleancache.reader import gather

    monkeypatch.setattr(gather, "workers", Workers(most_threads=0, most_waiting=0))
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool, readahead=4 * PAGE)
    opened = reader.open("a")
    reader.read(opened, 2 * PAGE, PAGE)
    reader.read(opened, 5 * PAGE, PAGE)

    assert reader.read(opened, 0, len(CONTENT)) == CONTENT
    opened = reader.open("a")
    assert b"".join(reader.read(opened, at, 100) for at in range(0, len(CONTENT), 100)) == CONTENT
    assert len(reader._gather._flights) == 0


def test_T6_a_thread_that_cannot_start_is_said_so() -> None:
    class NoThreads(Workers):
        def submit(self, job: object) -> bool:
            real, threading.Thread.start = threading.Thread.start, _refuse  # type: ignore[method-assign]  # a limit
            try:
                return super().submit(job)  # type: ignore[arg-type]  # passed through
            finally:
                threading.Thread.start = real  # type: ignore[method-assign]  # back

    assert NoThreads().submit(lambda: None) is False


def _refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_T6_workers_end_when_they_are_told_to() -> None:
    workers = Workers(most_threads=2)
    ran = threading.Event()

    assert workers.submit(ran.set)
    assert ran.wait(60)
    workers.stop()

    assert not workers._threads


def test_a_flight_that_was_replaced_leaves_the_newer_one_on_the_table() -> None:
    flights = Flights()
    (old,), _ = flights.board(b"o", [1, 2], 0, 8)
    (new,), _ = flights.board(b"o", [2], 1, 8)

    flights.leave(old)
    assert len(flights) == 1
    assert flights.board(b"o", [2], 1, 8)[1] == [(2, new)]
    flights.leave(new)
    assert len(flights) == 0


def test_T1_a_forked_child_reads_for_itself(open_pool: Pool) -> None:
    source = DictSource({"a": CONTENT})
    reader = reader_of(source, open_pool)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            reader.fetch("a")
            reader.flush("a")

    threads = run(busy, busy)
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                _read_in_child(source, reader)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        join(threads)


def _read_in_child(source: DictSource, reader: Reader) -> None:
    code = 1
    try:
        source._lock = threading.Lock()  # the test's own lock, not ours
        code = 0 if reader.fetch("a") == CONTENT else 2
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)
