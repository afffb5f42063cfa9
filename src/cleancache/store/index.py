"""From a handle to the place of its record: pool → object → page, so that a flush costs its scope and nothing more.

The pages of an object are an array as far as they are dense, which they are when a file is read from the front or
whole: item p holds the place of page p plus one, 0 is absent. An item is 8 bytes and one line of memory, where a
dictionary's entry is 140 bytes and four lines (a tenth of a raw hit of 64 KiB). Pages that lie far beyond the others
go to a dictionary beside the array.

Every entry has a price that is charged to the owner of the pool: what `enter` and `leave` return.
No lock here: writers hold the Store's lock; `find` may run without it, since each of its steps is one look-up.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

POOL_PRICE: Final = 600  # a dictionary of objects, its slot, the owner's entry
OBJECT_PRICE: Final = 416  # a slot, the 24 bytes, `Pages`, the head of an array
RECORD_PRICE: Final = 24  # three items in the lists of the record's segment
DENSE_PRICE: Final = 9  # an item of the array, with the room it grows into
FAR_PRICE: Final = 176  # a slot and two numbers
_SLACK: Final = 64  # an array may be twice as long as its pages, and this much


class Pages:
    """The pages of one object."""

    __slots__ = ("count", "dense", "far")

    def __init__(self) -> None:
        self.count = 0
        self.dense = array("Q")
        self.far: dict[int, int] = {}


class Index:
    """Pool → object → page → place. Threads: see above.

    >>> index = Index()
    >>> index.enter(b"p", b"o", 3, 4096), index.find(b"p", b"o", 3), index.find(b"p", b"o", 2)
    (1076, 4096, None)
    """

    def __init__(self) -> None:
        self.pools: dict[bytes, dict[bytes, Pages]] = {}

    def find(self, pool: bytes, obj: bytes, page: int) -> int | None:
        """The place of a page, or None."""
        objects = self.pools.get(pool)
        pages = None if objects is None else objects.get(obj)
        if pages is None:
            return None
        dense = pages.dense
        place = dense[page] if 0 <= page < len(dense) else 0
        if not place:
            place = pages.far.get(page, 0)
        return place - 1 if place else None

    def quote(self, pool: bytes, obj: bytes, page: int) -> int:
        """What `enter` of this page will cost."""
        objects = self.pools.get(pool)
        pages = None if objects is None else objects.get(obj)
        cost = (POOL_PRICE if objects is None else 0) + (OBJECT_PRICE if pages is None else 0)
        dense = 0 if pages is None else len(pages.dense)
        if page < dense:
            return cost + RECORD_PRICE
        if page <= 2 * (0 if pages is None else pages.count) + _SLACK:
            return cost + RECORD_PRICE + DENSE_PRICE * (page + 1 - dense)
        return cost + RECORD_PRICE + FAR_PRICE

    def dearest(self, resident: int) -> int:
        """More than any `enter` can cost while *resident* pages are here: cheaper to ask than `quote`."""
        return 18 * resident + 4096

    def enter(self, pool: bytes, obj: bytes, page: int, place: int) -> int:
        """Let a page lead to *place*; the change of price."""
        cost = 0
        objects = self.pools.get(pool)
        if objects is None:
            objects = self.pools[pool] = {}
            cost = POOL_PRICE
        pages = objects.get(obj)
        if pages is None:
            pages = objects[obj] = Pages()
            cost += OBJECT_PRICE
        dense = pages.dense
        if pages.far and page in pages.far:
            pages.far[page] = place + 1
            return cost
        if page < len(dense):
            if not dense[page]:
                pages.count += 1
                cost += RECORD_PRICE
            dense[page] = place + 1
            return cost
        cost += RECORD_PRICE
        if page <= 2 * pages.count + _SLACK:
            cost += DENSE_PRICE * (page + 1 - len(dense))
            dense.extend([0] * (page - len(dense)))
            dense.append(place + 1)
        else:
            cost += FAR_PRICE
            pages.far[page] = place + 1
        pages.count += 1
        return cost

    def move(self, pool: bytes, obj: bytes, page: int, place: int) -> None:
        """Let a page that is there lead to another place; the price stays."""
        pages = self.pools[pool][obj]
        if page in pages.far:
            pages.far[page] = place + 1
        else:
            pages.dense[page] = place + 1

    def leave(self, pool: bytes, obj: bytes, page: int) -> int:
        """Take a page out, with the object and the pool that it empties; the change of price."""
        objects = self.pools[pool]
        pages = objects[obj]
        cost = RECORD_PRICE
        if page in pages.far:
            del pages.far[page]
            cost += FAR_PRICE
        else:
            pages.dense[page] = 0
        pages.count -= 1
        if not pages.count:
            cost += OBJECT_PRICE + DENSE_PRICE * len(pages.dense)
            del objects[obj]
            if not objects:
                del self.pools[pool]
                cost += POOL_PRICE
        return -cost

    def count(self, pool: bytes, obj: bytes | None) -> int:
        """How many pages an object, or a pool, has."""
        objects = self.pools.get(pool, {})
        if obj is None:
            return sum(pages.count for pages in objects.values())
        return objects[obj].count if obj in objects else 0

    def pages(self, pool: bytes, obj: bytes | None = None) -> Iterator[tuple[bytes, int, int]]:
        """Object, page and place of all pages of an object, or of a pool. Do not change the index meanwhile."""
        objects = self.pools.get(pool, {})
        for name in objects if obj is None else [obj] if obj in objects else []:
            for page, place in enumerate(objects[name].dense):
                if place:
                    yield name, page, place - 1
            for page, place in objects[name].far.items():
                yield name, page, place - 1
