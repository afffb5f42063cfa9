"""The Store beside the copies, codecs and checksums it is made of: G1 to G5 and G13.

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
import time
from collections.abc import Callable, Iterator

from lz4.block import compress, decompress

from bench.contents import COMPRESSIBLE, Pages
from bench.harness import MIB, Report, Row, Scale, Spread, compare, measure
from cleancache.backend import Absent
from cleancache.codec import HEADER, RAW, pays
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


def is_packed(store: Store, handle: Handle) -> bool:
    """Say whether the page is held compressed."""
    core = store._core
    at = core.find(handle)
    return at is not None and HEADER.unpack_from(core.view, at)[1] >> 48 != RAW


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


def read_once(report: Report, scale: Scale) -> None:
    """G3: a pool full of wanted pages, and one pass over four times the limit of new pages; then data that fits."""
    size, limit = 64 * KIB, scale.cold_bytes // 4
    pages, store = Pages(size), Store(limit)
    kept = pages.kept_fraction(_squeeze)
    wanted = [
        handle_of(number) for number in range(int(limit * 0.7 / kept / size))
    ]  # compressed, as much as main holds
    others = itertools.count(1 << 20)
    for _ in range(12):  # until all of them have been wanted again and live among their like
        absent = 0
        for number, handle in enumerate(wanted):
            if store.get(handle) is None:
                absent += 1
                store.put(handle, pages(number))
            store.get(handle)
        for number in itertools.islice(others, limit // size):
            store.put(handle_of(number), pages(number))
        if not absent:
            break
    before = store._core.codec_calls
    for step, number in enumerate(itertools.islice(others, 4 * limit // size)):
        store.put(handle_of(number), pages(number))
        if not step % 16:
            store.get(wanted[step // 16 % len(wanted)])
    calls = store._core.codec_calls - before
    stayed = sum(store.get(handle) is not None for handle in wanted)
    once = (4 * limit) // size
    report.add(
        Row("G3", f"codec calls in a pass over {once} new pages", Spread.of([calls]), "calls", wanted="0", bound=0.0)
    )
    report.add(
        Row(
            "G3",
            "wanted pages that stay",
            Spread.of([stayed / len(wanted)]),
            "of them",
            wanted="all",
            bound=1.0,
            at_least=True,
        )
    )
    store.close()
    store = Store(limit)
    squeezable = Pages(size, COMPRESSIBLE)
    numbers = range(int(limit * 1.3 / size))
    for number in numbers:
        store.put(handle_of(number), squeezable(number))
    hits = sum(store.get(handle_of(number)) == squeezable(number) for number in numbers)
    report.count(hits=hits, misses=len(numbers) - hits, bytes_compared=hits * size)
    report.add(
        Row(
            "G3",
            "second pass over compressible data of 1.3x the limit that hits",
            Spread.of([hits / len(numbers)]),
            "of it",
            wanted="all",
            bound=1.0,
            at_least=True,
        )
    )
    store.close()


def packed_hits(report: Report, scale: Scale, size: int, codec: str = "lz4") -> None:
    """G4: a hit on a compressed page beside its codec."""
    count, pages = scale.cold_bytes // size, Pages(size, COMPRESSIBLE)
    bodies = [pages(number) for number in range(count)]
    packed = [blob for blob in map(_squeeze, bodies) if pays(size, len(blob))]
    arena, starts = cold_memory(packed)
    store = Store(int(scale.cold_bytes * 0.8) + count * 300)
    for number, body in enumerate(bodies):
        store.put(handle_of(number), body)
    order = [handle_of(number) for number in range(count) if is_packed(store, handle_of(number))]
    batch = max(min(len(order), len(packed)) // 8, 1)
    ours, theirs = batches(len(order), batch), batches(len(packed), batch)

    def hit() -> int:
        for number in (numbers := next(ours)):
            store.get(order[number])
        return len(numbers)

    def decode() -> int:
        for number in (numbers := next(theirs)):
            decompress(arena[starts[number] : starts[number + 1]], uncompressed_size=size)
        return len(numbers)

    alone, names = f"lz4 of cold {NAMES[size]}", NAMES[size]
    bound = 1.6 if size == 4 * KIB else 1.15
    times = measure({"hit": hit, alone: decode}, scale)
    report.add(compare("G4", f"compressed hit, {names}", times, "hit", alone, wanted=f"≤ {bound}x", bound=bound))
    compare_all(report, store, [handle_of(number) for number in range(count)], bodies)
    report.count(pages_found_compressed=len(order))
    store.close()


def _squeeze(body: bytes) -> bytes:
    blob: bytes = compress(body, store_size=False)
    return blob


def packing(report: Report, scale: Scale, size: int) -> None:
    """G5: what making room by compressing costs beyond the codec, a page that is kept."""
    pages, limit = Pages(size, COMPRESSIBLE), min(scale.cold_bytes // 4, 64 * MIB)
    bodies = [pages(number) for number in range(int(limit * 1.35 / size))]
    extra, whole = [], []
    for _ in range(max(scale.rounds // 2, 3)):
        store, clock = Store(limit), time.thread_time_ns
        room = int(limit * 0.8 / size)
        for number in range(room):  # faults the room in
            store.put(handle_of(number), bodies[number])
        store.flush(Scope(POOL))
        touch_ahead(store, room * size)
        began = clock()
        for number in range(room):
            store.put(handle_of(number), bodies[number])
        a_put = (clock() - began) / room
        calls = store._core.codec_calls
        began = clock()
        for number in range(room, len(bodies)):
            store.put(handle_of(number), bodies[number])
        took = clock() - began - a_put * (len(bodies) - room)
        calls = store._core.codec_calls - calls
        began = clock()
        for body in bodies[:calls]:
            compress(body, store_size=False)
        codec = clock() - began
        if calls:
            extra.append((took - codec) / calls / 1e3)
            whole.append(codec / calls / 1e3)
        store.close()
    if not extra:
        report.skipped.append(f"G5 packing {NAMES[size]}: nothing was compressed at this scale")
        return
    alone = Spread.of(whole).median
    report.add(
        Row(
            "G5",
            f"compressing a page that is kept, {NAMES[size]}, beyond the codec",
            Spread.of(extra),
            "µs",
            reference=f"lz4 alone {alone:.1f} µs",
            wanted="≤ 4 µs",
            bound=4.0,
        )
    )


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
    read_once(report, scale)
    for size in NAMES:
        packed_hits(report, scale, size)
    for size in NAMES:
        packing(report, scale, size)
    empty_and_refusing(report, scale)


if __name__ == "__main__":
    from bench.__main__ import main

    sys.exit(main(["--only", "store", *sys.argv[1:]]))
