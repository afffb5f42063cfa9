"""The records of one Store, and the few moves that change them: find, append, release, enter, forget, share.

Dedup (laws M8–M10): a table of fixed size leads from the contents' tag to a candidate record; the bytes are always
compared. The tag is the record's checksum, which is keyed with a secret of this Store's life, and salted for each
trust domain, so that pages of two domains never meet. A record that several handles share has a `Shared` beside it:
the holders, oldest first. The oldest pays; when it goes, the next one inherits.

Every method here runs under `lock`, but `read`.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from typing import Final

from xxhash import xxh3_64_intdigest

from cleancache import codec as codecs
from cleancache.codec import CODEC_SHIFT, HEADER, HEADER_BYTES, LENGTH_BITS, LENGTH_MASK, RAW
from cleancache.handle import Handle, pool_text
from cleancache.ledger import STORE
from cleancache.policy import Queue
from cleancache.store.arena import Segment
from cleancache.store.books import TOUCH_SHIFT, Books, Evicted, Shared, Spill, so_far

__all__ = ["HOLDER_COST", "TOUCH_SHIFT", "Core", "Evicted", "Shared", "Spill", "so_far"]

HOLDER_COST: Final = 448  # one holder of shared contents
MOST_HOLDERS: Final = 256  # of one record: they leave together, under one hold of the lock


class Core(Books):
    """Books, and the records they are about."""

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
        if shared is not None and len(shared.holders) >= MOST_HOLDERS:
            return None
        if stamp != self.stamp or self.find(holder) != at or self.owner_of(holder.pool)[2] != domain:
            return None
        if (meta >> LENGTH_BITS & LENGTH_MASK) != len(data):
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
        raw_length = meta >> LENGTH_BITS & LENGTH_MASK
        start = at + HEADER_BYTES
        if stamp != self.stamp or raw_length > self.max_page_bytes:
            return None
        if meta >> CODEC_SHIFT == RAW:
            body = bytes(view[start : start + stored])
            return body if xxh3_64_intdigest(body, meta ^ self.secret) == check and stored == raw_length else None
        part = view[start : start + stored]
        opened = codecs.decompress(meta >> CODEC_SHIFT, part, raw_length)
        return opened if xxh3_64_intdigest(part, meta ^ self.secret) == check else None

    def is_shared_as(self, at: int, found: bytes, number: int, name: bytes, page: int) -> bool:
        """Say whether the record under *found* is shared and *name* is one of its holders."""
        shared = self.shared.get(at)
        return (
            shared is not None
            and shared.name == (found, number)
            and Handle(name[:16], name[16:], page) in shared.holders
        )
