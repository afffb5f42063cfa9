"""What a source is: the place where bytes can be fetched again, and the only one that knows which version is current.

Freshness (promise one) rests on two answers that only a source can give. *Which version is current?* `version` asks
it past every client-side listing cache. *Which version did these bytes have?* `read` is conditional: it proves that
its bytes have the version asked for, or raises `Changed`. What cannot be proven may be handed out when nothing
contradicts it, but is not put (`fit`).

`docs/freshness.md` has the rule of each kind; the numbers S1–S30 in the files here are its rows. Laws F1–F8, X33, X34.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from threading import RLock
from typing import Any, NamedTuple, Protocol

STRONG, WEAK, NONE = "strong", "weak", "none"


@dataclass(frozen=True, slots=True)
class Version:
    """What the source says about a name now: the token of its bytes, and how far that token can be trusted.

    *token* names the bytes; equal tokens of a `strong` version mean equal bytes. *strength* `weak`: cached only with
    `max_stale` or `immutable`; `none`: only with `immutable`; *why* says in words why it is not strong. *place* is
    the name the pages go by when that is not the one asked for: a file's inode, the URL after redirects. *is_barred*:
    never cached, whatever the user says (tmpfs). *is_private*: never in a shared pool (`Cache-Control: private`).
    *size* None: not known before the end is read.
    """

    token: bytes
    size: int | None
    strength: str
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = None
    is_barred: bool = False
    is_private: bool = False


class Fetched(NamedTuple):
    """The answer of a source: bytes, where they start, the version they were shown to have, and whether they may be
    put.

    *data* may cover more than was asked for (a server that ignores ranges). *leased* is False where a lease could not
    be had although the kind has leases (counted as `unleased`), None where there are none.
    """

    data: bytes
    offset: int
    version: Version
    fit: bool
    leased: bool | None = None

    def covers(self, offset: int, size: int) -> bool:
        """Say whether [*offset*, *offset* + *size*) is all there."""
        return self.offset <= offset and offset + size <= self.offset + len(self.data)


class Garbled(OSError):  # noqa: N818  (names what the answer is, as Changed does)
    """A source's answer has a wrong length or range; the Reader asks once more, then the caller gets it (EIO, or the
    cause)."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EIO, text)


class Source(Protocol):
    """Where bytes can be fetched again.

    Threads: any, in sync mode; never from the event loop of the file system behind it. Raises: the source's own
    errors unchanged.
    """

    identity: str
    is_near: bool  # asking for a version costs no round trip, so it is asked before anything is read

    def version(self, name: str) -> Version:
        """The version that is current now, asked past every cache on this side; the source's own error if it cannot
        be had."""
        ...

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """The bytes [*offset*, *offset* + *size*) of exactly this version (None: to the end), or `Changed`."""
        ...

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """The same without knowing a version: the reply carries it. None: this source or range cannot be read so; ask
        first."""
        ...


def token(*parts: object) -> bytes:
    """The bytes that stand for *parts*, each with its length, so that no two different rows look alike.

    >>> token("ab", "c") != token("a", "bc")
    True
    """
    texts = [str(part).encode("utf-8", "surrogateescape") for part in parts]
    return b"".join(b"%d:%b" % (len(text), text) for text in texts)


# What changes how bytes are fetched but not which bytes, or who may have them
NEUTRAL = frozenset(
    [
        "asynchronous",
        "loop",
        "skip_instance_cache",
        "use_listings_cache",
        "listings_expiry_time",
        "max_paths",
        "default_block_size",
        "block_size",
        "default_fill_cache",
        "default_cache_type",
        "cache_type",
        "cache_options",
        "batch_size",
        "max_concurrency",
    ]
)


def fingerprint(protocol: str, options: Iterable[tuple[str, object]]) -> str:
    """The identity of a source: its kind, and a digest of everything that says where it is and who asks (law P12).

    Credentials are among the options, so other credentials are another identity; only the digest is ever kept or shown.
    """
    digest = blake2b(digest_size=16, person=b"cleancache-src-1")
    for key, value in sorted(options):
        if key not in NEUTRAL:
            digest.update(token(key, _stable(value)))
    return f"{protocol}:{digest.hexdigest()}"


def _stable(value: object) -> str:
    if isinstance(value, Mapping):
        return repr(sorted((str(key), _stable(item)) for key, item in value.items()))
    return repr(value)


def cut(fetched_at: int, data: bytes, offset: int, size: int | None) -> bytes:
    """The part [*offset*, *offset* + *size*) of *data*, which starts at *fetched_at*; *data* itself if that is all of
    it."""
    start = offset - fetched_at
    stop = len(data) if size is None else start + size
    return data if start == 0 and stop >= len(data) else data[start:stop]


Clock = Callable[[], float]
SEEN_LIMIT = 4096


class FirstSeen:
    """When each of the last few versions was first seen, by our monotonic clock: their age where no other clock can
    be asked."""

    def __init__(self) -> None:
        self.drop_after_fork()
        forget_after_fork(self)

    def drop_after_fork(self) -> None:
        """Start empty, with a lock that nobody holds (T1)."""
        self._lock = RLock()  # guards _seen
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def age(self, version: bytes, now: float) -> float:
        """Seconds since *version* was first seen; 0 if it was not."""
        with self._lock:
            first = self._seen.setdefault(version, now)
            if len(self._seen) > SEEN_LIMIT:
                self._seen.popitem(last=False)
        return now - first


class Forgets(Protocol):
    """What has to start empty in a forked child."""

    def drop_after_fork(self) -> None:
        """Start empty, with locks that nobody holds."""
        ...


_forgetful: weakref.WeakSet[Forgets] = weakref.WeakSet()


def forget_after_fork(table: Forgets) -> None:
    """Have *table* emptied in every forked child."""
    _forgetful.add(table)


def _forget_all() -> None:
    for table in list(_forgetful):
        table.drop_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
