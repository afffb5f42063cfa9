"""Real mounts for tests: `mounted(…)` runs `mount.cleancache` as a user would, and leaves no mount, process or file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cleancache.errors import Error
from cleancache.frontends import unmount
from tests.conftest import cannot

HELPER = Path(sys.executable).with_name("mount.cleancache")
COMMAND = Path(sys.executable).with_name("cleancache")
WAIT_S = 30.0
MAIN = "import sys; from cleancache.frontends.mount import main; sys.exit(main(sys.argv[1:]))"


def need_fuse() -> None:
    """Skip (in CI: fail) where nothing can be mounted."""
    if not os.path.exists("/dev/fuse"):
        cannot("there is no /dev/fuse")
    if os.geteuid() != 0:
        cannot("mounting for tests needs root")


def mount(
    source: Path | str,
    where: Path,
    options: str = "cleancache=zcache:64M",
    *,
    code: int = 0,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Run the helper; what it said. It must end with *code*."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, str(source), str(where), "-o", options],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=WAIT_S,
        text=True,
        env={**os.environ, **(environ or {})},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def is_mounted(where: Path) -> bool:
    """Say whether something of ours is mounted there."""
    return any(directory == str(where) for _, directory, _ in unmount.mounts())


def stats(where: Path) -> dict[str, Any]:
    """What the mount says of itself."""
    found: dict[str, Any] = json.loads((where / ".cleancache" / "stats").read_bytes())
    return found


def pid_of(where: Path) -> int:
    """The process that serves *where*."""
    return int(stats(where)["pid"])


def wait_gone(pid: int) -> None:
    """Wait until a process has ended.  Raises: AssertionError, after a while."""
    end = time.monotonic() + WAIT_S
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.01)


@contextmanager
def mounted(source: Path | str, where: Path, options: str = "cleancache=zcache:64M", **environ: str) -> Iterator[Path]:
    """A mount for the length of a block."""
    if not is_mounted(where):  # what is there may be dead, and is mounted over
        where.mkdir(exist_ok=True)
    mount(source, where, options, environ=environ)
    pid = pid_of(where)
    try:
        yield where
    finally:
        end = time.monotonic() + 5
        while is_mounted(where):  # a file that was just closed may be busy for a moment
            try:
                unmount.unmount(str(where), lazy=time.monotonic() > end)
            except Error:
                time.sleep(0.02)
        try:
            wait_gone(pid)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise


def age(*paths: Path) -> None:
    """Wait until the files are old enough to be trusted: their stamps are the kernel's, and cannot be set."""
    newest = max(max(path.stat().st_mtime, path.stat().st_ctime) for path in paths)
    time.sleep(max(0.0, newest + 2.05 - time.time()))
