"""Interrupts and finalisers at any instruction: nothing stays locked, and nobody waits for what will not come."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from cleancache.handle import Handle
from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.reader.flights import Flights, Landing, Workers
from cleancache.testing import Shelf
from tests.reading.sources import DictSource

DATA = bytes(range(256)) * 64
HERE = ("reader/gather.py", "reader/flights.py")


def nothing() -> None:
    """A job."""


class Interrupt(BaseException):
    """Comes from outside, as KeyboardInterrupt does."""


def interrupted_at(number: int, *files: str) -> Any:
    """A trace function that raises at the line of this *number* in *files*, once."""
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(files):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Interrupt
        return trace

    return trace


def test_X30_T4_an_interrupt_at_any_line_of_a_fetch_leaves_no_flight_behind() -> None:
    reader = Reader(DictSource({"name": DATA}), Pool(Shelf()), page_size=4096, readahead=0)
    for number in range(1000):
        reader.flush("name")
        opened = reader.open("name")
        before = sys.gettrace()
        sys.settrace(interrupted_at(number, *HERE))
        try:
            reader.read(opened, 5000, 100)
        except Interrupt:
            pass
        else:
            break
        finally:
            sys.settrace(before)
        assert not len(reader._gather._flights), f"a flight was left behind by an interrupt at line {number}"
    else:
        pytest.fail("there is no end to the lines of a fetch")

    assert number > 20
    assert reader.fetch("name") == DATA


def test_T4_a_worker_outlives_whatever_its_jobs_raise() -> None:
    workers = Workers(most_threads=2)
    done = threading.Event()

    def interrupted() -> None:
        raise Interrupt

    assert all(workers.submit(interrupted) for _ in range(6))
    assert workers.submit(done.set)

    assert done.wait(30), "nobody is left to do the job"
    workers.stop()


def test_X32_a_finaliser_that_reads_while_its_thread_boards_a_flight_does_not_hang() -> None:
    flights = Flights()

    def pages() -> Iterator[int]:
        yield 1
        own, _ = flights.board(bytes(24), [7], 0, 4)  # what a finaliser does, in the middle of the locked region
        flights.abandon(own)
        yield 2

    own, _ = flights.board(bytes(24), pages(), 0, 4)

    assert [(flight.start, flight.stop) for flight in own] == [(1, 3)]


def test_X32_T6_a_worker_is_started_under_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, start, could = Workers(), threading.Thread.start, list[bool]()

    def watched(thread: threading.Thread) -> None:
        monkeypatch.undo()
        done = threading.Event()

        def work() -> None:
            workers.stop(0)  # takes the lock
            done.set()

        start(threading.Thread(target=work))
        could.append(done.wait(5))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    assert workers.submit(nothing)
    workers.stop()

    assert could == [True]


def test_X30_whoever_waits_sees_a_landing_that_was_interrupted_in_the_middle() -> None:
    landing = Landing()
    landing._is_set = True  # interrupted before the gate was opened

    assert landing.wait()
    assert Landing().wait(0.01) is False


def test_X30_F8_an_interrupt_at_any_line_of_a_landing_leaves_no_page_shut() -> None:
    pool = Pool(Shelf())
    handle = Handle(pool.id, bytes(24), 0)
    for number in range(200):
        before = sys.gettrace()
        sys.settrace(interrupted_at(number, "cleancache/pool.py"))
        try:
            pool.land(handle, DATA[:4096], pool.mark(handle.object))
        except Interrupt:
            pass
        else:
            break
        finally:
            sys.settrace(before)
        if number > 1:  # the lines of `mark` come first
            assert not pool._landing, f"a landing was left behind by an interrupt at line {number}"
    else:
        pytest.fail("there is no end to the lines of a landing")

    assert number > 5
    assert pool.get(handle) == DATA[:4096]
