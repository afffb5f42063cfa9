"""What is compressed, when, and at what price: G3, G4 and G5.

    python -m bench.packing [--short] [--json]

Every page is compared byte by byte with what was put, off the clock.
"""

from __future__ import annotations

import itertools
import sys
import time

from lz4.block import compress, decompress

from bench.contents import COMPRESSIBLE, Pages
from bench.harness import MIB, Report, Row, Scale, Spread, compare, measure
from bench.store import KIB, NAMES, POOL, batches, cold_memory, compare_all, handle_of, touch_ahead
from cleancache.codec import HEADER, RAW, pays
from cleancache.handle import Handle, Scope
from cleancache.store import Store


def is_packed(store: Store, handle: Handle) -> bool:
    """Say whether the page is held compressed."""
    core = store._core
    at = core.find(handle)
    return at is not None and HEADER.unpack_from(core.view, at)[1] >> 48 != RAW


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


def run(report: Report, scale: Scale) -> None:
    """All rows of this file."""
    read_once(report, scale)
    for size in NAMES:
        packed_hits(report, scale, size)
    for size in NAMES:
        packing(report, scale, size)


if __name__ == "__main__":
    from bench.__main__ import main

    sys.exit(main(["--only", "packing", *sys.argv[1:]]))
