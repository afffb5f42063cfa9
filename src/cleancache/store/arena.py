"""The room of a Store: one reserved mapping, cut into segments, and the count of what is in them.

The whole ceiling is reserved as address space at once and touched a segment at a time; only touched segments cost
memory, so *held* segments times their size is what the host sees (law M1, G12). A segment goes back to the host whole
(law M2; giving back single pages costs five times as much, performance lesson 6). There is no allocator, so nothing
fragments; writes append.

States of a segment: *free* (untouched or punched, costs nothing), *spare* (touched, empty, ready), *open* (being
filled), *closed*. Spare room, unfilled tails and dropped records are *dead*: room that belongs to the Store until it
is reclaimed.

Fork: the mapping is not inherited (T2), so a child neither shares nor doubles the budget; it drops every view and
must not unmap: what it maps itself may lie at that address by then. No lock here: the Store calls it under its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from array import array
from typing import Final

from cleancache.policy import Queue

_MAP_NORESERVE: Final = 0x4000
_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14; elsewhere it fails and the first put pays for the faults
HEADER_ROOM: Final = (
    8192  # above a power of two, so that pages of 64 KiB and their headers tile a segment without a tail
)
GREATEST_SEGMENT: Final = 4 << 20
LEAST_SEGMENT: Final = 128 << 10

_libc = ctypes.CDLL(None, use_errno=True)


def segment_size(limit_bytes: int) -> int:
    """1/32 of the limit, from 128 KiB to 4 MiB but at most 1/8 of the limit, and room for headers.

    >>> segment_size(256 << 20) == (4 << 20) + HEADER_ROOM
    True
    """
    share = 1 << max(0, (limit_bytes // 32).bit_length() - 1)
    most = 1 << max(12, (limit_bytes // 8).bit_length() - 1)
    return min(max(share, LEAST_SEGMENT), GREATEST_SEGMENT, most) + HEADER_ROOM


class Segment:
    """A held segment: where its records begin, what they hold, and who pays for those that live.

    *offsets*, *raws* and *tags* run in step: the record's offset in the arena, its raw length, its content tag.
    """

    __slots__ = ("filled", "is_closed", "live", "number", "offsets", "opened_at", "owners", "queue", "raws", "tags")

    def __init__(self, number: int, queue: Queue, opened_at: float) -> None:
        self.number = number
        self.queue = queue
        self.opened_at = opened_at
        self.is_closed = False
        self.filled = 0
        self.live = 0
        self.offsets = array("Q")
        self.raws = array("I")
        self.tags = array("Q")
        self.owners: dict[str, int] = {}


class Arena:
    """A mapping of *segments* × *segment_bytes*, private to this process.

    Raises: OSError, if the address space cannot be reserved.
    """

    def __init__(self, segments: int, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._map = mmap.mmap(-1, segments * segment_bytes, flags=flags)
        self._map.madvise(mmap.MADV_DONTFORK)
        for advice in ("MADV_NOHUGEPAGE", "MADV_DONTDUMP"):
            if hasattr(mmap, advice):
                self._advise_quietly(getattr(mmap, advice))
        self.view = memoryview(self._map)
        self.free = list(range(segments - 1, -1, -1))
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def _advise_quietly(self, advice: int) -> None:
        with contextlib.suppress(OSError):  # a kernel built without it: then that is the administrator's business
            self._map.madvise(advice)

    def populate(self, segment: int) -> bool:
        """Fault a segment in ahead of its first record; False if the kernel cannot. Lets go of the GIL."""
        size = ctypes.c_size_t(self.segment_bytes)
        start = ctypes.c_void_p(self._address + segment * self.segment_bytes)
        return bool(_libc.madvise(start, size, _MADV_POPULATE_WRITE) == 0)

    def punch(self, segment: int) -> None:
        """Give a segment's memory back to the host. Reads of it give zeros from now on, without costing memory."""
        self._map.madvise(mmap.MADV_DONTNEED, segment * self.segment_bytes, self.segment_bytes)

    def drop(self) -> None:
        """Let the mapping go, as soon as nobody reads in it any more."""
        self.view = memoryview(b"")
        del self._map

    def abandon(self) -> None:
        """In a forked child, which has no such mapping: never unmap it, other memory of the child's may lie there."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._map))
        self.drop()
