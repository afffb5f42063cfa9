"""The thread that keeps stores to the memory there is: steps by hand and by a test's clock, then real groups."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from cleancache.backend import Stats
from cleancache.memory import Facts
from cleancache.pressure import MIB, STALL_PERCENT, Watch, floor_bytes
from tests.conftest import cannot, stretched

GIB = 1 << 30


class Shelf:
    """As much of a store as a watch sees."""

    def __init__(self, ceiling: int, used: int) -> None:
        self.limit = self.ceiling = ceiling
        self.used = used
        self.calls: list[int] = []

    def set_limit(self, limit_bytes: int) -> int:
        given_back = max(self.used - limit_bytes, 0)
        self.limit, self.used = limit_bytes, self.used - given_back
        self.calls.append(limit_bytes)
        return given_back

    def stats(self) -> Stats:
        return Stats(
            limit_bytes=self.limit, ceiling_bytes=self.ceiling, used_bytes={"pages": self.used - 7, "index": 7}
        )


class Machine:
    """A host whose free memory the test moves, and its clock."""

    def __init__(self, *shelves: Shelf, free: int = 32 * GIB) -> None:
        self.shelves, self.others, self.now, self.stall = shelves, 0, 100.0, 0.0
        self.total = free + sum(shelf.used for shelf in shelves)

    def facts(self) -> Facts:
        return Facts(self.total, self.total - self.others - sum(shelf.used for shelf in self.shelves), (), self.stall)

    def watch(self) -> Watch:
        watch = Watch(facts=self.facts, clock=lambda: self.now, pressure_path="/nonexistent")
        for shelf in self.shelves:
            watch.add(shelf)
        watch.stop()
        return watch


def test_M2_pressure_is_answered_in_one_step() -> None:
    shelf = Shelf(GIB, GIB)
    machine = Machine(shelf)
    watch = machine.watch()
    machine.others = machine.facts().available_bytes or 0  # nothing is left for anybody

    assert watch.step() == GIB

    assert shelf.used == shelf.limit == 0


def test_M2_two_stores_do_not_both_give_what_one_gave() -> None:
    first, second = Shelf(4 * GIB, 4 * GIB), Shelf(4 * GIB, 4 * GIB)
    machine = Machine(first, second)
    watch = machine.watch()
    lacking = 512 * MIB
    machine.others = (machine.facts().available_bytes or 0) - floor_bytes(machine.total) + lacking

    assert watch.step() == lacking

    assert (first.used, second.used) == (4 * GIB - lacking, 4 * GIB)


def test_M3_limits_rise_once_a_second_however_often_PSI_wakes_us() -> None:
    shelf = Shelf(GIB, 0)
    machine = Machine(shelf)
    watch = machine.watch()
    shelf.limit = 0

    for _ in range(5):
        machine.now += 0.3
        watch.step()

    assert shelf.calls == [GIB // 8]
    machine.now += 1.0
    watch.step()
    assert shelf.calls == [GIB // 8, GIB // 8 + (GIB - GIB // 8) // 8]


def test_M3_a_step_without_a_change_touches_no_store() -> None:
    shelf = Shelf(GIB, 5 * MIB)
    watch = Machine(shelf).watch()

    assert watch.step() == 0

    assert shelf.calls == []


def test_M2_a_wake_up_by_PSI_counts_as_stall_before_avg10_says_so() -> None:
    shelf = Shelf(GIB, 800 * MIB)
    machine = Machine(shelf, free=8 * GIB)
    watch = machine.watch()
    machine.others = (machine.facts().available_bytes or 0) - GIB  # tight, not short
    assert machine.stall < STALL_PERCENT

    assert watch.step() == 0
    assert watch.step(is_stalled=True) == 200 * MIB


def test_a_watch_keeps_no_store_alive() -> None:
    shelf = Shelf(GIB, 0)
    watch = Machine().watch()
    watch.add(shelf)
    watch.step()
    watch.stop()

    gone = weakref.ref(shelf)
    del shelf
    gc.collect()

    assert gone() is None
    assert watch.step() == 0


def test_the_thread_ends_with_the_last_store_within_a_second() -> None:
    first, second = Shelf(GIB, 0), Shelf(GIB, 0)
    watch = Machine().watch()
    assert watch.add(first)
    assert watch.add(second)
    watch.remove(first)
    assert watch.is_running

    began = time.monotonic()
    watch.remove(second)

    assert time.monotonic() - began < stretched(1.0)
    assert not watch.is_running
    assert not [thread for thread in threading.enumerate() if thread.name == "cleancache-pressure"]


def test_a_watch_can_be_started_again() -> None:
    shelf = Shelf(GIB, 0)
    watch = Machine().watch()
    for _ in range(3):
        assert watch.add(shelf)
        assert watch.start()
        watch.stop()
        watch.stop()

    assert not watch.is_running


def test_X11_a_process_that_may_start_no_thread_keeps_its_limits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    shelf = Shelf(GIB, 0)
    watch = Machine().watch()
    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert not watch.add(shelf)

    assert shelf.calls == []
    assert "limits stay as configured" in caplog.text


def test_X28_the_child_of_a_fork_has_no_watch_until_asked_again() -> None:
    code = """
import os, sys
from tests.engines.test_pressure_watch import Machine, Shelf
shelf = Shelf(1 << 30, 0)
watch = Machine().watch()
assert watch.add(shelf)
fds = len(os.listdir("/proc/self/fd"))
watch._lock.acquire()          # another thread may hold it in the instant of the fork
pid = os.fork()
if not pid:
    ok = not watch.is_running and watch.step() == 0 and len(os.listdir("/proc/self/fd")) < fds
    ok = ok and watch.add(shelf) and watch.is_running
    watch.stop()
    os._exit(0 if ok else 1)
watch._lock.release()
status = os.waitpid(pid, 0)[1]
ok = watch.is_running
watch.stop()
sys.exit(status or not ok)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_the_real_thread_moves_a_real_limit() -> None:
    shelf = Shelf(GIB, GIB)
    machine = Machine(shelf)
    watch = machine.watch()
    machine.others = machine.total

    watch.start()
    end = time.monotonic() + stretched(2.0)
    while shelf.used and time.monotonic() < end:
        time.sleep(0.01)
    watch.stop()

    assert shelf.used == 0  # M2: within two seconds


# --- real groups


class Group:
    """A memory group of this test, v1 or v2, and what is said about it."""

    def __init__(self, path: Path, *, is_v2: bool) -> None:
        self.path, self.is_v2 = path, is_v2

    def limit(self, limit_bytes: int) -> None:
        (self.path / ("memory.max" if self.is_v2 else "memory.limit_in_bytes")).write_text(str(limit_bytes))

    def used_bytes(self) -> int:
        return int((self.path / ("memory.current" if self.is_v2 else "memory.usage_in_bytes")).read_text())

    def oom_kills(self) -> int:
        text = (self.path / ("memory.events" if self.is_v2 else "memory.oom_control")).read_text()
        return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))

    def run(self, *arguments: str) -> subprocess.Popen[str]:
        """A Python that is in the group before it allocates anything."""
        enter = 'echo $$ > "$0" && exec "$@"'
        command = ["sh", "-c", enter, str(self.path / "cgroup.procs"), sys.executable, *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def group() -> Iterator[Group]:
    for top, is_v2 in ((Path("/sys/fs/cgroup/memory"), False), (Path("/sys/fs/cgroup"), True)):
        path = top / f"cleancache-test-{os.getpid()}"
        try:
            if is_v2 and "memory" not in (top / "cgroup.subtree_control").read_text().split():
                continue
            path.mkdir()
        except OSError:
            continue
        break
    else:
        cannot("no control group with a memory controller can be made here (root, cgroup v1 or a delegated v2)")
    yield Group(path, is_v2=is_v2)
    end = time.monotonic() + 60.0
    while True:
        try:
            path.rmdir()
            return
        except OSError:  # the last process is still leaving
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def ask(process: subprocess.Popen[str], order: str) -> dict[str, int]:
    """Send one order to `pressure_child` and wait for its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(order + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, f"the child died at {order!r} with {process.wait(5)}"
    answer: dict[str, int] = json.loads(line)
    return answer


@pytest.mark.slow
def test_M2_X5_a_group_that_fills_gets_its_memory_back_within_two_seconds(group: Group) -> None:
    group.limit(256 * MIB)
    floor = floor_bytes(256 * MIB)
    child = "-m", "tests.engines.pressure_child"
    with group.run(*child) as holder, group.run(*child) as other:
        try:
            assert ask(holder, f"hold {160 * MIB}")["used"] > 120 * MIB
            before = ask(holder, "stats")["used"]
            rooms = []
            for _ in range(4):  # each time a neighbour takes all that is left but 8 MiB
                room = 256 * MIB - group.used_bytes()
                ask(other, f"take {max(room - 8 * MIB, 0)}")
                began = time.monotonic()
                while 256 * MIB - group.used_bytes() < floor - MIB and time.monotonic() < began + stretched(2.0):
                    time.sleep(0.02)
                rooms.append(256 * MIB - group.used_bytes())
            after = ask(holder, "stats")

            assert min(rooms) >= floor - MIB, rooms
            assert after["used"] <= after["limit"] < before
            assert group.oom_kills() == 0

            ask(other, "free")
            end = time.monotonic() + 30.0
            while ask(holder, "stats")["limit"] <= after["limit"] and time.monotonic() < end:
                time.sleep(0.05)
            assert ask(holder, "stats")["limit"] > after["limit"]  # and slowly back
        finally:
            for process in (holder, other):
                if process.stdin is not None:
                    process.stdin.close()
                process.wait(60)


@pytest.mark.slow
def test_X5_a_reader_that_thrashes_in_its_group_is_not_killed(group: Group, tmp_path: Path) -> None:
    group.limit(160 * MIB)
    with group.run("-m", "tests.engines.pressure_child") as holder:
        try:
            ask(holder, f"hold {110 * MIB}")
            before = ask(holder, "stats")["used"]

            answer = ask(holder, f"thrash {320 * MIB} 4.0 {tmp_path / 'file'}")

            assert answer["bytes"] >= 320 * MIB
            assert group.oom_kills() == 0
            # how far the limit falls is the kernel's word: cached files can be taken back, and may leave room enough
            assert ask(holder, "stats")["used"] <= before
        finally:
            if holder.stdin is not None:
                holder.stdin.close()
            holder.wait(60)
