"""What does not grow with the number of pages (G8), and whether the account is what the host sees (G12).

    python -m bench.scale [--short] [--json]

G8: the same few measured pages in Stores that hold 10³ to 10⁶ pages in all; the rest are pages of 64 bytes, so that
the index grows and the arena does not. Between batches the caches are emptied, off the clock: both ends of the
comparison are cold. G12 runs in a process of its own.
"""

from __future__ import annotations

import itertools
import json
import mmap
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from xxhash import xxh3_64_intdigest

from bench.contents import Pages
from bench.harness import MIB, Report, Row, Scale, Spread, compare, measure, resident_bytes
from bench.store import KIB, NAMES, OBJECT_PAGES, POOL, handle_of
from cleancache.handle import Handle, Scope
from cleancache.store import Store

MEASURED = 1000
VERBS = ("get", "put", "miss", "flush of 16 pages")
BATCH = 250
FILLER = random.Random(7).randbytes(56)


def filled(total: int, size: int, pages: Pages) -> tuple[Store, list[Handle]]:
    """A Store of *total* pages, `MEASURED` of them of *size* bytes and spread over it; and their handles."""
    measured = min(MEASURED, total)
    store = Store(measured * (size + 1024) + total * 1200 + 256 * MIB)
    handles = []
    for number in range(total):
        handle = handle_of(number)
        if number * measured // total != (number - 1) * measured // total or not number:
            handles.append(handle)
            store.put(handle, pages(number))
        else:
            store.put(handle, number.to_bytes(8, "little") + FILLER)
    return store, handles


def flat(report: Report, scale: Scale, size: int) -> None:
    """G8 for one page size: get, put, miss and flush from 10³ pages to the most that are asked for."""
    totals = [total for total in (1_000, 10_000, 100_000, 1_000_000) if total <= scale.most_pages]
    pages, names = Pages(size), NAMES[size]
    bodies = [pages(number) for number in range(1 << 20, (1 << 20) + BATCH)]
    sweep = random.Random(3).randbytes(scale.sweep_bytes)
    cases: dict[str, Callable[[], int]] = {}
    after: dict[str, Callable[[], object]] = {}
    stores = []
    for total in totals:
        store, handles = filled(total, size, pages)
        stores.append(store)
        for verb, run, tidy in verbs(store, handles, bodies, total)[: len(VERBS) if size == 4 * KIB else 2]:
            cases[f"{verb} {total}"] = run
            after[f"{verb} {total}"] = then_sweep(tidy, sweep)
    times = measure(cases, replace(scale, rounds=min(scale.rounds, 5)), after=after)
    bound = 1.3 if size == 64 * KIB else 2.0
    for verb in VERBS if size == 4 * KIB else VERBS[:2]:  # a miss and a flush know no page size
        of = f" of {names}" if verb in VERBS[:2] else ""
        for total in totals:
            is_goal = total == totals[-1] and verb != "flush of 16 pages"
            report.add(
                compare(
                    "G8" if is_goal else "",
                    f"{verb}{of} among {total} pages",
                    times,
                    f"{verb} {total}",
                    f"{verb} {totals[0]}",
                    wanted=f"≤ {bound}x" if is_goal else "",
                    bound=bound if is_goal else None,
                )
            )
        if verb == "flush of 16 pages":
            report.add(
                compare(
                    "G8",
                    f"{verb} among {totals[-1]}: grows with its scope only",
                    times,
                    f"{verb} {totals[-1]}",
                    f"{verb} {totals[0]}",
                    wanted="≤ 2x",
                    bound=2.0,
                )
            )
    for store in stores:
        store.close()


def then_sweep(tidy: Callable[[], object], sweep: bytes) -> Callable[[], object]:
    """What tidies up and then empties the caches."""
    return lambda: (tidy(), xxh3_64_intdigest(sweep))


def verbs(
    store: Store, handles: list[Handle], bodies: list[bytes], total: int
) -> list[tuple[str, Callable[[], int], Callable[[], object]]]:
    """(verb, its case, what tidies up after it) for one Store."""
    chance, fresh = random.Random(total), itertools.count(1 << 40)
    put_at: list[Handle] = []

    def get() -> int:
        for handle in chance.sample(handles, min(BATCH, len(handles))):
            store.get(handle)
        return min(BATCH, len(handles))

    def miss() -> int:
        for handle in chance.sample(handles, min(BATCH, len(handles))):
            store.get(Handle(POOL, handle.object, handle.page + OBJECT_PAGES))
        return min(BATCH, len(handles))

    def put() -> int:
        for body in bodies:
            handle = handle_of(next(fresh))
            put_at.append(handle)
            store.put(handle, body)
        return len(bodies)

    def unput() -> None:
        for handle in put_at:
            store.flush(Scope(*handle))
        put_at.clear()
        store.settle()

    scopes = [Scope(POOL, (1 << 60 | number).to_bytes(24, "little")) for number in range(8)]

    def refill() -> None:
        for number, scope in enumerate(scopes):
            for page in range(16):
                store.put(Handle(POOL, scope.object or b"", page), (number << 8 | page).to_bytes(8, "little") + FILLER)

    def flush() -> int:
        for scope in scopes:
            store.flush(scope)
        return len(scopes)

    refill()
    return [("get", get, int), ("put", put, unput), ("miss", miss, int), ("flush of 16 pages", flush, refill)]


def memory(report: Report, scale: Scale) -> None:
    """G12: RSS beside the account, and how fast half of it goes back, in a fresh process."""
    limit = scale.cold_bytes
    found: list[dict[str, float]] = []
    for _ in range(scale.processes):
        done = subprocess.run(
            [sys.executable, "-m", "bench.scale", "--memory", str(limit)], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout))
    names = ("full", "half", "shrink_ms", "bare_ms", "wall_ms", "used_mib")
    full, half, took, bare, wall, used = (Spread.of([got[name] for got in found]) for name in names)
    mib = f"of an account of {used.median:.0f} MiB"
    allowed = max(100.0, 1.5 * bare.median)
    report.add(Row("G12", "RSS when full and churning", full, "x", None, mib, "≤ 1.05x", 1.05))
    report.add(Row("G12", "RSS after a shrink to half", half, "x", None, "of the account then", "≤ 1.1x", 1.1))
    beside = f"bare give-back {bare.median:.0f} ms"
    report.add(Row("G12", "shrink to half", took, "ms", None, beside, f"≤ {allowed:.0f} ms", allowed))
    report.add(Row("", "shrink to half", wall, "ms", note="wall"))


def memory_alone(limit: int) -> dict[str, float]:
    """What `memory` asks a fresh process: fill, churn twice over, look, shrink, look."""
    size = 64 * KIB
    pages = Pages(size)
    pages(0)
    before = resident_bytes()
    store = Store(limit)
    for number in range(3 * limit // size):
        store.put(handle_of(number), pages(number))
        if not number % 3:
            store.get(handle_of(number))
    used = sum((store.stats().used_bytes or {}).values())
    full = (resident_bytes() - before) / used
    began, on_the_wall = time.thread_time(), time.monotonic()
    store.set_limit(limit // 2)
    took, wall = time.thread_time() - began, time.monotonic() - on_the_wall
    used_then = sum((store.stats().used_bytes or {}).values())
    half = (resident_bytes() - before) / used_then
    store.close()
    step = 4 * MIB
    block = mmap.mmap(-1, max(limit // 2 // step, 1) * step, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, len(block), 4096):
        block[at] = 1
    began = time.thread_time()
    for at in range(0, len(block), step):
        block.madvise(mmap.MADV_DONTNEED, at, step)
    bare = time.thread_time() - began
    times = {"shrink_ms": took * 1e3, "bare_ms": bare * 1e3, "wall_ms": wall * 1e3}
    return {"full": full, "half": half, "used_mib": used / MIB} | times


def run(report: Report, scale: Scale) -> None:
    """All rows of this file."""
    for size in NAMES:
        flat(report, scale, size)
    memory(report, scale)


if __name__ == "__main__":
    if "--memory" in sys.argv:
        print(json.dumps(memory_alone(int(sys.argv[-1]))))
        sys.exit(0)
    from bench.__main__ import main

    sys.exit(main(["--only", "scale", *sys.argv[1:]]))
