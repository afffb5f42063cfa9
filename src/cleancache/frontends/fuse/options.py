"""The words of `-o`: ours, those of FUSE, and those that mount(8) leaves in and that mean nothing to us.

A comma ends an option, always; inside a value it is written `%2C` (each value is percent-decoded once, the stack, which
decodes for itself, is not). What is on no list is refused by name. Nothing here imports more than the parser of stacks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from cleancache.errors import SpecError
from cleancache.spec import did_you_mean, parse_bool, parse_size

OURS = ("pool", "max_stale", "immutable", "page_size", "readahead", "limit", "lease")  # as in config.Settings
FLAGS = (
    "allow_other", "allow_root", "default_permissions", "auto_unmount", "nosuid", "suid", "nodev", "dev", "noexec",
    "exec", "noatime", "sync", "dirsync", "async",
)  # fmt: skip
IGNORED = frozenset((
    "_netdev", "nofail", "user", "users", "nouser", "owner", "group", "rw", "auto", "noauto", "atime", "relatime",
    "norelatime", "strictatime", "lazytime", "diratime", "nodiratime", "defaults", "nonempty",
))  # fmt: skip
KNOWN = (
    *OURS, *FLAGS, "cleancache", "files", "ro", "uid", "gid", "umask", "max_read", "direct_io", "nothreads", "remount",
)  # fmt: skip


@dataclass(slots=True)
class MountOptions:
    """What `-o` said. *settings* are arguments of `config.resolve`, *storage* options of the file system behind us."""

    settings: dict[str, Any] = field(default_factory=dict)
    storage: dict[str, Any] = field(default_factory=dict)
    kernel: list[str] = field(default_factory=list)  # for libfuse, as they came
    files: str | None = None
    is_read_only: bool = False
    is_remount: bool = False
    direct_io: bool = False
    nothreads: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None


def parse(text: str) -> MountOptions:
    """The options in *text*, a list with commas.

    Raises: SpecError, with the name of an option that is on no list.

    >>> parse("ro,cleancache=zcache:1G,max_stale=30s").settings
    {'stack': 'zcache:1G', 'max_stale': '30s'}
    >>> parse("max_stael=30s")
    Traceback (most recent call last):
    cleancache.errors.SpecError: 'max_stael' is no option of a mount; did you mean 'max_stale'?
    """
    found = MountOptions()
    for word in text.split(","):
        name, has_value, raw = word.partition("=")
        if word and not (name in IGNORED or name.startswith(("x-", "X-", "comment"))):
            _take(found, name, raw if name == "cleancache" else unquote(raw), has_value=bool(has_value))
    return found


def _take(found: MountOptions, name: str, value: str, *, has_value: bool) -> None:
    if name == "cleancache":
        if not value:
            raise SpecError("cleancache= names a stack, as cleancache=zcache:1G; cleancache=none is no cache")
        found.settings["stack"] = value
    elif name == "immutable":
        found.settings["immutable"] = parse_bool(value) if has_value else True
    elif name in OURS:
        if not has_value:
            raise SpecError(f"{name}= wants a value")
        found.settings[name] = value
    elif name.startswith("option."):
        _nest(found.storage, name.removeprefix("option.").split("."), value)
    elif name == "files" and has_value:
        found.files = value
    elif name in ("uid", "gid", "umask"):
        try:
            setattr(found, name, int(value, 8 if name == "umask" else 10))
        except ValueError:
            raise SpecError(f"{name}= wants a number; got {value!r}") from None
    elif name == "max_read":
        found.kernel.append(f"max_read={parse_size(value)}")
    elif name == "ro" and not has_value:
        found.is_read_only = True
    elif name == "remount" and not has_value:
        found.is_remount = True
    elif name in ("direct_io", "nothreads") and not has_value:
        setattr(found, name, True)
    elif name in FLAGS and not has_value:
        found.kernel.append(name)
    else:
        near = did_you_mean(name, KNOWN)
        known = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(KNOWN))}, option.NAME"
        raise SpecError(f"{name!r} is no option of a mount; {known}")


def _nest(table: dict[str, Any], names: list[str], text: str) -> None:
    """Put a value at `a.b.c`; JSON where it is JSON, else text."""
    for name in names[:-1]:
        table = table.setdefault(name, {})
    try:
        table[names[-1]] = json.loads(text)
    except ValueError:
        table[names[-1]] = text
