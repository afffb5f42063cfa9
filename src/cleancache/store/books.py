"""The room and the account of one Store: which segments are held, and what every byte of the limit is used for.

Parts: `pages` (records that live), `index` (tables and entries), `dead` (held room in which nothing lives), `reader`
(what the process's Readers may keep raw). Their sum is `used`, and the Ledger's, to the byte, after every call (R4).
What cannot be seen from here, as the size of a dictionary, is charged by constants that bench/store.py measures.
Every method here runs under `lock`.
"""

from __future__ import annotations

import secrets
import threading
from array import array
from collections.abc import Callable
from itertools import count
from mmap import PAGESIZE
from typing import Final, NamedTuple

from cleancache import codec as codecs
from cleancache.codec import HEADER_BYTES
from cleancache.handle import Handle
from cleancache.ledger import STORE, Ledger
from cleancache.policy import Ghost, Order, Queue
from cleancache.store.arena import Arena, Segment, segment_size
from cleancache.store.index import Index

FIXED_COST: Final = 32 << 10  # the Store, its segments' lists and its counters
TOUCH_SHIFT: Final = 10  # records that begin in one KiB share a touch count; only an object's last page is so short
LEAST_SLOT_BYTES: Final = 4096  # the tables have a slot for each page of this size


def so_far(counter: count[int]) -> int:
    """How often `next` was called on *counter*: exact without a lock, since `next` is one step and `+= 1` three."""
    return int(repr(counter)[6:-1])  # "count(n)": the only way to look without stepping


class Evicted(NamedTuple):
    """A page on its way out, as it was stored: what the spill hook is given."""

    handle: Handle
    codec: int
    raw_length: int
    stored: bytes


Spill = Callable[[Evicted], bool]


class Shared:
    """The holders of one record, oldest first, and the name in its header (its first holder's, perhaps gone)."""

    __slots__ = ("holders", "name")

    def __init__(self, first: Handle) -> None:
        self.name = (first.pool + first.object, first.page)
        self.holders: dict[Handle, None] = {first: None}


class Books:
    """The state of one Store.

    Lock: `lock` guards all of it; it is held for one copy or one page's books, never across I/O or a codec that
    compresses.
    """

    def __init__(
        self,
        limit_bytes: int,
        *,
        reader_bytes: int,
        spill: Spill | None,
        segment_bytes: int | None,
        clock: Callable[[], float],
    ) -> None:
        self.ceiling = self.limit = limit_bytes
        self.segment_bytes = -(-(segment_bytes or segment_size(limit_bytes)) // PAGESIZE) * PAGESIZE  # punched whole
        self.max_page_bytes = min(1 << 20, self.segment_bytes - HEADER_BYTES)
        self.most_spares = max(
            2, min(8, limit_bytes // self.segment_bytes // 16)
        )  # segments kept ready, a first touch is dear
        self.reader_bytes = reader_bytes
        self.spill = spill
        self.wake: Callable[[], object] = lambda: None  # told whenever a segment was opened: room may be short
        self.clock = clock
        self.owners: dict[bytes, tuple[str, int, str]] = {}
        self.adopted: set[bytes] = set()  # pools in `owners` that nobody enrolled; they go with their last page
        self.ledger = Ledger()
        self.is_broken = False  # a change ended in the middle: by an interrupt, or for lack of memory
        self.reset()
        self.zero_counters()

    def zero_counters(self) -> None:
        """A new life begins with nothing counted."""
        self.gets, self.hits, self.absent = count(), count(), count()  # counted without the lock: see `so_far`
        self.puts = self.stored = self.replaced = 0
        self.misses: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.flushes: dict[str, int] = {}
        self.left: dict[str, int] = {}
        self.codec_calls = 0

    def reset(self) -> None:
        """Begin with nothing: no page, no memory, new locks, another stamp."""
        self.lock = threading.RLock()
        self.freed = threading.Condition(self.lock)  # told whenever a segment became free
        self.reclaim_lock = threading.RLock()  # taken before `lock`: whoever frees segments holds it
        self.arena: Arena | None = None
        self.view = memoryview(b"")
        self.stamp = codecs.stamp(secrets.randbits(32))
        self.index = Index()
        self.pools = self.index.pools
        self.shared: dict[int, Shared] = {}
        self.segments: dict[int, Segment] = {}
        self.opened: dict[Queue, Segment] = {}
        self.spares: list[int] = []
        self.order = Order()
        slots = max(16, self.ceiling // LEAST_SLOT_BYTES)
        self.ghost = Ghost(min(slots, 1 << 20))
        self.tag_mask = (1 << (min(slots, 1 << 20) - 1).bit_length()) - 1
        self.tags = array("Q", bytes(8 * (self.tag_mask + 1)))
        self.secret = secrets.randbits(64)
        self.pages_bytes = self.dead_bytes = self.logical = self.unique = self.resident = 0
        self.touches = bytearray((self.ceiling >> TOUCH_SHIFT) + 1)
        self.index_bytes = FIXED_COST + self.ghost.nbytes + 8 * (self.tag_mask + 1) + len(self.touches)
        self.used = self.index_bytes + self.reader_bytes  # all bytes that count against the limit: Σ of the four parts
        self.evicted_age: float | None = None
        self.ledger.charges.clear()
        self.ledger.charge(STORE, self.used)

    def end_charges(self) -> None:
        """A closed Store has no tables and is charged nothing (law N2)."""
        self.tags, self.tag_mask = array("Q", bytes(8)), 0
        self.ghost = Ghost(1)
        self.ledger.charge(STORE, -self.index_bytes - self.reader_bytes)
        self.index_bytes = self.reader_bytes = self.used = 0

    # --- room -------------------------------------------------------------------------------------

    def reserve(self) -> bool:
        """Reserve the arena at first use; False if the host refuses."""
        if self.arena is None:
            try:
                self.arena = Arena(max(1, self.ceiling // self.segment_bytes), self.segment_bytes)
            except (OSError, ValueError, MemoryError, OverflowError):
                return False
            self.view = self.arena.view
        return True

    def obtainable(self) -> int:
        """How many empty segments could be opened now: the spare ones and what the limit still allows to touch."""
        free = len(self.arena.free) if self.arena else self.ceiling // self.segment_bytes
        return len(self.spares) + max(0, min(free, (self.limit - self.used) // self.segment_bytes))

    def room_segments(self) -> int:
        """How many segments the limit holds in all, for the policy's shares."""
        return max(1, (self.limit - self.index_bytes - self.reader_bytes) // self.segment_bytes)

    def open_segment(self, queue: Queue, keep: int) -> Segment | None:
        """An empty segment for *queue*, if *keep* more could still be had afterwards. The full one is closed."""
        if self.obtainable() <= keep or not self.reserve():
            return None
        assert self.arena is not None
        number = self.spares.pop() if self.spares else self.take_free()
        self.close_open(queue)
        segment = self.segments[number] = self.opened[queue] = Segment(number, queue, self.clock())
        self.wake()
        return segment

    def close_open(self, queue: Queue) -> None:
        """Close the segment of *queue* that is being filled."""
        segment = self.opened.pop(queue, None)
        if segment is None:
            return
        if segment.live:
            segment.is_closed = True
            self.order.close_segment(queue, segment.number)
        else:
            self.free_segment(segment)

    def free_segment(self, segment: Segment) -> None:
        """What was a segment is spare room now, or the host's again."""
        assert segment.live == 0
        del self.segments[segment.number]
        if len(self.spares) < self.most_spares and self.used <= self.limit:
            self.spares.append(segment.number)
        else:
            self.give_back(segment.number)
        self.freed.notify_all()

    def give_back(self, number: int) -> None:
        """Punch an empty segment out."""
        assert self.arena is not None
        self.arena.punch(number)
        self.arena.free.append(number)
        self.dead_bytes -= self.segment_bytes
        self.used -= self.segment_bytes
        self.ledger.charge(STORE, -self.segment_bytes)

    def take_free(self) -> int:
        """Hold a free segment from now on: its memory is the Store's dead room until something lives there."""
        assert self.arena is not None
        self.dead_bytes += self.segment_bytes
        self.used += self.segment_bytes
        self.ledger.charge(STORE, self.segment_bytes)
        return self.arena.free.pop()

    def charge_index(self, owner: str, size: int) -> None:
        """Add *size* bytes of entries (which may be negative) to *owner*."""
        self.index_bytes += size
        self.used += size
        self.ledger.charge(owner, size)
