"""Pages that say what they are: which handle, which put, which length.

A page that was mixed from two, cut, padded or given under another handle cannot pass for the right one, because the
whole page follows from its handle and its number (law V9). Odd numbers compress well, even ones do not, and a few are
the same under every handle, so that codec and dedup are at work in every campaign.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from random import Random

from cleancache.handle import Handle

HEAD_BYTES = 24  # digest of the handle (8), number (8), length (4), mark (4)
MARK = b"page"
SHARED_EVERY = 7  # one number in seven makes contents that do not depend on the handle


@lru_cache(4096)
def handle_mark(handle: Handle) -> bytes:
    """The 8 bytes by which a page names its handle.

    >>> len(handle_mark(Handle(bytes(16), bytes(24), 0)))
    8
    """
    return blake2b(repr(tuple(handle)).encode(), digest_size=8).digest()


def contents(handle: Handle, number: int, size: int) -> bytes:
    """The one page of *size* bytes that put *number* of *handle* keeps.

    >>> page = contents(Handle(bytes(16), bytes(24), 0), 1, 100)
    >>> len(page), page == contents(Handle(bytes(16), bytes(24), 1), 1, 100)
    (100, False)
    """
    if number % SHARED_EVERY == 0:
        head = b"everyone" + (number // SHARED_EVERY % 4).to_bytes(8, "little") + size.to_bytes(4, "little") + MARK
    else:
        head = handle_mark(handle) + number.to_bytes(8, "little") + size.to_bytes(4, "little") + MARK
    if size <= HEAD_BYTES:
        return bytes([number & 0xFF]) + head[: size - 1]
    if number & 1:
        return (head * (size // HEAD_BYTES + 1))[:size]
    return head + Random(head).randbytes(size - HEAD_BYTES)


def number_of(data: bytes) -> int | None:
    """The number that a page of its own claims to have, or None where it claims none."""
    if len(data) <= HEAD_BYTES or data[20:24] != MARK or data[:8] == b"everyone":
        return None
    return int.from_bytes(data[8:16], "little")


def described(data: bytes | None) -> str:
    """A page in words, for messages.

    >>> described(None), described(b"x")
    ('a miss', "1 bytes b'x'")
    """
    if data is None:
        return "a miss"
    number = number_of(data)
    name = f"put {number}" if number is not None else repr(bytes(data[:20]))
    return f"{len(data)} bytes {name}"
