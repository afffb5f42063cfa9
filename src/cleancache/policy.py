"""Which segment is reclaimed next, and which of its pages are kept: S3-FIFO, with segments in the place of pages.

Theory. Most pages of a cold read are wanted once. New pages enter a *small* queue of a sixth of the room; what is
touched there again before its turn comes moves to *main*, the rest is dropped and its name is remembered in a *ghost*
table; a page whose name is there when it comes again counts as wanted from the start. In *main* a touched page goes
round once more for each touch (at most three). So a page read once never displaces one read twice, and a second
access admits (law M4, wish W6: one order, whatever pool or client).

Where this leaves the published algorithm, and why:
- The unit of motion is a segment, since memory is given back by whole segments: appending, copying forward what is
  wanted and dropping the rest is all there is. Each copy forward was paid for by an earlier touch, so eviction is
  amortised O(1).
- *Compress what is kept, not what is put.* Pages arrive raw, in the small queue. As long as it is longer than its
  share, room is made by *packing* its oldest segment: all its pages are compressed and kept in main, wanted or not,
  with their touches. Only when main has all the rest of the room does the order above decide; then what was read once
  leaves raw and is never compressed. A segment whose pages do not compress goes to main as it is. (Packed pages first
  stayed in the small queue: a stream was packed page by page only to be dropped, and loops larger than the room had
  no hits at all; bench/policy_sim.py.)
- A page from the ghost table enters the small queue with one touch, instead of entering main: it is still raw, and no
  put waits for a codec.

Pure: no clock, no lock, no I/O, no memory of pages; a simulator runs it alone (bench/policy_sim.py).
"""

from __future__ import annotations

from array import array
from collections import deque
from enum import Enum
from typing import Final

MAX_TOUCHES: Final = 3  # S3-FIFO counts to three
SMALL_SHARE: Final = 6  # the small queue's part of the room; a tenth loses where hot sets move on (bench/policy_sim.py)
PACK_SLACK: Final = 2  # packing begins this many segments above the share and ends at it, so that it does not flutter
DEAD_SHARE: Final = 8  # room is won from segments that are mostly dead once 1/8 of it is dead


class Queue(Enum):
    """Where a segment stands: new pages, as they came; pages that are kept, packed."""

    SMALL = "small"
    MAIN = "main"


class Act(Enum):
    """What to do with a segment: compress and keep all its pages, or let the order decide on each."""

    PACK = "pack"
    SIFT = "sift"


class Verdict(Enum):
    """What happens to one page of a segment that is reclaimed; what is not dropped is copied forward in main."""

    KEEP = "keep"  # touches kept
    PROMOTE = "promote"  # touches forgotten
    AGAIN = "again"  # one touch less
    DROP = "drop"


class Order:
    """The two queues of closed segments, oldest first.

    Threads: none; the Store calls it under its lock. Cost: O(1) a call, but `remove`, O(segments).
    """

    def __init__(self) -> None:
        self._queues: dict[Queue, deque[int]] = {queue: deque() for queue in Queue}
        self._is_packing = False

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def close_segment(self, queue: Queue, segment: int) -> None:
        """Append a full segment to *queue*."""
        self._queues[queue].append(segment)

    def remove(self, queue: Queue, segment: int) -> None:
        """Take a segment out, wherever it stands in *queue*."""
        self._queues[queue].remove(segment)

    def segments(self, queue: Queue) -> tuple[int, ...]:
        """The closed segments of *queue*, oldest first."""
        return tuple(self._queues[queue])

    def choose(self, room_segments: int) -> tuple[Act, Queue, int] | None:
        """The next segment to reclaim when *room_segments* is all the room there is; None when nothing is closed."""
        small, main = (self._queues[queue] for queue in Queue)
        share = max(1, room_segments // SMALL_SHARE)
        if len(small) <= share:
            self._is_packing = False
        elif len(small) >= share + PACK_SLACK:
            self._is_packing = True
        if self._is_packing:
            return Act.PACK, Queue.SMALL, small[0]
        if small and (len(small) >= share or not main):
            return Act.SIFT, Queue.SMALL, small[0]
        return (Act.SIFT, Queue.MAIN, main[0]) if main else None

    def quickest(self) -> tuple[Queue, int] | None:
        """The segment whose loss hurts least, for a limit that must fall at once: oldest of small, then of main."""
        for queue in Queue:
            if self._queues[queue]:
                return queue, self._queues[queue][0]
        return None


def verdict(act: Act, queue: Queue, touches: int) -> Verdict:
    """What to do with a page that was touched *touches* times since it came or was last looked at.

    >>> verdict(Act.SIFT, Queue.SMALL, 0), verdict(Act.SIFT, Queue.SMALL, 1), verdict(Act.SIFT, Queue.MAIN, 1)
    (<Verdict.DROP: 'drop'>, <Verdict.PROMOTE: 'promote'>, <Verdict.AGAIN: 'again'>)
    """
    if act is Act.PACK:
        return Verdict.KEEP
    if not touches:
        return Verdict.DROP
    return Verdict.AGAIN if queue is Queue.MAIN else Verdict.PROMOTE


def touches_after(judgement: Verdict, touches: int) -> int:
    """The touch byte of a page that is copied forward."""
    if judgement is Verdict.KEEP:
        return min(touches, MAX_TOUCHES)
    return max(0, min(touches, MAX_TOUCHES) - 1) if judgement is Verdict.AGAIN else 0


class Ghost:
    """The names of pages that the order dropped, in a table of fixed size.

    A slot holds half of a name's hash and the time it was written, where time is the number of names written: a name
    is remembered for as many evictions as there are slots. A collision forgets the older name; a false match (1 in
    2³² a look) admits a page too early.

    >>> ghost = Ghost(16)
    >>> ghost.add(hash("a"))
    >>> ghost.take(hash("a")), ghost.take(hash("a"))
    (True, False)
    """

    def __init__(self, slots: int) -> None:
        self._mask = (1 << max(4, (slots - 1).bit_length())) - 1
        self._slots = array("Q", bytes(8 * (self._mask + 1)))
        self._time = 0

    @property
    def nbytes(self) -> int:
        """The size of the table, for the ledger."""
        return 8 * (self._mask + 1)

    def add(self, name_hash: int) -> None:
        """Remember a name."""
        self._time = (self._time + 1) & 0xFFFF_FFFF
        self._slots[name_hash & self._mask] = (name_hash >> 8 & 0xFFFF_FFFF) << 32 | self._time

    def take(self, name_hash: int) -> bool:
        """Say whether the name is remembered, and forget it."""
        slot = self._slots[name_hash & self._mask]
        if not slot or slot >> 32 != name_hash >> 8 & 0xFFFF_FFFF:
            return False
        self._slots[name_hash & self._mask] = 0
        return (self._time - slot) & 0xFFFF_FFFF <= self._mask
