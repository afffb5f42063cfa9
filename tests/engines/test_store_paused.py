"""A flush or a newer put while the Store is in the middle of something: compressing a page, spilling it (C7, C8, X28).

The Store is held at the very call that runs outside of its lock; whatever lands afterwards must not undo what came in
between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cleancache.handle import Handle, Scope
from cleancache.store import Store
from cleancache.testing import check_sums, contents
from cleancache.testing.faults import nth

POOL, OBJECT, PAGE = b"paused--" * 2, b"object-1" * 3, 4000


class Gate:
    """Holds the first call of a function until it is opened."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self._real = real
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, *given: Any) -> Any:
        if not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(60)
        return self._real(*given)


def handle(page: int) -> Handle:
    return Handle(POOL, OBJECT, page)


@contextmanager
def compressing() -> Iterator[tuple[Store, Gate]]:
    """A Store, full of pages that compress, that another thread makes room in; it is held at its first page."""
    store = Store(512 << 10, segment_bytes=32_768)
    assert store._codec.compress is not None
    gate = Gate(store._codec.compress)
    store._codec = store._codec._replace(compress=gate)

    def fill() -> None:
        for page in range(400):
            store.put(handle(page), contents(handle(page), 1, PAGE))
            if gate.opened.is_set():
                return

    worker = threading.Thread(target=fill, name="filler")
    worker.start()
    try:
        assert gate.reached.wait(60), "nothing was ever compressed"
        yield store, gate
    finally:
        gate.opened.set()
        worker.join()
        check_sums(store.stats())
        store.close()


@pytest.mark.parametrize("scope", [Scope(POOL), Scope(POOL, OBJECT), Scope(POOL, OBJECT, 0)], ids=lambda one: one.kind)
def test_C7_a_flush_while_a_page_is_being_compressed_holds(scope: Scope) -> None:
    with compressing() as (store, gate):
        resident = [page for page in range(400) if store._core.find(handle(page)) is not None]

        assert store.flush(scope)
        gate.opened.set()
        store.settle()

        for page in resident[:50]:  # the filler puts one page more at most, and never one of these
            if scope.covers(handle(page)):
                assert store.get(handle(page)) is None, f"C7: page {page} came back after a flush of its {scope.kind}"


def test_C8_a_newer_put_while_a_page_is_being_compressed_wins() -> None:
    with compressing() as (store, gate):
        for page in range(40, 100):  # room for the newer ones, without the thread that is held
            store.flush(Scope(*handle(page)))
        new = {page: contents(handle(page), 3, PAGE) for page in range(16)}
        for page, data in new.items():
            assert store.put(handle(page), data)

        gate.opened.set()
        store.settle()

        for page, data in new.items():
            assert store.get(handle(page)) in (None, data), f"C8: the older bytes of page {page} came back"
        assert any(store.get(handle(page)) == data for page, data in new.items())


def test_X11_T6_a_store_that_may_start_no_thread_makes_room_itself() -> None:
    store = Store(256 << 10, segment_bytes=12_288, background=True)
    with nth(threading.Thread, "start", 1, lambda: RuntimeError("can't start new thread"), times=10**9) as fault:
        for page in range(300):
            assert store.put(handle(page), contents(handle(page), 2, PAGE))

    assert fault.fired
    check_sums(store.stats())
    store.close()
