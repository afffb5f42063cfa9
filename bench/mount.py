"""The mount: reads, stat and open+close, beside the bare source, a handler that does nothing, and rclone.

    python -m bench --only mount [--short]

Wall time, since another process does the work. One file, in the cache of each way before it is measured; every byte
is compared with the source once. *direct* goes to the mount's process at each read, so it is the price of a hit;
*kernel* is what programs see that read again. The handler is mfusepy's with a constant buffer: what the binding alone
costs. rclone (Debian) and a mount of ours read the same nginx. The goals of G9 are set beside a C daemon, which is
not here: no verdicts.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from bench.harness import MIB, Report, Row, Scale, Spread, compare, measure

KIB = 1 << 10
SIZES = (4 * KIB, 64 * KIB, MIB)
WAIT_S = 20.0
READERS = 4
BARE, NOTHING = "bare directory", "mfusepy, constant buffer"
HANDLER = """
import os, stat, sys
os.environ["FUSE_LIBRARY_NAME"] = "fuse3"
import mfusepy
size = int(sys.argv[2])
data = bytes(1 << 20)
class Constant(mfusepy.Operations):
    use_ns = True
    def getattr(self, path, fh=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": size}
    def readdir(self, path, fh):
        return [".", "..", "file"]
    def read(self, path, length, offset, fh):
        length = max(0, min(length, size - offset))
        return data if length == len(data) else data[:length]
mfusepy.FUSE(Constant(), sys.argv[1], foreground=True, direct_io=True, nothreads=len(sys.argv) > 3)
"""


def run(report: Report, scale: Scale) -> None:
    """All rows."""
    if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
        report.skipped.append("mount: needs /dev/fuse and root")
        return
    report.skipped.append(
        "mount: the C daemon of G9 (no compiler is asked for); the bare handler stands beside instead"
    )
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        base = Path(folder)
        (base / "source").mkdir()
        path = base / "source" / "file"
        size = min(scale.cold_bytes // 8, 64 * MIB)
        path.write_bytes(random.Random(0).randbytes(size))
        time.sleep(2.2)  # younger files are not cached
        ways = {BARE: path}
        limit = f"cleancache=zcache:{2 * size + 64 * MIB}"
        for name, options in (("direct", f"{limit},direct_io"), ("direct, one thread", f"{limit},direct_io,nothreads")):
            ways[name] = (
                stack.enter_context(ours(base / "source", base / name.replace(", ", "-").replace(" ", "-"), options))
                / "file"
            )
        ways["kernel"] = stack.enter_context(ours(base / "source", base / "kernel", limit)) / "file"
        ways[NOTHING] = stack.enter_context(handler(base / "nothing", size)) / "file"
        remote(report, stack, base, ways, limit)
        for name, way in ways.items():
            for _ in range(3):  # into the cache, and out of it
                whole = way.read_bytes()
            if name != NOTHING:
                assert whole == path.read_bytes(), name
                report.count(bytes_compared=size)
        reads(report, scale, ways, size)
        names(report, scale, ways)


@contextmanager
def ours(source: Path | str, where: Path, options: str) -> Iterator[Path]:
    """A mount of ours."""
    where.mkdir()
    program = "import sys; from cleancache.frontends.mount import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", program, str(source), str(where), "-o", options], check=True, timeout=60)
    try:
        yield where
    finally:
        leave(where)


def leave(where: Path) -> None:
    """Unmount, however busy."""
    subprocess.run(["umount", "-l", str(where)], check=False, timeout=60)


@contextmanager
def served(command: list[str], where: Path) -> Iterator[Path]:
    """A mount by a program that stays in the foreground."""
    where.mkdir()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            end = time.monotonic() + WAIT_S
            while not os.path.ismount(where):
                if child.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{command[0]} did not mount")
                time.sleep(0.05)
            yield where
        finally:
            leave(where)
            try:
                child.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                child.kill()


def handler(where: Path, size: int) -> AbstractContextManager[Path]:
    """mfusepy with a constant buffer."""
    return served([sys.executable, "-c", HANDLER, str(where), str(size)], where)


def remote(report: Report, stack: ExitStack, base: Path, ways: dict[str, Path], limit: str) -> None:
    """rclone and ours over the same nginx."""
    for program, package in (("rclone", "rclone"), ("nginx", "nginx-light")):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            report.skipped.append(f"mount: rows over HTTP need {package}")
            return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scratch = base / "nginx"
    scratch.mkdir()
    (scratch / "conf").write_text(
        f"user root; daemon off; master_process off; pid {scratch}/pid; error_log {scratch}/log;\nevents {{ }}\n"
        f"http {{ access_log off; client_body_temp_path {scratch}/a; proxy_temp_path {scratch}/b; fastcgi_temp_path"
        f" {scratch}/c; uwsgi_temp_path {scratch}/d; scgi_temp_path {scratch}/e;\n server {{ listen 127.0.0.1:{port};"
        f" root {base}/source; autoindex on; }} }}\n"
    )
    command = ["/usr/sbin/nginx", "-c", str(scratch / "conf"), "-e", str(scratch / "log")]
    child = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    )
    stack.callback(child.terminate)
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    url = f"http://127.0.0.1:{port}/"
    ways["HTTP, direct"] = stack.enter_context(ours(f"{url}file", base / "http-direct", f"{limit},direct_io")) / "file"
    ways["HTTP, kernel"] = stack.enter_context(ours(f"{url}file", base / "http", limit)) / "file"
    for name, extra in (("rclone, direct", ["--direct-io"]), ("rclone, kernel", [])):
        rclone = [
            "rclone", "mount", f":http,url='{url}':", str(base / name.replace(", ", "-")), "--vfs-cache-mode", "full",
            "--cache-dir", str(base / f"{name}-cache"), "--config", str(base / "none"), "--read-only", *extra,
        ]  # fmt: skip
        try:
            ways[name] = stack.enter_context(served(rclone, base / name.replace(", ", "-"))) / "file"
        except RuntimeError:
            report.skipped.append(f"mount: {name}: this rclone did not mount so")


def reads(report: Report, scale: Scale, ways: dict[str, Path], size: int) -> None:
    """Sequential and random, one reader and four."""
    with ExitStack() as stack, ThreadPoolExecutor(READERS) as pool:
        files = {name: stack.enter_context(way.open("rb", buffering=0)).fileno() for name, way in ways.items()}
        for piece in SIZES:
            count = max(1, min(64, MIB // piece * 4))
            for kind in ("random", "sequential"):
                for readers in (1, READERS):
                    cases = {
                        name: case(fd, piece, size, count, kind == "random", readers, pool)
                        for name, fd in files.items()
                    }
                    times = measure(cases, scale, clock=time.perf_counter_ns)
                    for name in ways:
                        if name == BARE:
                            continue
                        reference = NOTHING if "direct" in name else BARE
                        what = f"mount, {name}: {label(piece)} {kind}, {readers} reader{'s' * (readers > 1)}"
                        note = f"{piece / times_median(times[name]) / 1.048576:.0f} MiB/s"
                        if name != NOTHING:
                            report.add(compare("", what, times, name, reference, note=note))
                        else:
                            report.add(Row("", what, Spread.of(times[name]), "µs", note=note))


def times_median(times: list[float]) -> float:
    return Spread.of(times).median


def label(piece: int) -> str:
    return f"{piece // KIB} KiB" if piece < MIB else "1 MiB"


def case(
    fd: int, piece: int, size: int, count: int, is_random: bool, readers: int, pool: ThreadPoolExecutor
) -> Callable[[], int]:
    """*count* reads, by one thread or shared among several."""
    chance = random.Random(piece)
    places = (
        [chance.randrange(size // piece) * piece for _ in range(4096)] if is_random else list(range(0, size, piece))
    )
    turn = itertools.cycle(places)

    def part(wanted: list[int]) -> None:
        for at in wanted:
            if len(os.pread(fd, piece, at)) != piece:
                raise AssertionError(f"short read at {at}")

    def once() -> int:
        wanted = [next(turn) for _ in range(count)]
        if readers == 1:
            part(wanted)
        else:
            list(pool.map(part, [wanted[at::readers] for at in range(readers)]))
        return count

    return once


def names(report: Report, scale: Scale, ways: dict[str, Path]) -> None:
    """stat by path, and open + close."""

    def opening(path: str) -> Callable[[], int]:
        def once() -> int:
            for _ in range(20):
                os.close(os.open(path, os.O_RDONLY))
            return 20

        return once

    def looking(path: str) -> Callable[[], int]:
        def once() -> int:
            for _ in range(20):
                os.stat(path)
            return 20

        return once

    for what, made in (("stat", looking), ("open + close", opening)):
        times = measure({name: made(str(way)) for name, way in ways.items()}, scale, clock=time.perf_counter_ns)
        for name in ways:
            if name != BARE:
                note = f"{1e6 / times_median(times[name]):.0f} a second"
                report.add(compare("", f"mount, {name}: {what}", times, name, BARE, note=note))
