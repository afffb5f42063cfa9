"""What the kernel says about memory: the host, the control groups this process is in, and who had to wait.

`/proc/meminfo` of a container speaks of the whole host, so the limits of this process's own control group *and of each
ancestor* are read too, v1 or v2, wherever they are mounted. Files are read below a *root*, so that a tree of a test can
stand in for a machine; a file that is missing or unreadable says nothing. No lock, no state, nothing raised.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

UNLIMITED_BYTES = 1 << 62  # cgroup v1 writes 2**63 less a page for "none"


@dataclass(frozen=True, slots=True)
class Group:
    """A control group that this process is in: what it may use, uses, and could drop without pain."""

    limit_bytes: int
    used_bytes: int
    inactive_file_bytes: int = 0

    @property
    def room_bytes(self) -> int:
        """What is left below the limit; negative while the group is over it (`memory.high`)."""
        return self.limit_bytes - self.used_bytes + self.inactive_file_bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """What the kernel says about memory: all that `decide` looks at. None: it does not say."""

    total_bytes: int | None = None
    available_bytes: int | None = None
    groups: tuple[Group, ...] = ()
    stall_percent: float | None = None

    def rooms(self) -> Iterator[tuple[int, int]]:
        """(memory, what is left of it) of the host and of each group."""
        if self.total_bytes is not None and self.available_bytes is not None:
            yield self.total_bytes, self.available_bytes
        for group in self.groups:
            yield group.limit_bytes, group.room_bytes


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # no such file here, or the group went away: nothing is said
        return ""


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isdecimal() else None  # "max" and "" are no number


def _field(text: str, name: str) -> int | None:
    """The number after *name* in a file of lines as `MemTotal:  16 kB` or `inactive_file 4096`."""
    for line in text.splitlines():
        if line.startswith(name):
            words = line[len(name) :].lstrip(":").split()
            if words and words[0].isdecimal() and line[len(name)] in ": ":
                return int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return None


def _mounts(root: str) -> Iterator[tuple[bool, str, str]]:
    """(is v2, the group at the mount's root, mount point) of each cgroup mount that can carry memory."""
    for line in _text(os.path.join(root, "proc/self/mountinfo")).splitlines():
        left, _, right = line.partition(" - ")
        mount, kind = left.split(), right.split()
        if len(mount) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[2].split(",")):
            yield kind[0] == "cgroup2", mount[3], mount[4].replace("\\040", " ")


def _group_dirs(root: str) -> Iterator[tuple[bool, list[str]]]:
    """(is v2, directories of this process's group and its ancestors, own first) of each hierarchy."""
    own: dict[bool, str] = {}  # by "is v2"
    for line in _text(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            own[True] = path
        elif "memory" in controllers.split(","):
            own[False] = path
    for is_v2, top, point in _mounts(root):
        if is_v2 not in own:
            continue
        path = own[is_v2]
        if top != "/" and (path == top or path.startswith(top + "/")):
            path = path[len(top) :]  # a container without a namespace of its own sees the host's path
        parts = [part for part in path.split("/") if part not in ("", "..")]
        here = os.path.join(root, point.lstrip("/"))
        if top != "/" and not os.path.isdir(os.path.join(here, *parts)):
            parts = []  # our group is mounted as the root
        yield is_v2, [os.path.join(here, *parts[:n]) for n in range(len(parts), -1, -1)]


def _group(is_v2: bool, folder: str) -> Group | None:
    names = ("memory.max", "memory.high") if is_v2 else ("memory.limit_in_bytes",)
    limits = [n for n in (_number(_text(os.path.join(folder, name))) for name in names) if n is not None]
    limit = min(limits, default=UNLIMITED_BYTES)
    used = _number(_text(os.path.join(folder, "memory.current" if is_v2 else "memory.usage_in_bytes")))
    if limit >= UNLIMITED_BYTES or used is None:
        return None
    stat = _text(os.path.join(folder, "memory.stat"))
    return Group(limit, used, _field(stat, "inactive_file" if is_v2 else "total_inactive_file") or 0)


def pressure_path(root: str) -> str:
    """Where PSI of this process is read and waited for: its v2 group's, else the host's."""
    for is_v2, folders in _group_dirs(root):
        path = os.path.join(folders[0], "memory.pressure")
        if is_v2 and os.path.exists(path):
            return path
    return os.path.join(root, "proc/pressure/memory")


def _stall_percent(text: str) -> float | None:
    for word in text.split():  # "some avg10=1.23 avg60=… total=…", then "full …"
        if word.startswith("avg10="):
            try:
                return float(word[6:])
            except ValueError:
                return None
    return None


def read_facts(root: str = "/") -> Facts:
    """What the kernel says now. Files that are missing or unreadable say nothing; nothing is raised.

    Cost: 10 to 20 small reads of /proc and /sys, less than a millisecond.
    """
    meminfo = _text(os.path.join(root, "proc/meminfo"))
    groups = (_group(is_v2, folder) for is_v2, folders in _group_dirs(root) for folder in folders)
    return Facts(
        total_bytes=_field(meminfo, "MemTotal"),
        available_bytes=_field(meminfo, "MemAvailable"),
        groups=tuple(group for group in groups if group is not None),
        stall_percent=_stall_percent(_text(pressure_path(root))),
    )


def memory_allowed(root: str = "/") -> int:
    """What this process may use in all, in bytes: the memory of the host, or the least limit of its control groups.

    >>> memory_allowed() > 0
    True
    """
    facts = read_facts(root)
    total = (
        facts.total_bytes if facts.total_bytes is not None else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    return min([total, *(group.limit_bytes for group in facts.groups)])
