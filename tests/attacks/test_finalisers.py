"""Finalisers run whenever the garbage collector likes, in any thread that makes objects, and may use the cache."""

from __future__ import annotations

import os
import threading

import pytest

from cleancache.handle import Handle
from cleancache.store import Store

POOL = b"finalisers of us"


def test_X32_T3_the_reclaimer_is_started_under_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` waits for the new thread, in which a finaliser may want the Store first."""
    store = Store(1 << 20, background=True)
    start, could = threading.Thread.start, list[bool]()

    def watched(thread: threading.Thread) -> None:
        if thread.name == "cleancache-reclaim":
            done = threading.Event()

            def look() -> None:
                store.stats()
                done.set()

            start(threading.Thread(target=look))
            could.append(done.wait(2))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    for page in range(40):
        store.put(Handle(POOL, bytes(24), page), os.urandom(40_000))
    monkeypatch.undo()
    store.close()

    assert could == [True]
