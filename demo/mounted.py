"""The demo's end: `grep -r` through a mount of the same server, cold and warm; else why there is no mount."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WAIT_S = 120.0
WORD = "cleancache-or-whatever-is-nowhere"
HELPER = "import sys; from cleancache.frontends.mount import main; sys.exit(main(sys.argv[1:]))"


def grep(base: str, names: Iterable[str], scratch: Path, stack: str) -> dict[str, Any]:
    """Seconds of the first and the second `grep -r` over everything served, or why there are none."""
    if not os.path.exists("/dev/fuse"):
        return {"skipped": "there is no /dev/fuse"}
    where, listed = scratch / "mnt", scratch / "names"
    where.mkdir()
    listed.write_text("".join(f"{name}\n" for name in names))
    options = f"cleancache={stack},files={listed}"
    mount = [sys.executable, "-c", HELPER, f"{base}/", str(where), "-o", options]
    done = subprocess.run(
        mount, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=WAIT_S, check=False
    )
    if done.returncode:
        return {"skipped": done.stderr.strip() or f"the mount failed ({done.returncode})"}
    try:
        seconds = [_once(where) for _ in range(2)]
    finally:
        _leave(where)
    return {"cold_s": seconds[0], "warm_s": seconds[1]}


def _once(where: Path) -> float:
    begun = time.monotonic()
    done = subprocess.run(
        ["grep", "-r", WORD, str(where)], stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT_S, check=False
    )
    if done.returncode != 1:  # nothing is found, and nothing failed
        raise OSError(f"grep -r ended with {done.returncode}: {done.stderr.decode(errors='replace')[:300]}")
    return time.monotonic() - begun


def _leave(where: Path) -> None:
    from cleancache.frontends import unmount

    unmount.unmount(str(where), lazy=True)
    end = time.monotonic() + 5
    while os.path.ismount(where) and time.monotonic() < end:
        time.sleep(0.01)


def text(found: dict[str, Any]) -> str:
    """One line for people."""
    if "skipped" in found:
        return f"No mount here: {found['skipped']}"
    return f"grep -r through a mount of the same server: {found['cold_s']:.2f} s cold, {found['warm_s']:.2f} s warm"
