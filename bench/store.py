"""The Store beside the copies and checksums it is made of, and what is not there: G1, G2, G5's miss, G13.

    python -m bench.store [--short] [--json]

Every page is compared byte by byte with what was put, off the clock. Cold: pages are asked for in random order over
more memory than the caches hold.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import random
import sys
from collections.abc import Callable, Iterator

from bench.contents import Pages
from bench.harness import MIB, Report, Row, Scale, Spread, compare, measure
from cleancache.backend import Absent
from cleancache.handle import Handle, Scope
from cleancache.pool import Pool
from cleancache.registry import Registry
from cleancache.store import Store

POOL = bytes(range(16))
OBJECT_PAGES = 64  # a file of 4 MiB in pages of 64 KiB
KIB = 1 << 10
NAMES = {4 * KIB: "4 KiB", 64 * KIB: "64 KiB"}


def handle_of(number: int) -> Handle:
    """Handle *number*; files have `OBJECT_PAGES` pages each."""
    obj, page = divmod(number, OBJECT_PAGES)
    return Handle(POOL, obj.to_bytes(24, "little"), page)


def batches(count: int, size: int, seed: int = 1) -> Iterator[list[int]]:
    """Endless batches of *size* numbers below *count*, each number once before any comes again."""
    chance, order = random.Random(seed), list(range(count))
    while True:
        chance.shuffle(order)
        for at in range(0, max(count - size + 1, 1), size):
            yield order[at : at + size]


def cold_memory(parts: list[bytes]) -> tuple[memoryview, list[int]]:
    """One mapping that holds all *parts*, and where each begins."""
    starts = list(itertools.accumulate((len(part) for part in parts), initial=0))
    view = memoryview(mmap.mmap(-1, max(starts[-1], 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    for start, part in zip(starts, parts, strict=False):
        view[start : start + len(part)] = part
    return view, starts


def compare_all(report: Report, store: Store, handles: list[Handle], bodies: list[bytes]) -> None:
    """Get every page once and compare every byte of it; a wrong one ends the run."""
    for handle, body in zip(handles, bodies, strict=True):
        page = store.get(handle)
        if page is None:
            report.count(misses=1)
        elif page == body:
            report.count(hits=1, bytes_compared=len(body))
        else:
            raise SystemExit(f"{handle} gave other bytes than were put")


def raw_hits_and_puts(report: Report, scale: Scale, size: int) -> None:
    """G1, G2, and what a miss costs (G5)."""
    count, pages = scale.cold_bytes // size, Pages(size)
    bodies = [pages(number) for number in range(count)]
    handles = [handle_of(number) for number in range(count)]
    arena, starts = cold_memory(bodies)
    batch = max(min(count // 8, 4 * MIB // size), 1)
    store = Store(int(scale.cold_bytes * 1.25) + 64 * MIB + count * 512)
    for handle, body in zip(handles, bodies, strict=True):
        store.put(handle, body)
    order, names = batches(count, batch), NAMES[size]
    absent = [Handle(POOL, handle.object, handle.page + OBJECT_PAGES) for handle in handles]

    def hit() -> int:
        for number in (numbers := next(order)):
            store.get(handles[number])
        return len(numbers)

    def miss() -> int:
        for number in (numbers := next(order)):
            store.get(absent[number])
        return len(numbers)

    def copy() -> int:
        for number in (numbers := next(order)):
            start = starts[number]
            bytes(arena[start : start + size])
        return len(numbers)

    copied, missed = f"copy of cold {names}", f"miss among {names}"
    times = measure({"hit": hit, copied: copy, missed: miss}, scale)
    is_goal = size == 64 * KIB
    report.add(
        compare(
            "G1" if is_goal else "",
            f"raw hit, {names}",
            times,
            "hit",
            copied,
            wanted="≤ 1.5x" if is_goal else "",
            bound=1.5 if is_goal else None,
        )
    )
    if size == 4 * KIB:
        report.add(Row("G5", "miss", Spread.of(times[missed]), "µs", wanted="≤ 1 µs", bound=1.0))
        report.add(compare("G5", "miss, beside a copy", times, missed, copied, wanted="≤ 1x", bound=1.0))
    compare_all(report, store, handles, bodies)
    store.close()
    puts(report, scale, size, bodies, arena, starts)


def touch_ahead(store: Store, room_bytes: int) -> None:
    """Have *room_bytes* of empty segments at hand that were touched, as the background thread has a few."""
    core = store._core
    while core.arena is not None and core.arena.free and len(core.spares) * core.segment_bytes < room_bytes:
        with core.reclaim_lock, core.lock:
            number = core.arena.free.pop()
            core.dead_bytes += core.segment_bytes
            core.ledger.charge("store", core.segment_bytes)
            core.arena.populate(number)
            core.spares.append(number)


def puts(report: Report, scale: Scale, size: int, bodies: list[bytes], arena: memoryview, starts: list[int]) -> None:
    """G2: puts into room that was touched before, and into room that was not."""
    names, count = NAMES[size], len(bodies)
    batch = max(min(count // 8, 16 * MIB // size), 1)
    order = batches(count, batch)
    fresh = itertools.count()
    warm, untouched = (Store(int(scale.cold_bytes * 1.25) + 64 * MIB + count * 512) for _ in range(2))

    def put_into(store: Store) -> Callable[[], int]:
        def put() -> int:
            for number, at in zip((numbers := next(order)), fresh, strict=False):
                store.put(handle_of(at), bodies[number])
            return len(numbers)

        return put

    def copy_in() -> int:
        for number, place in zip((numbers := next(order)), next(order), strict=True):
            start = starts[place]
            arena[start : start + size] = bodies[number]
        return len(numbers)

    def make_room() -> None:
        warm.flush(Scope(POOL))
        touch_ahead(warm, 2 * batch * size)

    def give_back() -> None:
        untouched.flush(Scope(POOL))
        untouched.set_limit(0)
        untouched.set_limit(untouched._core.ceiling)

    warm.put(handle_of(next(fresh)), bodies[0])
    make_room()
    copied = f"copy of {names} into the arena"
    times = measure(
        {"put": put_into(warm), "untouched": put_into(untouched), copied: copy_in},
        scale,
        after={"put": make_room, "untouched": give_back},
    )
    is_goal = size == 64 * KIB
    report.add(
        compare(
            "G2" if is_goal else "",
            f"put into populated room, {names}",
            times,
            "put",
            copied,
            wanted="≤ 2x" if is_goal else "",
            bound=2.0 if is_goal else None,
        )
    )
    report.add(compare("", f"put into untouched room, {names}", times, "untouched", copied))
    warm.close()
    untouched.close()


def empty_and_refusing(report: Report, scale: Scale) -> None:
    """G13: what a cache that is not there, or takes nothing, costs a call (law M14)."""
    logging.getLogger("cleancache.registry").setLevel(logging.ERROR)  # an empty slot warns once, and here it is meant
    registry = Registry(group=None)
    empty = registry.connect("nothing:1G")
    registry.register("full", lambda tier: Absent())  # refuses, misses, and costs nothing itself
    refusing = registry.connect("full")
    body, handles = bytes(4 * KIB), [handle_of(number) for number in range(1000)]
    pool = Pool(refusing, POOL, shared=True)

    def calls(verb: Callable[[Handle], object]) -> Callable[[], int]:
        def run() -> int:
            for handle in handles:
                verb(handle)
            return len(handles)

        return run

    cases = {
        "empty slot, get": calls(empty.get),
        "empty slot, put": calls(lambda handle: empty.put(handle, body)),
        "tier that refuses, put through slot and guard": calls(lambda handle: refusing.put(handle, body)),
        "tier that refuses, get through slot and guard": calls(refusing.get),
        "the same through a pool, put": calls(lambda handle: pool.put(handle, body)),
        "the same through a pool, get": calls(pool.get),
    }
    times = measure(cases, scale)
    for name, found in times.items():
        is_goal = "pool" not in name
        report.add(
            Row(
                "G13" if is_goal else "",
                name,
                Spread.of(found),
                "µs",
                wanted="≤ 1 µs" if is_goal else "",
                bound=1.0 if is_goal else None,
            )
        )
    pool.close()
    registry.close()


def run(report: Report, scale: Scale) -> None:
    """All rows of this file."""
    for size in NAMES:
        raw_hits_and_puts(report, scale, size)
    empty_and_refusing(report, scale)


if __name__ == "__main__":
    from bench.__main__ import main

    sys.exit(main(["--only", "store", *sys.argv[1:]]))
