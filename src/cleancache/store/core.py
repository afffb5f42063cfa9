"""What a Store knows about its pages, and the few moves that change it: find, append, place, forget.

Index: pool → object → page → offset of the record in the arena, plain dictionaries, so that a flush costs its scope
and nothing more. All a page costs besides its record is charged by constants measured with bench/store.py.

Dedup (laws M8–M10): a table of fixed size leads from the contents' tag to a candidate record; the bytes
are always compared. A record that several handles share has a `Shared` beside it: the holders, oldest first. The
oldest pays; when it goes, the next one inherits. Each trust domain has its own keyed hash, so that pages of two
domains never meet.

Accounts: `pages` (records that live), `index` (tables and entries), `dead` (held room that holds nothing that lives),
`reader` (what the process's Readers may keep raw). Their sum is the Ledger's, to the byte, after every call (R4).
Every method here runs under `lock`.
"""

from __future__ import annotations

import secrets
import struct
import threading
from array import array
from bisect import bisect_left
from collections.abc import Callable
from itertools import count
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from cleancache import codec as codecs
from cleancache.codec import HEADER, HEADER_BYTES, LENGTH_MASK, RAW
from cleancache.handle import Handle, pool_text
from cleancache.ledger import STORE, Ledger
from cleancache.policy import Ghost, Order, Queue
from cleancache.store.arena import Arena, Segment, segment_size
from cleancache.store.index import Index

HOLDER_COST: Final = 320  # one holder of shared contents
FIXED_COST: Final = 32 << 10  # the Store, its segments' lists and its counters
TOUCH_SHIFT: Final = (
    10  # records that begin in the same KiB share a touch count; only an object's last page is so short
)
LEAST_SLOT_BYTES: Final = 4096  # the tables have a slot for each page of this size


def so_far(counter: count[int]) -> int:
    """How often `next` was called on *counter*: exact without a lock, since `next` is one step and `+= 1` three."""
    value: object = counter.__reduce__()[1][0]
    assert isinstance(value, int)
    return value


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


class Core:
    """The state of one Store. Lock: `lock` guards everything here; it is held for one copy or one page's books, never
    across I/O or a codec that compresses."""

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
        self.segment_bytes = segment_bytes or segment_size(limit_bytes)
        self.max_page_bytes = min(1 << 20, self.segment_bytes - HEADER_BYTES)
        self.reader_bytes = reader_bytes
        self.spill = spill
        self.wake: Callable[[], object] = lambda: None  # told whenever a segment was opened: room may be short
        self.clock = clock
        self.owners: dict[bytes, tuple[str, int, str]] = {}
        self.adopted: set[bytes] = (
            set()
        )  # pools in `owners` that nobody enrolled; they are forgotten with their last page
        self.ledger = Ledger()
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
        self.index_bytes = self.reader_bytes = 0

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
        if len(self.spares) < 2 and self.used <= self.limit:
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

    # --- records ----------------------------------------------------------------------------------

    def find(self, handle: Handle) -> int | None:
        """The place of the record that *handle* has."""
        return self.index.find(handle[0], handle[1], handle[2])

    def owner_of(self, pool: bytes) -> tuple[str, int, str]:
        """Owner, salt of the content tags, and trust domain of a pool."""
        entry = self.owners.get(pool)
        if entry is None:
            entry = self.owners[pool] = (pool_text(pool), 0, "")
            self.adopted.add(pool)
        return entry

    def append(
        self,
        queue: Queue,
        header: bytes,
        stored: codecs.Buffer,
        raw_length: int,
        tag: int,
        owner: str,
        keep: int,
        touches: int = 0,
    ) -> int | None:
        """Write a record; None if there is no room. The charge goes from the Store to *owner*."""
        size = HEADER_BYTES + len(stored)
        segment = self.opened.get(queue)
        if segment is None or segment.filled + size > self.segment_bytes:
            segment = self.open_segment(queue, keep)
            if segment is None:
                return None
        at = segment.number * self.segment_bytes + segment.filled
        self.view[at + HEADER_BYTES : at + size] = stored
        self.view[at : at + HEADER_BYTES] = header
        segment.offsets.append(at)
        segment.raws.append(raw_length)
        segment.tags.append(tag)
        self.touches[at >> TOUCH_SHIFT] = touches
        segment.filled += size
        segment.live += size
        segment.owners[owner] = segment.owners.get(owner, 0) + size
        self.pages_bytes += size
        self.dead_bytes -= size
        charges = self.ledger.charges
        charges[STORE] -= size
        charges[owner] += size
        self.unique += raw_length
        return at

    def locate(self, at: int) -> tuple[Segment, int, int]:
        """Segment, position and size of the record at *at*, from the books, never from the arena's bytes."""
        segment = self.segments[at // self.segment_bytes]
        place = bisect_left(segment.offsets, at)
        end = (
            segment.offsets[place + 1]
            if place + 1 < len(segment.offsets)
            else segment.number * self.segment_bytes + segment.filled
        )
        return segment, place, end - at

    def release(self, at: int, owner: str) -> None:
        """The record at *at* is nobody's any more: its room is dead."""
        segment, place, size = self.locate(at)
        segment.live -= size
        segment.owners[owner] -= size
        self.pages_bytes -= size
        self.dead_bytes += size
        self.ledger.move(owner, STORE, size)
        self.unique -= segment.raws[place]
        if segment.live == 0 and segment.is_closed:
            self.order.remove(segment.queue, segment.number)
            self.free_segment(segment)

    def enter(self, handle: Handle, at: int, owner: str) -> None:
        """Let *handle* lead to the record at *at*; what the index grows by is charged to *owner*."""
        cost = self.index.enter(handle[0], handle[1], handle[2], at)
        if cost:
            self.charge_index(owner, cost)

    def leave(self, handle: Handle, owner: str) -> None:
        """Take the entry of *handle* out of the index."""
        self.charge_index(owner, self.index.leave(handle[0], handle[1], handle[2]))
        if handle[0] in self.adopted and handle[0] not in self.pools:
            self.adopted.discard(handle[0])
            del self.owners[handle[0]]

    def forget(self, handle: Handle, at: int, reason: str) -> None:
        """The page of *handle*, whose record is at *at*, leaves for *reason*, unless it went with another holder."""
        if self.find(handle) != at:
            return
        owner = self.owner_of(handle.pool)[0]
        segment, place, _ = self.locate(at)
        self.logical -= segment.raws[place]
        self.leave(handle, owner)
        self.unhold(handle, at, owner)
        self.resident -= 1
        self.left[reason] = self.left.get(reason, 0) + 1

    def unhold(self, handle: Handle, at: int, owner: str) -> None:
        """*handle* needs the record at *at* no more: the next holder inherits it, or it is released."""
        shared = self.shared.get(at)
        if shared is None:
            self.release(at, owner)
            return
        payer = next(iter(shared.holders))
        del shared.holders[handle]
        self.charge_index(owner, -HOLDER_COST)
        if not shared.holders:
            del self.shared[at]
            self.release(at, owner)
        elif payer == handle:
            self.inherit(at, owner)

    def inherit(self, at: int, payer: str) -> None:
        """Charge the record at *at* to its oldest holder that may have it; holders at their cap lose their page
        instead."""
        segment, _, size = self.locate(at)
        shared = self.shared[at]
        while shared.holders:
            holder = next(iter(shared.holders))
            heir = self.owner_of(holder.pool)[0]
            if heir == payer or self.ledger.fits(heir, size):
                segment.owners[payer] -= size
                segment.owners[heir] = segment.owners.get(heir, 0) + size
                self.ledger.move(payer, heir, size)
                return
            self.leave(holder, heir)
            del shared.holders[holder]
            self.charge_index(heir, -HOLDER_COST)
            self.logical -= segment.raws[self.locate(at)[1]]
            self.resident -= 1
            self.left["evicted"] = self.left.get("evicted", 0) + 1
        del self.shared[at]
        self.release(at, payer)

    # --- contents ---------------------------------------------------------------------------------

    def remember(self, tag: int, at: int) -> None:
        """Let the contents of *tag* be found at *at*."""
        self.tags[tag & self.tag_mask] = (tag >> 40) << 40 | at + 1

    def twin(self, tag: int, data: codecs.Buffer, domain: str) -> int | None:
        """A record that lives and has these very bytes, in the same trust domain."""
        slot = self.tags[tag & self.tag_mask]
        if not slot or slot >> 40 != tag >> 40:
            return None
        at = (slot & (1 << 40) - 1) - 1
        segment = self.segments.get(at // self.segment_bytes)
        if segment is None:
            return None
        place = bisect_left(segment.offsets, at)
        if place == len(segment.offsets) or segment.offsets[place] != at or segment.tags[place] != tag:
            return None
        _, meta, stamp, name, page = HEADER.unpack_from(self.view, at)
        shared = self.shared.get(at)
        holder = next(iter(shared.holders)) if shared else Handle(name[:16], name[16:], page)
        if stamp != self.stamp or self.find(holder) != at or self.owner_of(holder.pool)[2] != domain:
            return None
        if (meta >> codecs.LENGTH_BITS & LENGTH_MASK) != len(data):
            return None
        if shared is None and not self.ledger.fits(self.owner_of(holder.pool)[0], HOLDER_COST):
            return None  # becoming a holder has a price, and the owner of that page is at its cap
        page_bytes = self.read(at, name, page)
        return at if page_bytes == (data if isinstance(data, bytes) else bytes(data)) else None

    def share(self, handle: Handle, at: int, owner: str) -> None:
        """Make *handle* a holder of the record at *at* (which has one already)."""
        shared = self.shared.get(at)
        if shared is None:
            _, _, _, name, page = HEADER.unpack_from(self.view, at)
            first = Handle(name[:16], name[16:], page)
            shared = self.shared[at] = Shared(first)
            self.charge_index(self.owner_of(first.pool)[0], HOLDER_COST)
        shared.holders[handle] = None
        self.charge_index(owner, HOLDER_COST)

    def read(self, at: int, name: bytes, page: int) -> bytes | None:
        """The page in the record at *at*, if every field and the checksum agree; else None.

        May run without the lock: what is returned was copied first and checked afterwards, so a segment that is
        rewritten meanwhile shows as a difference. Cost: one copy and one xxh3, or the codec and one xxh3.
        """
        view = self.view
        try:
            check, meta, stamp, found, number = HEADER.unpack_from(view, at)
        except struct.error:  # closed meanwhile
            return None
        if (found != name or number != page) and not self.is_shared_as(at, found, number, name, page):
            return None
        stored = meta & LENGTH_MASK
        raw_length = meta >> 24 & LENGTH_MASK
        start = at + HEADER_BYTES
        if stamp != self.stamp or raw_length > self.max_page_bytes:
            return None
        if meta >> 48 == RAW:
            body = bytes(view[start : start + stored])
            return body if xxh3_64_intdigest(body, meta ^ self.secret) == check and stored == raw_length else None
        part = view[start : start + stored]
        opened = codecs.decompress(meta >> 48, part, raw_length)
        return opened if xxh3_64_intdigest(part, meta ^ self.secret) == check else None

    def is_shared_as(self, at: int, found: bytes, number: int, name: bytes, page: int) -> bool:
        """Say whether the record under *found* is shared and *name* is one of its holders."""
        shared = self.shared.get(at)
        return (
            shared is not None
            and shared.name == (found, number)
            and Handle(name[:16], name[16:], page) in shared.holders
        )
