"""`cleancache::` beside fsspec's own caches, all warm, over a real HTTP server on loopback: G10.

    python -m bench.fsspec [--short] [--json]

One file of compressible real contents, read by `seek` and `read` at random places. All candidates answer in the
calling thread once they are warm, so its CPU time is compared; opening talks to the server and is wall time. Every
way reads the whole file once before, and all bytes are compared with the file.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.contents import COMPRESSIBLE, Pages
from bench.harness import MIB, Report, Row, Scale, Spread, compare, measure

KIB = 1 << 10
PAGE = 64 * KIB
L1_PAGES = 4  # as many neighbouring pages as a reader of small pieces goes to and fro in
BATCH = 32
OURS = ("cleancache, raw", "cleancache, compressed")


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
    raw, packed = size + (size >> 1) + 32 * MIB, max(int(size * 0.62), 9 * MIB)  # 0.46 is kept of it
    return {
        "cleancache, raw": ours(f"zcache:pressure=no:{raw}"),
        "cleancache, compressed": ours(f"zcache:pressure=no:{packed}"),
        "filecache": peer("filecache", cache_storage=str(scratch / "filecache")),
        "blockcache of 64 KiB": lambda: http.open(url, **blocks),
        "blockcache::": peer("blockcache", cache_storage=str(scratch / "blocks")),
        "local file": lambda: local.open(str(path)),
    }


def reading(file: Any, size: int, places: list[int], seed: int) -> Callable[[], int]:
    """A case: `seek` and `read` of *size* at random ones of *places*."""
    chance = random.Random(seed)

    def run() -> int:
        for at in chance.choices(places, k=BATCH):
            file.seek(at)
            file.read(size)
        return BATCH

    return run


def run(report: Report, scale: Scale) -> None:
    """All rows of this file."""
    size = min(64 * MIB, scale.cold_bytes // 2)
    pages = Pages(PAGE, COMPRESSIBLE)
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
        check_hits(report, files)
        rows(report, scale, files, size)
        opening_rows(report, scale, opens)
    import fsspec

    fsspec.filesystem("cleancache", target_protocol="http").clear_instance_cache()


def warm(report: Report, name: str, file: Any, content: bytes) -> None:
    """Read everything twice, to and fro, and compare it."""
    for start, stop, step in ((0, len(content), PAGE), (len(content) - PAGE, -1, -PAGE)):
        for at in range(start, stop, step):
            file.seek(at)
            if file.read(PAGE) != content[at : at + PAGE]:
                raise SystemExit(f"{name} gave other bytes than the server has")
            report.count(bytes_compared=PAGE)


def rows(report: Report, scale: Scale, files: dict[str, Any], size: int) -> None:
    """The rows of G10."""
    everywhere, near = list(range(0, size, PAGE)), list(range(0, L1_PAGES * PAGE, PAGE))
    cases = {name: reading(file, PAGE, everywhere, 1) for name, file in files.items()}
    raw = files["cleancache, raw"]
    cases["cleancache, kept by the Reader"] = reading(raw, PAGE, near, 1)
    times = measure(cases, scale)
    add = report.add
    packed = "cleancache, compressed"
    add(compare("G10", f"{packed}, 64 KiB", times, packed, "filecache", wanted="≤ 1.5x", bound=1.5))
    add(
        compare(
            "G10",
            "kept by the Reader, 64 KiB",
            times,
            "cleancache, kept by the Reader",
            "filecache",
            wanted="≤ 0.5x",
            bound=0.5,
        )
    )
    for name in ("cleancache, raw", "blockcache of 64 KiB", "blockcache::", "local file"):
        add(compare("", f"{name}, 64 KiB", times, name, "filecache"))

    small = [at + piece for at in near for piece in range(0, PAGE, 4 * KIB)]
    whole = [at + piece for at in everywhere for piece in range(0, PAGE, 4 * KIB)]
    cases = {name: reading(file, 4 * KIB, small, 2) for name, file in files.items()}
    for name in ("cleancache, raw", packed, "blockcache of 64 KiB"):
        cases[f"{name}, anywhere"] = reading(files[name], 4 * KIB, whole, 2)
    times = measure(cases, scale)
    peer = "blockcache of 64 KiB"
    add(compare("G10", "kept by the Reader, 4 KiB", times, "cleancache, raw", peer, wanted="≤ 1x", bound=1.0))
    for name in ("filecache", "local file"):
        add(compare("", f"{name}, 4 KiB", times, name, peer))
    for name in ("cleancache, raw, anywhere", f"{packed}, anywhere"):
        add(compare("", f"{name}, 4 KiB", times, name, f"{peer}, anywhere"))

    large = list(range(0, size - MIB + 1, MIB))
    times = measure({name: reading(file, MIB, large, 3) for name, file in files.items()}, scale)
    add(compare("G10", "cleancache, raw, 1 MiB", times, "cleancache, raw", "local file", wanted="≤ 2.5x", bound=2.5))
    for name in (packed, "filecache", peer):
        add(compare("", f"{name}, 1 MiB", times, name, "local file"))


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


def check_hits(report: Report, files: dict[str, Any]) -> None:
    """Whether our ways answer from the cache, one from raw and one from compressed pages; else the run ends."""
    for name in OURS:
        reader = files[name]._reader
        before, hits = reader.stats().source_reads or 0, reader.pool.stats().hits
        files[name].seek(0)
        while files[name].read(MIB):
            pass
        if (reader.stats().source_reads or 0) != before:
            raise SystemExit(f"{name}: the server was asked again for what should be held")
        report.count(hits=reader.pool.stats().hits - hits)
        held = reader.pool.backend.stats()
        report.count(**{f"{name.replace(', ', '_')}_held_bytes": held.used_bytes["pages"]})
        if name == OURS[1] and held.used_bytes["pages"] > 0.75 * held.logical_bytes:
            report.skipped.append(f"{name}: most pages are held raw at this scale, the rows say little")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(sys.argv[-1])
        sys.exit(0)
    from bench.__main__ import main

    sys.exit(main(["--only", "fsspec", *sys.argv[1:]]))
