"""Finalisers run whenever the garbage collector likes, in any thread that makes objects, and may use the cache."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import fsspec
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


def test_T3_X32_a_file_that_is_collected_while_open_to_write_takes_no_lock(tmp_path: Path) -> None:
    """Its finaliser may run in the middle of anything, in a thread that holds what another waits for."""
    fs = fsspec.filesystem("cleancache", target_protocol="file", stack="none", skip_instance_cache=True)
    path = str(tmp_path / "file")
    fs.pipe_file(path, b"old")
    file = fs.open(path, "wb")
    target, shared, writing = file._file, file._shared, file._writing
    file.write(b"new")
    with writing._lock:
        collecting = threading.Thread(target=file.__del__)
        collecting.start()
        collecting.join(5)
        assert not collecting.is_alive()
    assert shared.is_written(path)
    target.close()
    file.__dict__.clear()  # as if it had been collected

    assert fs.cat_file(path) == b"new"
    assert not shared.is_written(path), "the next call ends it"
