"""`cleancache::` beside fsspec's own caches, all warm, over a real HTTP server on loopback: G10.

    python -m bench.fsspec [--short] [--json]

One file of the mix of contents, of which nearly half does not compress, read by `seek` and `read` at random places.
All candidates answer in the calling thread once they are warm, so its CPU time is compared; opening talks to the
server and is wall time. Every way reads the whole file once before, and all bytes are compared with the file.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lz4.block import compress, decompress

from bench.contents import Pages
from bench.harness import MIB, Report, Row, Scale, Spread, compare, measure
from bench.packing import is_packed
from bench.store import cold_memory
from cleancache.codec import pays
from cleancache.handle import Handle

KIB = 1 << 10
PAGE = 64 * KIB
L1_PAGES = 4  # as many neighbouring pages as a reader of small pieces goes to and fro in
BATCH = 32
PACKED = "cleancache, compressed"
ALONE = "lz4 or a copy alone, of the same pages"
WARM_PASSES = 8  # a put may be refused while room is made; two passes are the rule


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a process that serves *folder*."""
    command = [sys.executable, "-m", "bench.fsspec", "--serve", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()
            process.wait(10)


def serve(folder: str) -> None:
    """Serve files with ETag and ranges until the standard input ends."""
    import asyncio

    from aiohttp import web

    async def run() -> None:
        app = web.Application()
        app.router.add_static("/", folder)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await runner.cleanup()

    asyncio.run(run())


def ways(url: str, path: Path, scratch: Path) -> dict[str, Callable[[], Any]]:
    """How to open the file, by the name under which it is printed."""
    import fsspec

    fresh: dict[str, Any] = {"skip_instance_cache": True}
    size = path.stat().st_size

    def ours(stack: str) -> Callable[[], Any]:
        fs = fsspec.filesystem("cleancache", target_protocol="http", stack=stack, page_size=PAGE, **fresh)
        return lambda: fs.open(url)

    def peer(protocol: str, **options: Any) -> Callable[[], Any]:
        fs = fsspec.filesystem(protocol, target_protocol="http", **options, **fresh)
        return lambda: fs.open(url)

    http = fsspec.filesystem("http", **fresh)
    blocks = {"block_size": PAGE, "cache_type": "blockcache", "cache_options": {"maxblocks": 2 * size // PAGE}}
    local = fsspec.filesystem("file", **fresh)
    raw, packed = size + (size >> 1) + 32 * MIB, max(int(size * 0.9), 9 * MIB)  # 0.70 is kept of it
    return {
        "cleancache, raw": ours(f"zcache:pressure=no:{raw}"),
        PACKED: ours(f"zcache:pressure=no:{packed}"),
        "filecache": peer("filecache", cache_storage=str(scratch / "filecache")),
        "blockcache of 64 KiB": lambda: http.open(url, **blocks),
        "blockcache::": peer("blockcache", cache_storage=str(scratch / "blocks")),
        "local file": lambda: local.open(str(path)),
    }


def reading(file: Any, size: int, places: list[int], batch: int) -> Callable[[], int]:
    """A case: `seek` and `read` of *size* at random ones of *places*, *batch* times."""
    ahead = itertools.cycle(random.Random(1).choices(places, k=16 * len(places)))

    def run() -> int:
        for _ in range(batch):
            file.seek(next(ahead))
            file.read(size)
        return batch

    return run


def run(report: Report, scale: Scale) -> None:
    """All rows of this file."""
    size = min(64 * MIB, scale.cold_bytes // 2)
    pages = Pages(PAGE)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (scratch / "served").mkdir()
        path = scratch / "served" / "file"
        path.write_bytes(b"".join(pages(number) for number in range(size // PAGE)))
        content = path.read_bytes()
        url = stack.enter_context(server(path.parent)) + "/file"
        opens = ways(url, path, scratch)
        files = {}
        for name, opening in opens.items():
            files[name] = opening()
            stack.callback(files[name].close)
            warm(report, name, files[name], content)
        places = compressed_places(report, files[PACKED], content)
        rows(report, scale, files, size, places)
        opening_rows(report, scale, opens)
    import fsspec

    fsspec.filesystem("cleancache", target_protocol="http").clear_instance_cache()


def warm(report: Report, name: str, file: Any, content: bytes) -> None:
    """Read everything until the source is no longer asked, and compare it; a way that never gets there ends the run."""
    for _ in range(WARM_PASSES if hasattr(file, "_reader") else 2):
        asked = _source_reads(file)
        for at in range(0, len(content), PAGE):
            file.seek(at)
            if file.read(PAGE) != content[at : at + PAGE]:
                raise SystemExit(f"{name} gave other bytes than the server has")
            report.count(bytes_compared=PAGE)
        if asked is not None and asked == _source_reads(file):
            report.count(hits=len(content) // PAGE)
            return
    if asked is not None:
        held = file._reader.pool.backend.stats()
        raise SystemExit(f"{name} still asks the server after {WARM_PASSES} passes: {held}")


def _source_reads(file: Any) -> int | None:
    """How often the source was asked; None where nobody counts."""
    return (file._reader.stats().source_reads or 0) if hasattr(file, "_reader") else None


def compressed_places(report: Report, file: Any, content: bytes) -> list[int]:
    """Places of pages that are held compressed, and as many that do not compress as the mix has beside them."""
    reader, opened = file._reader, file._opened
    store = reader.pool.backend._guard._backend
    packed, stubborn = [], []
    for at in range(0, len(content), PAGE):
        if not pays(PAGE, len(compress(content[at : at + PAGE], store_size=False))):
            stubborn.append(at)
        elif is_packed(store, Handle(reader.pool.id, opened.object, at // PAGE)):
            packed.append(at)
    share = len(stubborn) / (len(content) // PAGE)
    report.count(pages_found_compressed=len(packed))
    if len(packed) < BATCH:
        report.skipped.append("cleancache, compressed: too few pages are compressed at this scale")
        return list(range(0, len(content), PAGE))
    return packed + random.Random(4).sample(stubborn, min(int(len(packed) * share / (1 - share)), len(stubborn)))


def rows(report: Report, scale: Scale, files: dict[str, Any], size: int, places: list[int]) -> None:
    """The rows of G10; *places* are those of the compressed way."""
    everywhere, near = list(range(0, size, PAGE)), list(range(0, L1_PAGES * PAGE, PAGE))
    pieces = [at + piece for at in near for piece in range(0, PAGE, 4 * KIB)]
    large = list(range(0, size - MIB + 1, MIB))
    raw, kept, blocks = "cleancache, raw", "cleancache, kept by the Reader", "blockcache of 64 KiB"

    pages = {name: (file, PAGE, places if name == PACKED else everywhere) for name, file in files.items()}
    pages[kept] = (files[raw], PAGE, near)
    small = {name: (file, 4 * KIB, pieces) for name, file in files.items() if name not in (raw, "blockcache::")}
    small[kept] = (files[raw], 4 * KIB, pieces)
    small[f"{raw}, anywhere"] = (files[raw], 4 * KIB, everywhere)
    whole = {name: (file, MIB, large) for name, file in files.items()}
    for unit, reads, reference, goals in (
        ("64 KiB", pages, "filecache", {PACKED: 1.5, kept: 0.5}),
        ("4 KiB", small, blocks, {kept: 1.0}),
        ("1 MiB", whole, "local file", {raw: 2.5}),
    ):
        cases = {name: reading(*what, BATCH) for name, what in reads.items()}
        if unit == "64 KiB":
            cases[ALONE] = codec_alone(files[PACKED], places)
        times = measure(cases, scale)
        for name in (*goals, *(name for name in cases if name not in goals and name != reference)):
            bound = goals.get(name)
            wanted, goal = (f"≤ {bound}x", "G10") if bound else ("", "")
            report.add(compare(goal, f"{name}, {unit}", times, name, reference, wanted=wanted, bound=bound))


def codec_alone(file: Any, places: list[int]) -> Callable[[], int]:
    """A case: what the compressed way cannot do without, lz4 or a copy of each page, and nothing else."""
    parts, sizes = [], []
    for at in places:
        file.seek(at)
        page = file.read(PAGE)
        packed = compress(page, store_size=False)
        parts.append(packed if pays(PAGE, len(packed)) else page)
        sizes.append(pays(PAGE, len(packed)))
    memory, starts = cold_memory(parts)
    ahead = itertools.cycle(random.Random(1).choices(range(len(places)), k=16 * len(places)))

    def run() -> int:
        for _ in range(BATCH):
            number = next(ahead)
            stored = memory[starts[number] : starts[number + 1]]
            if sizes[number]:
                decompress(stored, uncompressed_size=PAGE)
            else:
                bytes(stored)
        return BATCH

    return run


def opening_rows(report: Report, scale: Scale, opens: dict[str, Callable[[], Any]]) -> None:
    """What it costs to open, read 4 KiB and close: ours asks the server for the version every time."""

    def case(opening: Callable[[], Any]) -> Callable[[], int]:
        def run() -> int:
            with opening() as file:
                file.read(4 * KIB)
            return 1

        return run

    times = measure({name: case(opening) for name, opening in opens.items()}, scale, clock=time.perf_counter_ns)
    for name, found in times.items():
        report.add(Row("", f"open, 4 KiB, close: {name}", Spread.of(found), "µs", note="wall"))


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(sys.argv[-1])
        sys.exit(0)
    from bench.__main__ import main

    sys.exit(main(["--only", "fsspec", *sys.argv[1:]]))
