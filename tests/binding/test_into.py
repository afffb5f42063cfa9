"""`get_into`: a get whose page goes into the caller's buffer; slot, guard and pool count it as any other."""

from __future__ import annotations

import pytest

from cleancache.backend import Stats
from cleancache.guard import Guard
from cleancache.handle import Handle, Scope
from cleancache.pool import Pool
from cleancache.store import Store
from tests.binding.dicts import Dict

OBJECT = bytes(24)
PAGE = bytes(range(256)) * 16


class Stubborn(Dict):
    """`get_into` raises, or answers what is no length."""

    answer: object = None

    def get_into(self, handle: Handle, into: memoryview) -> int:
        if isinstance(self.answer, Exception):
            into[:3] = b"???"
            raise self.answer
        return self.answer  # type: ignore[return-value]  # the fault


def sums(stats: Stats) -> tuple[int, int, dict[str, int]]:
    return stats.gets, stats.hits, {reason: number for reason, number in stats.misses.items() if number}


@pytest.mark.parametrize("has_one", [True, False], ids=["a tier with get_into", "a tier without"])
def test_N2_a_page_that_is_copied_into_a_buffer_counts_as_any_hit(has_one: bool) -> None:
    tier = Store(1 << 22) if has_one else Dict()
    guard = Guard(tier)
    pool = Pool(guard)
    handle, absent = Handle(pool.id, OBJECT, 0), Handle(pool.id, OBJECT, 1)
    pool.put(handle, PAGE)
    buffer = bytearray(5000)

    assert pool.get_into(handle, memoryview(buffer)) == len(PAGE)
    assert buffer[: len(PAGE)] == PAGE
    assert buffer[len(PAGE) :] == bytes(5000 - len(PAGE))
    assert pool.get_into(absent, memoryview(buffer)) == 0
    assert pool.get_into(Handle(bytes(16), OBJECT, 0), memoryview(buffer)) == 0

    assert sums(pool.stats()) == (3, 1, {"absent": 1, "denied": 1})
    assert sums(guard.stats()) == (2, 1, {"absent": 1})


@pytest.mark.parametrize("has_one", [True, False], ids=["a tier with get_into", "a tier without"])
def test_V6_a_page_that_the_buffer_has_no_room_for_is_never_taken_for_a_whole_one(has_one: bool) -> None:
    pool = Pool(Guard(Store(1 << 22) if has_one else Dict()))
    handle = Handle(pool.id, OBJECT, 0)
    pool.put(handle, PAGE)

    assert pool.get_into(handle, memoryview(bytearray(100))) in (0, len(PAGE))


@pytest.mark.expects_logs
@pytest.mark.parametrize("answer", [OSError("away"), b"bytes", True, "absent"], ids=repr)
def test_C9_a_tier_that_fails_to_copy_is_a_miss_and_down(answer: object) -> None:
    tier = Stubborn()
    guard = Guard(tier)
    pool = Pool(guard)
    handle = Handle(pool.id, OBJECT, 0)
    pool.put(handle, PAGE)
    tier.answer = answer

    assert pool.get_into(handle, memoryview(bytearray(len(PAGE)))) == 0
    assert pool.get(handle) == PAGE

    assert sums(pool.stats()) == (2, 1, {"down": 1})
    assert sums(guard.stats()) == (2, 1, {"down": 1})


def test_nothing_is_copied_once_a_pool_or_a_guard_is_closed() -> None:
    guard = Guard(Store(1 << 22))
    pool, other = Pool(guard), Pool(guard)
    handle = Handle(pool.id, OBJECT, 0)
    pool.put(handle, PAGE)
    pool.close()
    assert pool.get_into(handle, memoryview(bytearray(len(PAGE)))) == 0

    other.put(Handle(other.id, OBJECT, 0), PAGE)
    guard.close()
    assert other.get_into(Handle(other.id, OBJECT, 0), memoryview(bytearray(len(PAGE)))) == 0
    assert other.stats().misses == {"down": 1}
    assert other.flush(Scope(other.id)) is False
