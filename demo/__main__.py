"""`python -m demo`: serve, read in every way, print the table. Leaves nothing behind."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from demo.files import choose
from demo.mounted import grep, text
from demo.report import table

END_S, ROW_S = 10, 180  # deadlines: the server's end, one way of reading
CHANGING = "changing/file"
CHANGING_BYTES = 4 << 20  # below one block of blockcache, so that every way keeps it
STACK = "zcache:40M"


class DemoError(Exception):
    """The demo cannot go on; the message says why in one sentence."""


def environment(scratch: Path) -> dict[str, str]:
    """The environment of the children: no setting of this user's cache takes part, no proxy stands between."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLEANCACHE_", "FSSPEC_")) and "proxy" not in name.lower()
    }
    top = str(Path(__file__).resolve().parents[1])
    return kept | {"XDG_CONFIG_HOME": str(scratch / "config"), "PYTHONPATH": top, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def server(files: dict[str, Path], delay_s: float, scratch: Path) -> Iterator[str]:
    """The address of a running server of *files*; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(scratch),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    order = {"files": {name: str(path) for name, path in files.items()}, "delay_s": delay_s}
    try:
        with suppress(BrokenPipeError):  # then there is no answer either
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()  # ends too when the server dies
        if not answer:
            raise DemoError(f"the HTTP server did not start (exit code {process.wait(END_S)}); its words are above")
        yield f"http://127.0.0.1:{json.loads(answer)['port']}"
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def ways(scratch: Path) -> list[dict[str, Any]]:
    """The ways of reading that are compared: a title, a prefix for the URL, options."""
    block, whole = str(scratch / "blockcache"), str(scratch / "filecache")
    ours: dict[str, Any] = {"prefix": "cleancache::", "stack": STACK}
    return [
        {"way": "no cache", "prefix": "", "options": {}},
        {"way": "blockcache", "prefix": "blockcache::", "options": {"cache_storage": block}, "folder": block},
        {"way": "filecache", "prefix": "filecache::", "options": {"cache_storage": whole}, "folder": whole},
        ours | {"way": "cleancache", "options": {"stack": STACK}},
        ours | {"way": "cleancache, max_stale=60s", "options": {"stack": STACK, "max_stale": "60s"}},
    ]


def run_way(order: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Read in one way, in a fresh process."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "demo.passes"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=ROW_S,
            env=environment(scratch),
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"{order['way']}: not done after {ROW_S} s") from None
    if done.returncode:
        raise DemoError(f"{order['way']}: failed (exit code {done.returncode})\n{done.stderr.strip()[-2000:]}")
    if done.stderr.strip():
        print(done.stderr.strip(), file=sys.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return {"way": order["way"]} | result


def run(total_bytes: int, delay_s: float, only: Sequence[str] = ()) -> dict[str, Any]:
    """The whole demo as one document; *only* names the ways to read, all by default."""
    with tempfile.TemporaryDirectory(prefix="cleancache-demo-") as folder:
        scratch = Path(folder)
        files = choose(total_bytes)
        original = max(
            (path for path in files.values() if path.stat().st_size <= CHANGING_BYTES),
            key=lambda path: path.stat().st_size,
        )
        changing = scratch / "changing"
        served = files | {CHANGING: changing}
        rows = []
        shutil.copyfile(original, changing)
        size = sum(path.stat().st_size for path in served.values())
        with server(served, delay_s, scratch) as base:
            for way in ways(scratch):
                if only and way["way"] not in only:
                    continue
                print(f"  reading: {way['way']} …", file=sys.stderr, flush=True)
                shutil.copyfile(original, changing)
                rows.append(
                    run_way(
                        way
                        | {
                            "base": base,
                            "files": {name: str(path) for name, path in served.items()},
                            "changing": CHANGING,
                        },
                        scratch,
                    )
                )
            mounted = None if only else grep(base, served, scratch, STACK)
    found = {"files": len(served), "bytes": size, "delay_s": delay_s, "stack": STACK, "rows": rows}
    return found if mounted is None else found | {"mount": mounted}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document in the place of the table")
    parser.add_argument("--megabytes", type=int, default=64, help="how much to serve (default 64)")
    parser.add_argument("--delay", type=float, default=30.0, metavar="MS", help="added to each request (default 30)")
    chosen = parser.parse_args(arguments)
    try:
        document = run(chosen.megabytes * 10**6, chosen.delay / 1000)
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(document, indent=2) if chosen.json else table(document))
    if not chosen.json and "mount" in document:
        print(f"\n{text(document['mount'])}")
    broken = [fault for row in document["rows"] if row["way"] == "cleancache" for fault in faults(row)]
    for fault in broken:
        print(f"demo: {fault}", file=sys.stderr)
    return 1 if broken else 0


def faults(row: dict[str, Any]) -> list[str]:
    """The promises that did not hold; wrong bytes have failed before."""
    found = []
    if not row["new_bytes_after_change"]:
        found.append("cleancache gave old bytes after a change; this must never happen")
    if not row["hits"]:
        found.append(f"the cache never answered; its puts were refused: {row['refused']}")
    elif row["held_bytes"] > row["limit_bytes"]:
        found.append(f"{row['held_bytes']} bytes are held, {row['limit_bytes']} are allowed")
    return found


if __name__ == "__main__":
    sys.exit(main())
