"""Several objects at once, so that a source with a latency is not waited for one object at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def each(streams: int, items: Iterable[T], work: Callable[[T], object]) -> None:
    """Call *work* once for each item, *streams* at a time; the first failure ends it and is raised here.

    Threads: daemons, joined before the return. After an interrupt nobody waits for a source that hangs: they end with
    the process.
    """
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    failures: list[BaseException] = []
    count = 0
    for item in items:
        waiting.put(item)
        count += 1

    def run() -> None:
        while not failures:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                work(item)
            except BaseException as failure:  # handed to the caller, below
                failures.append(failure)

    threads = [
        threading.Thread(target=run, name=f"cleancache-{number}", daemon=True) for number in range(min(streams, count))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)  # a join without end would not see an interrupt on every platform
    except BaseException as failure:
        failures.append(failure)
        raise
    if failures:
        raise failures[0]
