"""Making room: pack, sift, drop; and the thread that does it ahead of the puts.

A step takes the segment that the policy names, carries forward what is kept, and frees it. Pages are compressed
outside the Store's lock, so other threads put, get and flush meanwhile; a page lands in its new place only if it
still has its old one, looked up under the lock of the landing (laws 1.2: a flush or a newer put that came in between
wins).

A `Reclaimer` thread keeps a few empty segments ahead, so that no put waits for a codec. Puts that come in a burst may
wait for the thread, a tenth of the time that passes and 50 ms at most; beyond that they are refused (`full`), the
reader goes on at the speed of its source, and a refused page is put again the next time it is read. Where no thread
can be had, and in tests, a put makes room itself.

Locks: `reclaim_lock` first (whoever frees segments), then `lock`. Laws M2, M4–M7.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from queue import Empty, SimpleQueue
from typing import Final

from cleancache import codec as codecs
from cleancache.codec import CODEC_SHIFT, HEADER, HEADER_BYTES, LENGTH_BITS, LENGTH_MASK, RAW, Codec
from cleancache.handle import Handle
from cleancache.policy import DEAD_SHARE, Act, Queue, Verdict, touches_after, verdict
from cleancache.store.arena import Segment
from cleancache.store.core import TOUCH_SHIFT, Core, Evicted

SAMPLES: Final = 4  # pages looked at before a segment is packed
_IDLE_S: Final = 5.0  # how often an idle thread looks whether its Store still exists


def step(core: Core, codec: Codec) -> bool:
    """Reclaim one segment; False if there is none. Cost: at most a segment's pages compressed once, 64 of 64 KiB."""
    try:
        return _step(core, codec)
    except BaseException:
        core.is_broken = True
        raise


def _step(core: Core, codec: Codec) -> bool:
    with core.reclaim_lock:
        with core.lock:
            choice = _choose(core)
            if choice is None:
                return False
            act, queue, segment, victim = choice
            if segment.is_closed:
                core.order.remove(queue, segment.number)
                segment.is_closed = False
        if act is Act.PACK and queue is Queue.SMALL and victim is None and not _pays(core, codec, segment):
            with core.lock:
                if segment.live:
                    _keep_as_it_is(core, segment)
                    return True
        for place in range(len(segment.offsets)):
            _carry(core, codec, act, segment, place, victim)
        with core.lock:
            if segment.live:
                _drop_dangling(core, segment)
            if core.segments.get(segment.number) is segment:
                core.free_segment(segment)
    return True


def _pays(core: Core, codec: Codec, segment: Segment) -> bool:
    """Say whether compressing pays for any of a few pages of *segment*; if not, packing it wins no room."""
    if codec.compress is None or segment.live * 2 < core.segment_bytes:
        return codec.compress is not None
    count = len(segment.offsets)
    for place in {number * (count - 1) // (SAMPLES - 1) for number in range(SAMPLES)}:
        at = segment.offsets[place]
        stored = core.view[at + HEADER_BYTES : at + HEADER_BYTES + segment.raws[place]]
        core.codec_calls += 1
        try:
            if codecs.pays(len(stored), len(codec.compress(stored))):
                return True
        except MemoryError:  # law M13
            return True
    return False


def _keep_as_it_is(core: Core, segment: Segment) -> None:
    """Let a segment of pages that do not compress stand in main, without copying it. Under the lock."""
    segment.queue = Queue.MAIN
    segment.is_closed = True
    core.order.close_segment(Queue.MAIN, segment.number)


def _choose(core: Core) -> tuple[Act, Queue, Segment, str | None] | None:
    """Segment, act and (where shares are kept) the owner that must give way."""
    over = core.ledger.over_share(core.limit)
    if over:
        found = _segment_of(core, over[0])
        if found is not None:
            return Act.SIFT, found.queue, found, over[0]
    dead = core.dead_bytes - len(core.spares) * core.segment_bytes
    if dead * DEAD_SHARE > core.room_segments() * core.segment_bytes:
        emptiest = min((s for s in core.segments.values() if s.is_closed), key=lambda s: s.live, default=None)
        if emptiest is not None and emptiest.live * 2 < core.segment_bytes:
            return Act.PACK, emptiest.queue, emptiest, None
    choice = core.order.choose(core.room_segments())
    if choice is None:
        for queue in list(core.opened):
            core.close_open(queue)
        choice = core.order.choose(core.room_segments())
        if choice is None:
            return None
    act, queue, number = choice
    return act, queue, core.segments[number], None


def _segment_of(core: Core, owner: str) -> Segment | None:
    """The oldest closed segment of which *owner* has a quarter, else the one of which it has most."""
    best: Segment | None = None
    for queue in Queue:
        for number in core.order.segments(queue):
            segment = core.segments[number]
            share = segment.owners.get(owner, 0)
            if share * 4 >= core.segment_bytes:
                return segment
            if share and (best is None or share > best.owners.get(owner, 0)):
                best = segment
    return best


def _holders(core: Core, at: int) -> list[Handle]:
    """The handles that lead to the record at *at*; none if it is dead. Under the lock."""
    shared = core.shared.get(at)
    if shared is not None:
        return list(shared.holders)
    _, _, _, name, page = HEADER.unpack_from(core.view, at)
    handle = Handle(name[:16], name[16:], page)
    return [handle] if core.find(handle) == at else []


def _carry(core: Core, codec: Codec, act: Act, segment: Segment, place: int, victim: str | None) -> None:
    """Keep or drop one record of a segment that is being reclaimed."""
    at = segment.offsets[place]
    with core.lock:
        holders = _holders(core, at)
        if not holders:
            return
        if victim is not None:
            for handle in holders:
                if core.owner_of(handle.pool)[0] == victim:
                    evict(core, handle, at)
            holders = _holders(core, at)
            if not holders:
                return
        touches = core.touches[at >> TOUCH_SHIFT]
        judgement = Verdict.KEEP if victim is not None else verdict(act, segment.queue, touches)
        if judgement is Verdict.DROP:
            for handle in holders:
                core.ghost.add(hash(handle))
                evict(core, handle, at)
            return
        after = touches_after(judgement, touches)
        check, meta, stamp, _, _ = HEADER.unpack_from(core.view, at)
        length = meta & LENGTH_MASK
        if stamp != core.stamp or length != core.locate(at)[2] - HEADER_BYTES:  # damaged; the books know its true size
            _lose(core, holders, at)
            return
        if segment.queue is Queue.MAIN or codec.compress is None:
            header = bytes(core.view[at : at + HEADER_BYTES])
            body = core.view[at + HEADER_BYTES : at + HEADER_BYTES + length]
            _land(core, segment, place, holders, header, body, after)
            return
        stored = core.view[at + HEADER_BYTES : at + HEADER_BYTES + length]
    if meta >> CODEC_SHIFT != RAW or codecs.checksum(stored, meta ^ core.secret) != check:
        with core.lock:
            _lose(core, _holders(core, at), at)
        return
    core.codec_calls += 1
    try:
        packed = codec.compress(stored)
    except MemoryError:  # law M13: the page is kept as it is
        packed = b""
    number, kept = (codec.number, packed) if packed and codecs.pays(length, len(packed)) else (RAW, stored)
    with core.lock:
        if core.find(holders[0]) != at or at in core.shared:  # gone, or more of them, meanwhile
            holders = _holders(core, at)
            if not holders:
                return
        new_meta = codecs.meta_word(number, length, len(kept))
        first = holders[0]
        header = HEADER.pack(
            codecs.checksum(kept, new_meta ^ core.secret), new_meta, core.stamp, first.pool + first.object, first.page
        )
        _land(core, segment, place, holders, header, kept, after)


def _lose(core: Core, holders: list[Handle], at: int) -> None:
    """The record does not verify: its pages are gone (law C10). Under the lock."""
    for handle in holders:
        core.forget(handle, at, "corrupt")


def _land(
    core: Core,
    segment: Segment,
    place: int,
    holders: list[Handle],
    header: bytes,
    stored: codecs.Buffer,
    touches: int,
) -> None:
    """Append the record to main and let its holders lead there; without room they are evicted. Under the lock."""
    at, raw_length, tag = segment.offsets[place], segment.raws[place], segment.tags[place]
    shared = core.shared.get(at)
    owner = core.owner_of(holders[0].pool)[0]
    new = core.append(Queue.MAIN, header, stored, raw_length, tag, owner, keep=0, touches=touches)
    if new is None:
        for handle in holders:
            evict(core, handle, at)
        return
    for handle in holders:
        core.index.move(handle.pool, handle.object, handle.page, new)
    if shared is not None:
        _, _, _, name, page = HEADER.unpack_from(core.view, new)
        shared.name = (name, page)
        core.shared[new] = core.shared.pop(at)
    core.release(at, owner)
    if tag:
        core.remember(tag, new)


def evict(core: Core, handle: Handle, at: int) -> None:
    """The page leaves because its room is needed; the spill hook may take it. Under the lock."""
    if core.spill is not None:
        check, meta, _, _, _ = HEADER.unpack_from(core.view, at)
        stored = bytes(core.view[at + HEADER_BYTES : at + HEADER_BYTES + (meta & LENGTH_MASK)])
        if codecs.checksum(stored, meta ^ core.secret) != check:
            core.forget(handle, at, "corrupt")
            return
        if core.spill(Evicted(handle, meta >> CODEC_SHIFT, meta >> LENGTH_BITS & LENGTH_MASK, stored)):
            core.forget(handle, at, "spilled")
            return
    segment = core.segments[at // core.segment_bytes]
    core.evicted_age = core.clock() - segment.opened_at
    core.forget(handle, at, "evicted")


def _drop_dangling(core: Core, segment: Segment) -> None:
    """Entries that lead into *segment* though no header there names them: a header was damaged. Rare, O(pages)."""
    start = segment.number * core.segment_bytes
    for pool in list(core.pools):
        for obj, page, at in list(core.index.pages(pool)):
            if start <= at < start + core.segment_bytes:
                core.forget(Handle(pool, obj, page), at, "corrupt")


def shrink(core: Core) -> int:
    """Give memory back until the limit holds, without copying and without allocating room; the bytes given back.

    Law M2. Pages go by whole segments in the policy's order. The lock is let go after each segment.
    """
    given = 0
    with core.reclaim_lock:
        while True:
            with core.lock:
                if core.used <= core.limit:
                    return given
                held = len(core.segments) + len(core.spares)
                if core.spares:
                    core.give_back(core.spares.pop())
                elif not drop_quickest(core):
                    return given
                given += (held - len(core.segments) - len(core.spares)) * core.segment_bytes


def drop_quickest(core: Core) -> bool:
    """Evict all pages of the segment whose loss hurts least. Under both locks."""
    choice = core.order.quickest()
    if choice is None:
        for queue in list(core.opened):
            core.close_open(queue)
        choice = core.order.quickest()
        if choice is None:
            return bool(core.spares)
    queue, number = choice
    segment = core.segments[number]
    core.order.remove(queue, number)
    segment.is_closed = False
    for at in segment.offsets:
        for handle in _holders(core, at):
            evict(core, handle, at)
    if segment.live:
        _drop_dangling(core, segment)
    core.free_segment(segment)
    return True


def evict_own(core: Core, owner: str, size: int) -> bool:
    """Drop pages of *owner*, oldest segments first, until *size* bytes fit under its cap. Under the lock.

    Law M5: an owner at its hard cap displaces its own pages. Pages go in place, no codec and no copy. Bounded: two
    segments' worth of records a call.
    """
    looked = 0
    for queue in Queue:
        numbers = [*core.order.segments(queue), *([core.opened[queue].number] if queue in core.opened else [])]
        for number in numbers:
            segment = core.segments.get(number)
            if segment is None or not segment.owners.get(owner):
                continue
            for at in list(segment.offsets):
                for handle in _holders(core, at):
                    if core.owner_of(handle.pool)[0] == owner:
                        evict(core, handle, at)
                if core.ledger.fits(owner, size):
                    return True
            looked += 1
            if looked == 2:
                return False
    return core.ledger.fits(owner, size)


class Reclaimer:
    """A daemon thread that keeps *ahead* empty segments in reserve. It ends with its Store."""

    def __init__(self, core: Core, codec: Codec) -> None:
        self._core = weakref.ref(core)
        self._codec = codec
        self._wake: SimpleQueue[None] = SimpleQueue()  # an Event has a lock that an interrupt or a finaliser can hold
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self.ahead = max(2, min(8, core.room_segments() // 16))

    def start(self) -> bool:
        """Start the thread if it does not run; False if the host allows none. Never under a lock: it waits for the
        thread, in which a finaliser may run first."""
        if self._thread is not None and (self._thread.ident is None or self._thread.is_alive()):
            return True
        self._thread = threading.Thread(target=self._run, name="cleancache-reclaim", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            return False
        return True

    def wake(self) -> None:
        """Tell the thread that room is short. Takes no lock."""
        if self._wake.empty():
            self._wake.put(None)

    def stop(self) -> None:
        """End the thread, after the step it is in."""
        self._is_stopped = True
        self._wake.put(None)
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(1.0)

    def is_due(self, core: Core) -> bool:
        """Say whether fewer empty segments are in reserve than there should be."""
        return core.obtainable() < self.ahead

    def _run(self) -> None:
        while not self._is_stopped:
            with contextlib.suppress(Empty):
                self._wake.get(timeout=_IDLE_S)
            core = self._core()
            if core is None:
                return
            with contextlib.suppress(MemoryError):  # law M13: the next put mends the books
                while not self._is_stopped and self.is_due(core) and step(core, self._codec):
                    pass
                self._populate(core)
            del core

    def _populate(self, core: Core) -> None:
        """Touch the next segment ahead of the puts, while there is room: a first touch costs several copies."""
        with core.reclaim_lock:
            with core.lock:
                arena = core.arena
                if arena is None or core.spares or not arena.free or core.obtainable() < 3:
                    return
                number = core.take_free()
            arena.populate(number)
            with core.lock:
                core.spares.append(number)
