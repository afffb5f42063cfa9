"""Code that runs in a process of its own: it may crash, hang, or spoil the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable


def forked(check: Callable[[], bool]) -> int:
    """Fork; how the child ended: 0 if *check* holds there, 1 if not, 2 if it raised, -14 if it hung, -11 if it
    crashed."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 2
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        status = 0 if check() else 1
    finally:
        os._exit(status)


def run(code: str, *arguments: str) -> str:
    """What a new interpreter prints that runs *code*; the test fails unless it ends well."""
    command = [sys.executable, "-X", "faulthandler", "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, f"ended with {ended.returncode}:\n{ended.stderr}"
    return ended.stdout
