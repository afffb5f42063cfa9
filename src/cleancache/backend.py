"""The contract that every tier keeps: three verbs, a snapshot, an end.

A handle names bytes, for ever. `put` may refuse, `get` may miss, `flush` may not fail to hold: after it returned,
nothing that was put before is given again. No verb raises and none outlasts its deadline; a refusal and a miss are
values, each counted with its reason. The laws are in `docs/laws.md`, the suite that proves them for any back end is
`cleancache.testing`.

Everything is a `Backend`: the store, a slot, a pool, a guard, a fake. Wish W1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from cleancache.handle import Handle, Scope

# collections.abc.Buffer is Python 3.12; any contiguous buffer is taken (law V7)
Buffer: TypeAlias = "bytes | bytearray | memoryview"

MAX_PAGE_BYTES = 1 << 20  # no tier takes a greater page (design: page sizes of 4 KiB to 1 MiB)

READER_BYTES = 1 << 20  # what the Readers of a process may keep raw beside the tiers; each `zcache` is charged for it

MISSES = ("absent", "empty", "denied", "owed", "late", "down", "corrupt", "malformed")
REFUSALS = ("size", "full", "quota", "frozen", "once", "empty", "denied", "owed", "late", "down", "malformed")
LEFT = ("evicted", "spilled", "flushed", "taken", "dropped", "corrupt", "lost")
SCOPES = ("page", "object", "pool")


@runtime_checkable
class Backend(Protocol):
    """A handle names bytes, for ever; a back end keeps copies of them as long as it likes.

    Laws: see `docs/laws.md`. Threads: all verbs may be called from any thread at any time. Raises: nothing, ever.
    """

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Keep a copy of *data* under *handle*, or refuse; a refusal drops an older copy of this handle."""
        ...

    def get(self, handle: Handle) -> bytes | None:
        """The last accepted, unflushed bytes of *handle*, whole and verified, or None."""
        ...

    def flush(self, scope: Scope) -> bool:
        """Forget everything in *scope*: a get that starts after the return never gives it. False: a tier could not be
        told."""
        ...

    def stats(self) -> Stats:
        """A consistent snapshot that waits for no tier."""
        ...

    def close(self) -> None:
        """Give back what is held; idempotent. Afterwards puts refuse and gets miss (`down`)."""
        ...


def _metric(text: str, label: str | None = None, kind: str = "counter") -> dict[str, str | None]:
    return {"help": text, "label": label, "kind": kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A snapshot of what was counted; the fields are the metric names without `cleancache_` and `_total`.

    A labelled family is a mapping from label to number. None (or an absent label) means that this tier cannot know;
    it never means 0. The sum rules that hold when no call is under way are R1–R8 of `docs/accounting.md`.
    """

    gets: int = field(default=0, metadata=_metric("gets begun"))
    puts: int = field(default=0, metadata=_metric("puts begun"))
    hits: int = field(default=0, metadata=_metric("gets that gave bytes"))
    misses: Mapping[str, int] = field(default_factory=dict, metadata=_metric("gets that gave nothing", "reason"))
    stored: int = field(default=0, metadata=_metric("puts accepted under a new handle"))
    replaced: int = field(default=0, metadata=_metric("puts accepted in the place of an older copy"))
    refused: Mapping[str, int] = field(default_factory=dict, metadata=_metric("puts refused", "reason"))
    flushes: Mapping[str, int] = field(default_factory=dict, metadata=_metric("flushes begun", "scope"))
    left: Mapping[str, int] | None = field(default=None, metadata=_metric("pages that left", "reason"))
    resident_pages: int | None = field(default=None, metadata=_metric("pages held", kind="gauge"))
    used_bytes: Mapping[str, int] | None = field(
        default=None, metadata=_metric("bytes of the limit in use", "part", "gauge")
    )
    limit_bytes: int | None = field(default=None, metadata=_metric("limit enforced now", kind="gauge"))
    ceiling_bytes: int | None = field(default=None, metadata=_metric("limit configured", kind="gauge"))
    charged_bytes: Mapping[str, int] | None = field(
        default=None, metadata=_metric("bytes charged to each owner", "owner", "gauge")
    )
    logical_bytes: int | None = field(default=None, metadata=_metric("raw size of the pages held", kind="gauge"))
    unique_bytes: int | None = field(
        default=None, metadata=_metric("the same with shared contents counted once", kind="gauge")
    )
    evicted_age_seconds: float | None = field(
        default=None, metadata=_metric("how long the last evicted page had not been wanted", kind="gauge")
    )
    debts: int | None = field(default=None, metadata=_metric("scopes owed", kind="gauge"))
    breaker_open: int | None = field(default=None, metadata=_metric("1 while a tier is given up", kind="gauge"))
    verb_seconds: Mapping[str, tuple[int, ...]] | None = field(
        default=None, metadata=_metric("sampled duration of calls, counts by bucket", "verb", "histogram")
    )
    read_bytes: Mapping[str, int] | None = field(
        default=None, metadata=_metric("bytes given to callers", "from", "counter")
    )
    source_reads: int | None = field(default=None, metadata=_metric("requests to the source"))
    source_bytes: int | None = field(default=None, metadata=_metric("bytes that the source sent"))
    source_seconds: float | None = field(default=None, metadata=_metric("time that requests to the source took"))
    source_errors: int | None = field(default=None, metadata=_metric("requests to the source that failed"))
    joined: int | None = field(default=None, metadata=_metric("waits for another reader's fetch"))
    changed: int | None = field(default=None, metadata=_metric("reads that met another version"))
    unversioned: int | None = field(default=None, metadata=_metric("opens not cached for lack of a usable version"))
    unleased: int | None = field(default=None, metadata=_metric("fills of local files without a lease"))
    stale_hits: int | None = field(default=None, metadata=_metric("audited hits that differed from the source"))


class Absent:
    """The tier that is not there: it refuses and misses (`empty`) and holds nothing.

    >>> Absent().put(Handle(bytes(16), bytes(24), 0), b"clean")
    False
    """

    def put(self, handle: Handle, data: Buffer) -> bool:
        """Refuse."""
        return False

    def get(self, handle: Handle) -> bytes | None:
        """Miss."""
        return None

    def flush(self, scope: Scope) -> bool:
        """Nothing is held, so nothing of it is given again."""
        return True

    def stats(self) -> Stats:
        """All zero; whoever puts an `Absent` in its place counts."""
        return Stats()

    def close(self) -> None:
        """Nothing to give back."""


def copying(backend: Backend) -> Callable[[Handle, memoryview], int]:
    """`get_into` of *backend*, made of its `get` if it has none: it saves a copy where many pages make one result."""
    get = backend.get

    def get_into(handle: Handle, into: memoryview) -> int:
        data = get(handle)
        if data is None:
            return 0
        if type(data) is not bytes:
            raise TypeError(f"get gave {type(data).__name__}, not bytes or None")
        if len(data) <= len(into):
            into[: len(data)] = data
        return len(data)

    own: Callable[[Handle, memoryview], int] | None = getattr(backend, "get_into", None)
    return own or get_into
