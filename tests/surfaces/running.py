"""The command as a user runs it: a process of its own, with an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-c", "import sys; from cleancache.cli import main; sys.exit(main())")
TIMEOUT_S = 120


def environment(home: Path, **more: str) -> dict[str, str]:
    """No setting of the machine, only those in *more*."""
    names = ("PATH", "PYTHONPATH", "TMPDIR", "COVERAGE_PROCESS_START")
    kept = {name: value for name, value in os.environ.items() if name in names}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "LANG": "C.UTF-8", **more}


def run(*arguments: str, home: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    """One run of `cleancache`, ended, with both streams."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
