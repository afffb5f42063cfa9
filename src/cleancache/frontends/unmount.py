"""Taking mounts away: those that work, those that are busy, and those whose process is gone (X59, X62)."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time

from cleancache.errors import Error

TYPE = "fuse.cleancache"
GONE_S = 10.0


def mounts() -> list[tuple[str, str, str]]:
    """(source, directory, type) of every mount that this process sees, those of now."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, source = right.split()[:2]
            found.append((_plain(source), _plain(left.split()[4]), kind))
    return found


def _plain(text: str) -> str:
    """A word of mountinfo, in which blanks and the like are octal."""
    for number in (0o40, 0o11, 0o12, 0o134):
        text = text.replace(f"\\{number:03o}", chr(number))
    return text


def unmount(where: str, *, lazy: bool = False) -> str:
    """Unmount *where*; what was done, in words.  Raises: Error, with the remedy."""
    path = os.path.abspath(where)
    kinds = [kind for _, directory, kind in mounts() if directory == path]
    if not kinds:
        path = os.path.realpath(where)
        kinds = [kind for _, directory, kind in mounts() if directory == path]
    if not kinds:
        raise Error(f"{where} is not mounted")
    if kinds[-1] != TYPE:
        raise Error(f"{where} is a mount of type {kinds[-1]}, not ours; use umount")
    if _is_dead(path):
        detach_dead(path)
        return f"{where} was a mount whose process is gone; it is unmounted"
    answer = _ask(path, lazy=lazy)
    if answer:
        raise Error(answer)
    return f"{where} is unmounted"


def _is_dead(path: str) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _ask(path: str, *, lazy: bool) -> str:
    """Have it unmounted by whoever may; what went wrong, or nothing."""
    if os.geteuid() == 0:
        command = ["umount", "-i", *(["-l"] if lazy else []), path]
    else:
        helper = shutil.which("fusermount3")
        if helper is None:
            return "fusermount3 is missing: apt-get install fuse3"
        command = [helper, "-u", *(["-z"] if lazy else []), path]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()
    remedy = "; somebody uses it: 'fuser -m' says who, --lazy detaches it now" if "busy" in done.stderr else ""
    return f"{said[-1] if said else f'{command[0]} failed'}{remedy}"


def detach_dead(path: str) -> None:
    """Take a dead mount away.  Raises: Error, where that is not ours to do."""
    answer = _ask(path, lazy=True)
    if answer:
        raise Error(f"{path} is a mount whose process is gone, and it could not be taken away: {answer}")
    end = time.monotonic() + GONE_S
    while _is_dead(path):
        if time.monotonic() > end:
            raise Error(f"{path} is still a dead mount after umount -l")
        time.sleep(0.01)
