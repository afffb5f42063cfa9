"""A back end that raises, gives what is no answer, or gives pages of other lengths."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cleancache.backend import Stats
from cleancache.handle import Handle, Scope
from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.registry import Registry
from cleancache.tally import Account
from tests.reading.sources import DictSource


class Unruly:
    """Does what it likes, but never gives other bytes of the right length. *chance* says what."""

    deadline_s = None

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._pages: dict[Handle, bytes] = {}

    def _answer(self, right: Any, *wrong: Any) -> Any:
        picked = self._chance.randrange(2 * len(wrong))
        if picked >= len(wrong):
            return right
        if isinstance(wrong[picked], Exception):
            raise wrong[picked]
        return wrong[picked]

    def put(self, handle: Handle, data: Any) -> Any:
        self._pages[handle] = bytes(data)
        return self._answer(True, OSError("put"), 1, None, StopIteration())

    def get(self, handle: Handle) -> Any:
        page = self._pages.get(handle)
        return self._answer(page, OSError("get"), b"", (page or b"") + b"long", bytearray(page or b""), "text", 7)

    def get_into(self, handle: Handle, into: memoryview) -> Any:
        page = self._pages.get(handle)
        into[:] = bytes(len(into))
        right = 0
        if page is not None and len(page) == len(into):
            wrong = self._answer(None, OSError("into"), len(into) + 5, -3, True, 0)
            if wrong is not None:
                return wrong
            into[:], right = page, len(page)
        return right

    def flush(self, scope: Scope) -> Any:
        self._pages = {handle: page for handle, page in self._pages.items() if not scope.covers(handle)}
        return self._answer(True, OSError("flush"), None, False, "yes")

    def stats(self) -> Any:
        return self._answer(Stats(), OSError("stats"), None, 7)

    def close(self) -> None:
        raise OSError("close")


@pytest.mark.expects_logs
def test_W1_C9_a_back_end_that_answers_anything_never_fails_or_spoils_a_read() -> None:
    chance = random.Random(7)
    registry = Registry(group=None)
    registry.register("unruly", lambda _: Unruly(chance))
    slot = registry.connect("unruly")
    source = DictSource({"name": chance.randbytes(60_001)})
    truth = source.contents["name"]
    reader = Reader(source, Pool(slot), page_size=4096, readahead=0)
    buffer = bytearray(20_000)

    for turn in range(400):
        start = chance.randrange(60_000)
        stop = start + chance.randrange(20_000)
        assert reader.fetch("name", start, stop) == truth[start:stop]
        size = reader.readinto(reader.open("name"), start, memoryview(buffer))
        assert buffer[:size] == truth[start : start + 20_000]
        if turn % 10 == 0:
            reader.flush("name")
            slot.stats()
        if turn % 50 == 0:
            registry.unregister("unruly")
            registry.register("unruly", lambda _: Unruly(chance))
    stats = slot.stats()
    registry.close()

    assert stats.hits, "the cache was never used"
    assert stats.gets == stats.hits + sum(stats.misses.values())


def test_N1_R2_a_put_of_unknown_outcome_is_counted_once_however_busy_the_tier_was_when_asked() -> None:
    account = Account()
    account.puts.step()
    account.unknown.step("down")  # the tier kept the page, then raised
    account.gets.step()  # another call is under way

    def sums() -> tuple[int, int]:
        stats = account.stats(lambda: Stats(puts=1, stored=1))
        return stats.puts, stats.stored + stats.replaced + sum(stats.refused.values())

    assert sums() in ((1, 0), (1, 1))
    account.nothing.step()
    assert sums() == (1, 1)
