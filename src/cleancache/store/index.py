"""From a handle to the place of its record: pool → object → page, so that a flush costs its scope and nothing more.

The pages of an object are an array while they are dense, which they are when files are read from the front or whole:
item 0 counts the pages, item p + 1 holds the place of page p plus one, 0 is absent. One item is 8 bytes and one line
of memory, where a dictionary entry is 140 bytes and four lines (bench/ store.py: a tenth of a raw hit of 64 KiB). An
object whose pages lie far apart becomes a dictionary {page + 1: place + 1}, with the count under 0.

Every entry has a price that is charged to the owner of the pool: `price` says what an object costs now, and the
caller charges the difference. No lock here: writers hold the Store's lock; `find` may run without it, since each of
its steps is one look-up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final, TypeAlias

POOL_PRICE: Final = 512  # a dictionary of objects, its slot, the owner's entry
OBJECT_PRICE: Final = 352  # a slot, the 24 bytes, the head of an array
RECORD_PRICE: Final = 24  # three items in the lists of the record's segment
DENSE_PRICE: Final = 9  # an item of the array, with the room it grows into
SPARSE_PRICE: Final = 176  # a slot and two numbers
_SLACK: Final = 64  # an array may be twice as long as its pages, and this much

Pages: TypeAlias = "array[int] | dict[int, int]"


def price(pages: Pages | None) -> int:
    """What an object with these pages costs, in bytes of index."""
    if pages is None:
        return 0
    if type(pages) is dict:
        return OBJECT_PRICE + SPARSE_PRICE * len(pages) + RECORD_PRICE * pages[0]
    return OBJECT_PRICE + DENSE_PRICE * len(pages) + RECORD_PRICE * pages[0]


class Index:
    """Pool → object → page → place. Threads: see above.

    >>> index = Index()
    >>> index.enter(b"p", b"o", 3, 4096), index.find(b"p", b"o", 3), index.find(b"p", b"o", 2)
    (933, 4096, None)
    """

    def __init__(self) -> None:
        self.pools: dict[bytes, dict[bytes, Pages]] = {}

    def find(self, pool: bytes, obj: bytes, page: int) -> int | None:
        """The place of a page, or None. Raises TypeError for fields that cannot be names."""
        objects = self.pools.get(pool)
        pages = None if objects is None else objects.get(obj)
        if pages is None:
            return None
        if type(pages) is dict:
            place = pages.get(page + 1, 0) if page >= 0 else 0
        else:
            place = pages[page + 1] if 0 <= page < len(pages) - 1 else 0
        return place - 1 if place else None

    def quote(self, pool: bytes, obj: bytes, page: int) -> int:
        """The most that `enter` of this page will cost, whatever it makes of the object."""
        objects = self.pools.get(pool)
        pages = None if objects is None else objects.get(obj)
        cost = (POOL_PRICE if objects is None else 0) + (OBJECT_PRICE if pages is None else 0) + RECORD_PRICE
        if pages is None:
            return cost + (DENSE_PRICE * (page + 2) if page <= _SLACK else 2 * SPARSE_PRICE)
        if type(pages) is dict:
            return cost + SPARSE_PRICE
        if page <= 2 * pages[0] + _SLACK:
            return cost + DENSE_PRICE * max(0, page + 2 - len(pages))
        return cost + SPARSE_PRICE * (pages[0] + 2)

    def enter(self, pool: bytes, obj: bytes, page: int, place: int) -> int:
        """Let a page lead to *place*; the change of price."""
        cost = 0
        objects = self.pools.get(pool)
        if objects is None:
            objects = self.pools[pool] = {}
            cost = POOL_PRICE
        pages = objects.get(obj)
        if pages is not None and type(pages) is not dict and page < len(pages) - 1:
            if pages[page + 1] == 0:
                pages[0] += 1
                cost = RECORD_PRICE
            pages[page + 1] = place + 1
            return cost
        before = price(pages)
        grown: Pages = array("Q", (0,)) if pages is None else pages
        if not isinstance(grown, dict):
            if page <= 2 * grown[0] + _SLACK:
                grown.extend([0] * (page + 2 - len(grown)))
            else:
                grown = {number: at for number, at in enumerate(grown) if at or not number}
        if not (grown.get(page + 1) if isinstance(grown, dict) else grown[page + 1]):
            grown[0] += 1
        grown[page + 1] = place + 1
        objects[obj] = grown
        return cost + price(grown) - before

    def move(self, pool: bytes, obj: bytes, page: int, place: int) -> None:
        """Let a page that is there lead to another place; the price stays."""
        self.pools[pool][obj][page + 1] = place + 1

    def leave(self, pool: bytes, obj: bytes, page: int) -> int:
        """Take a page out, with the object and the pool that it empties; the change of price."""
        objects = self.pools[pool]
        pages = objects[obj]
        if pages[0] == 1:
            cost = -price(pages)
            del objects[obj]
            if not objects:
                del self.pools[pool]
                cost -= POOL_PRICE
            return cost
        pages[0] -= 1
        if type(pages) is dict:
            del pages[page + 1]
            return -SPARSE_PRICE - RECORD_PRICE
        pages[page + 1] = 0
        return -RECORD_PRICE

    def count(self, pool: bytes, obj: bytes | None) -> int:
        """How many pages an object, or a pool, has."""
        objects = self.pools.get(pool, {})
        if obj is None:
            return sum(pages[0] for pages in objects.values())
        return objects[obj][0] if obj in objects else 0

    def pages(self, pool: bytes, obj: bytes | None = None) -> Iterator[tuple[bytes, int, int]]:
        """Object, page and place of all pages of an object, or of a pool. Do not change the index meanwhile."""
        objects = self.pools.get(pool, {})
        for name in objects if obj is None else [obj] if obj in objects else []:
            pages = objects[name]
            items = pages.items() if type(pages) is dict else enumerate(pages)
            for number, place in items:
                if number and place:
                    yield name, number - 1, place - 1
