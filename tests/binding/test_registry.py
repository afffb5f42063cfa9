"""The registry: kinds and stack texts, one instance for equal text, what unknown kinds say (laws 1.5, I6, I8, I9)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from random import Random

import pytest

from cleancache.backend import Backend
from cleancache.errors import SpecError
from cleancache.handle import Handle, Scope, private_pool
from cleancache.pool import Pool
from cleancache.registry import EXTRAS, Registry
from cleancache.spec import Tier
from cleancache.testing import FakeClock, check_sums
from tests.binding.dicts import Dict, Makes

POOL, OBJECT = b"p" * 16, b"o" * 24
PAGE = Handle(POOL, OBJECT, 0)

pytestmark = pytest.mark.expects_logs


def registry(clock: Callable[[], float] = time.monotonic) -> Registry:
    return Registry(group=None, clock=clock)


def test_I9_a_second_register_is_refused_and_equal_text_is_one_instance() -> None:
    kinds, makes = registry(), Makes()
    kinds.register("dict", makes)
    with pytest.raises(SpecError, match="'dict' is registered already; unregister it first"):
        kinds.register("dict", makes)

    assert kinds.connect("dict:a=1:b=2:1G") is kinds.connect("dict:b=2:a=1:%31G")
    assert kinds.connect("dict:2G") is not kinds.connect("dict:1G")
    assert makes.asked == 3


def test_W4_kinds_side_by_side_never_see_each_others_pages() -> None:
    kinds = registry()
    kinds.register("one", Makes())
    kinds.register("two", Makes())
    pool = private_pool()
    one, two = Pool(kinds.connect("one"), pool), Pool(kinds.connect("two"), pool)
    handle = Handle(pool, OBJECT, 0)
    one.put(handle, b"1")

    assert two.get(handle) is None
    two.put(handle, b"2")
    kinds.unregister("two")
    assert one.get(handle) == b"1"


def test_I8_a_thousand_mounts_cache() -> None:
    kinds = registry()
    kinds.register("dict", Makes())
    pools = [Pool(kinds.connect("dict")) for _ in range(1000)]
    for pool in pools:
        assert pool.put(Handle(pool.id, OBJECT, 0), pool.id)
    assert all(pool.get(Handle(pool.id, OBJECT, 0)) == pool.id for pool in pools)


def test_options_that_a_kind_refuses_raise_at_connect_and_leave_no_slot() -> None:
    kinds = registry()
    kinds.register("picky", Makes(SpecError("picky takes no options")))
    with pytest.raises(SpecError, match="picky takes no options"):
        kinds.connect("picky:a=1")
    assert kinds.slots() == ()


def test_an_unknown_kind_waits_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    kinds = registry()
    kinds.register("zcache", Makes())
    for _ in range(3):
        kinds.connect("zcahe:password=hush:2G")

    assert [record.getMessage() for record in caplog.records] == [
        "no back end 'zcahe' yet for 'zcahe:password=***:2G'; known: zcache; did you mean 'zcache'?"
    ]


def test_a_kind_of_ours_that_is_an_extra_says_what_to_install(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXTRAS, "ramster", "ramster")

    registry().connect("ramster:redis://cache.lan:6379")

    assert "known: none; to get it: pip install 'cleancache[ramster]'" in caplog.text


@pytest.mark.parametrize("stack", ["zcache+tmem", "a+b+c"])
def test_several_tiers_are_refused_in_one_sentence(stack: str) -> None:
    with pytest.raises(SpecError, match=r"asks for \d tiers and this version takes one; name one, as"):
        registry().connect(stack)


def test_none_stays_absent_and_owes_nothing() -> None:
    slot = registry().connect("none")

    assert slot.put(PAGE, b"a") is False
    assert slot.get(PAGE) is None
    assert slot.flush(Scope(POOL)) is True
    assert slot.stats().debts == 0
    assert slot.stats().misses == {"empty": 1}


def test_I3_exclusive_with_a_shared_pool_is_an_error_at_connect() -> None:
    kinds = registry()
    kinds.register("dict", Makes())
    with pytest.raises(SpecError, match="is shared and 'dict:exclusive=yes' is exclusive"):
        Pool(kinds.connect("dict:exclusive=yes"), POOL, shared=True)
    Pool(kinds.connect("dict:exclusive=no"), POOL, shared=True)


def test_I6_any_interleaving_of_connect_register_unregister_and_verbs() -> None:
    """The factory runs once a slot and registration; no verb before it returned, none after leaving began."""
    kinds = registry()
    wrong: list[str] = []

    class Watched(Dict):
        def __init__(self) -> None:
            super().__init__()
            self.is_ready = False

        def get(self, handle: Handle) -> bytes | None:
            if not self.is_ready or self.is_closed:
                wrong.append("a verb outside of its life")
            return super().get(handle)

    building = threading.Lock()

    def factory(tier: Tier) -> Backend:
        if not building.acquire(blocking=False):
            wrong.append("built twice at once")
        made = Watched()
        made.is_ready = True
        building.release()
        return made

    end = threading.Event()

    def use(seed: int) -> None:
        random = Random(seed)
        while not end.is_set():
            slot = kinds.connect("watched")
            handle = PAGE._replace(page=random.randrange(4))
            slot.put(handle, b"%d" % handle.page)
            if (data := slot.get(handle)) not in (None, b"%d" % handle.page):
                wrong.append(f"{data!r}")
            slot.flush(Scope(*handle))

    def manage() -> None:
        while not end.is_set():
            kinds.register("watched", factory)
            end.wait(0.001)
            kinds.unregister("watched")

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(3)] + [threading.Thread(target=manage)]
    for thread in threads:
        thread.start()
    end.wait(1.0)
    end.set()
    for thread in threads:
        thread.join()

    assert not wrong
    check_sums(kinds.connect("watched").stats())
    kinds.close()


def test_an_interrupted_factory_leaves_the_slot_empty_and_the_next_use_tries_again() -> None:
    clock = FakeClock()
    kinds, makes = registry(clock), Makes(KeyboardInterrupt())  # type: ignore[arg-type]  # no Exception, that is the point
    kinds.register("dict", makes)
    with pytest.raises(KeyboardInterrupt):
        kinds.connect("dict")
    makes.fault = None

    assert kinds.connect("dict").put(PAGE, b"a") is True


def test_a_closed_slot_is_down_and_connect_makes_another() -> None:
    kinds, makes = registry(), Makes()
    kinds.register("dict", makes)
    slot = kinds.connect("dict")
    slot.close()
    slot.close()

    assert makes.made[0].is_closed
    assert slot.ask(PAGE) == slot.offer(PAGE, b"a") == "down"
    assert slot.flush(Scope(POOL)) is False
    assert kinds.connect("dict") is not slot
    assert slot.stats().debts == 0
    check_sums(slot.stats())


def test_entry_points_are_found_at_first_use() -> None:
    kinds = Registry()
    assert "zcache" in kinds.known()
    slot = kinds.connect("zcache:pressure=no:8M")
    try:
        assert slot.put(PAGE, b"a") is True
    finally:
        kinds.close()


def test_an_entry_point_that_does_not_import_leaves_its_slot_empty_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    point = importlib.metadata.EntryPoint("lost", "cleancache_lost:connect", "cleancache.backends")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    kinds = Registry()

    assert kinds.connect("lost").put(PAGE, b"a") is False
    assert kinds.connect("lost").get(PAGE) is None
    assert len(caplog.records) == 1
    assert "No module named 'cleancache_lost'" in caplog.text


def test_I6_a_back_end_unregistered_while_it_is_built_is_closed_and_never_used() -> None:
    kinds = registry()
    made: list[Dict] = []

    def factory(tier: Tier) -> Backend:
        kinds.unregister("brief")
        made.append(Dict())
        return made[-1]

    kinds.register("brief", factory)
    slot = kinds.connect("brief")

    assert slot.is_empty
    assert made[0].is_closed
    makes = Makes()
    kinds.register("brief", makes)
    assert slot.put(PAGE, b"a") is True
    assert not made[0].calls
