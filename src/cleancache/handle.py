"""The names of pages: handles, scopes, and how they are made.

The first law: a handle names bytes, for ever. Whatever changes the bytes of a file changes its version, the version is
part of the object, and so old bytes cannot be found under a new name (laws 0, V13, I2, I3).

No clock, no lock, no I/O here. Origin: the (pool, object, index) triple of Linux cleancache; unlike there the mount
chooses the pool id, so a back end may come late, and an object is a digest that contains the version, so a lost flush
cannot hurt.
"""

from __future__ import annotations

import secrets
import uuid
from hashlib import blake2b
from typing import NamedTuple

POOL_BYTES = 16
OBJECT_BYTES = 24
MAX_PAGE = 2**64 - 1


class Handle(NamedTuple):
    """The name of one page.

    Units and shapes: *pool* 16 bytes, *object* 24 bytes, *page* 0 … 2⁶⁴−1, the number of the page in the object.
    """

    pool: bytes
    object: bytes
    page: int


class Scope(NamedTuple):
    """A prefix of a handle: a pool, an object, or a page, and everything below it.

    >>> Scope(bytes(16)).kind, Scope(bytes(16), bytes(24)).kind, Scope(bytes(16), bytes(24), 0).kind
    ('pool', 'object', 'page')
    """

    pool: bytes
    object: bytes | None = None
    page: int | None = None

    @property
    def kind(self) -> str:
        """`pool`, `object` or `page`: the label of the counter `flushes`."""
        if self.object is None:
            return "pool"
        return "object" if self.page is None else "page"

    def covers(self, handle: Handle) -> bool:
        """Say whether *handle* lies in this scope."""
        return (
            self.pool == handle.pool
            and (self.object is None or self.object == handle.object)
            and (self.page is None or self.page == handle.page)
        )


def is_valid(handle: Handle) -> bool:
    """Say whether *handle* is in range; outside of it a put refuses, a get misses, a flush does nothing (law V13)."""
    try:
        pool, obj, page = handle
    except (TypeError, ValueError):
        return False
    return (
        type(pool) is bytes
        and type(obj) is bytes
        and type(page) is int
        and len(pool) == 16  # POOL_BYTES and the others, as numbers: this runs at every put
        and len(obj) == 24
        and 0 <= page <= 0xFFFF_FFFF_FFFF_FFFF
    )


def scope_is_valid(scope: Scope) -> bool:
    """Say whether *scope* can cover any valid handle."""
    pool, obj, page = scope
    if obj is None:
        return isinstance(pool, bytes) and len(pool) == POOL_BYTES and page is None
    return is_valid(Handle(pool, obj, 0 if page is None else page))


def object_digest(identity: str, name: str, version: bytes, page_size: int) -> bytes:
    """The 24 bytes that name one version of one file, cut into pages of one size.

    *identity* says which source (and, where access depends on it, which credentials); *name* is the file's name there.
    Fields carry their lengths, so no two different triples share their text.

    >>> object_digest("http", "a", b"bc", 4096) != object_digest("http", "ab", b"c", 4096)
    True
    """
    digest = blake2b(digest_size=OBJECT_BYTES, person=b"cleancache-obj-1")
    for field in (identity.encode("utf-8", "surrogateescape"), name.encode("utf-8", "surrogateescape"), version):
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    digest.update(page_size.to_bytes(8, "little"))
    return digest.digest()


def private_pool() -> bytes:
    """A pool id that nobody else has and nobody will have again: 128 random bits (law I2)."""
    return secrets.token_bytes(POOL_BYTES)


def shared_pool(name: str | bytes | uuid.UUID) -> bytes:
    """The pool id that a UUID names; every one of its 128 bits counts (law I3).

    Raises: ValueError, if it is no UUID.

    >>> shared_pool("6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5").hex()
    '6f1c2d3e4a5b4c6d8e7fa0b1c2d3e4f5'
    """
    if isinstance(name, uuid.UUID):
        return name.bytes
    if isinstance(name, bytes):
        if len(name) == POOL_BYTES:
            return name
    elif isinstance(name, str):
        text = name.strip().lower()
        if len(text) in (32, 36):
            try:
                parsed = uuid.UUID(text)
            except ValueError:
                pass
            else:
                if text in (str(parsed), parsed.hex):
                    return parsed.bytes
    raise ValueError(
        f"a pool is named by a UUID of 32 hex digits, as 6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5; got {name!r}"
    )


def pool_text(pool: bytes) -> str:
    """How a pool is shown in statistics and logs: its first 8 hex digits."""
    return pool[:4].hex()
