"""What only a Store promises, as checks that take the class: test_store_proofs.py runs them on the real one,
test_mutants_store.py on planted bugs, which each must fail at least one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from cleancache.codec import HEADER_BYTES
from cleancache.handle import Handle, Scope
from cleancache.store import Evicted, Store
from cleancache.testing import Plan, Rig, campaign, check_sums, contents

MIB = 1 << 20
PAGE = 4096
SEGMENT = 32_768
A, B, C = b"owner--A" * 2, b"owner--B" * 2, b"owner--C" * 2
OBJECT = b"object-1" * 3

Make = Callable[..., Store]


@contextmanager
def opened(store: Store) -> Iterator[Store]:
    """A Store whose books are checked on the way out."""
    try:
        yield store
        check_sums(store.stats())
    finally:
        store.close()


def noise(handle: Handle, size: int = PAGE) -> bytes:
    """A page that no codec makes smaller."""
    return Random(repr(handle)).randbytes(size)


def text(handle: Handle, size: int = PAGE) -> bytes:
    """A page of its own that compresses well."""
    return contents(handle, 1, size)


def page(number: int, pool: bytes = A, obj: bytes = OBJECT) -> Handle:
    """A handle."""
    return Handle(pool, obj, number)


def place(store: Store, handle: Handle) -> tuple[int, int]:
    """Where the record of a resident page begins in the arena, and its size, header included."""
    at = store._core.find(handle)
    assert at is not None
    return at, store._core.locate(at)[2]


def compressed(store: Store) -> Handle:
    """A resident page that the Store has compressed; it fills the Store until there is one."""
    for number in range(100_000):
        store.put(page(number), text(page(number)))
        for earlier in range(max(0, number - 200), number):
            at = store._core.find(page(earlier))
            if at is not None and store._core.locate(at)[2] < PAGE // 2:
                return page(earlier)
    raise AssertionError("nothing was ever compressed")


def check_damage(make: Make) -> None:
    """C10, X20, D1: whichever byte of a record is turned, a get misses, counts `corrupt`, and the books stay exact."""
    for kind in ("raw", "compressed"):
        with opened(make(MIB, segment_bytes=SEGMENT)) as store:
            handle = page(1, B)
            if kind == "compressed":
                handle = compressed(store)
            data = text(handle, 600) if kind == "raw" else text(handle)
            if kind == "raw":
                store.put(handle, data)
            at, size = place(store, handle)
            kept = bytes(store._core.view[at : at + size])
            for offset in range(size):
                for bit in (0, 7):
                    store._core.view[at : at + size] = kept
                    store._core.view[at + offset] ^= 1 << bit
                    before = store.stats()
                    got = store.get(handle)
                    assert got is None, f"C10: byte {offset} of a {kind} record was turned and the page was given"
                    after = store.stats()
                    assert after.misses.get("corrupt", 0) == before.misses.get("corrupt", 0) + 1, "N4: not counted"
                    check_sums(after, before)
                    assert store.get(handle) is None, "V5: a damaged page came back"
                    if kind == "compressed":
                        break  # one is enough: making the next one takes a fill
                    assert store.put(handle, data)
                    at, size = place(store, handle)
                if kind == "compressed":
                    handle = compressed(store)
                    data = text(handle)
                    at, size = place(store, handle)
                    kept = bytes(store._core.view[at : at + size])
                    if offset > HEADER_BYTES + 8:
                        break


def check_swapped_records(make: Make) -> None:
    """C10, X52: another page's record under a handle is a miss, although it is whole in itself."""
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        first, second = page(1), page(2)
        store.put(first, text(first))
        store.put(second, text(second))
        (at, size), (other, _) = place(store, first), place(store, second)
        store._core.view[at : at + size] = bytes(store._core.view[other : other + size])
        assert store.get(first) is None, "C10: another page's record was given"
        assert store.get(second) == text(second)


def check_limit(make: Make) -> None:
    """M1, R4: used bytes never exceed the limit, whatever is put, replaced or compressed; asked after every call."""
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        campaign(store, seed=3, steps=3000, plan=Plan(page_bytes=PAGE, pages=60, objects=4))
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        for number in range(600):
            store.put(page(number), noise(page(number)))
            stats = store.stats()
            used = sum((stats.used_bytes or {}).values())
            assert used <= (stats.limit_bytes or 0) <= MIB, f"M1: {stats.used_bytes} used of {MIB}"
            held = len(store._core.segments) + len(store._core.spares)
            assert held * SEGMENT <= MIB, f"M1: {held} segments of {SEGMENT} are held, limit {MIB}"


def check_shared_contents(make: Make) -> None:
    """M8, M10: equal pages are stored once, go with their last handle, and the oldest holder pays."""
    data = noise(page(0))
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        for pool in (A, B, C):
            store.enroll(pool, pool[:8].decode())
            assert store.put(Handle(pool, OBJECT, 0), data)
            check_sums(store.stats())
        stats = store.stats()
        assert (stats.logical_bytes, stats.unique_bytes) == (3 * PAGE, PAGE), "M8: equal pages are not stored once"
        charged = stats.charged_bytes or {}
        assert charged["owner--A"] > PAGE > charged["owner--B"], "M10: the oldest holder does not pay"
        store.flush(Scope(A))
        check_sums(store.stats())
        assert store.get(Handle(A, OBJECT, 0)) is None
        assert store.get(Handle(B, OBJECT, 0)) == data, "M8: a flush of one holder took another's page"
        charged = store.stats().charged_bytes or {}
        assert charged["owner--B"] > PAGE, "M10: the next holder does not inherit"
        assert not charged.get("owner--A")
        store.flush(Scope(B))
        store.flush(Scope(C))
        assert store.stats().unique_bytes == 0, "M8: contents outlived their last handle"


def check_forced_collision(make: Make) -> None:
    """M8, D6: equal digests of different bytes are never merged."""
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        for name in ("remember", "twin"):
            setattr(store._core, name, _one_digest(getattr(store._core, name)))
        for number in range(40):
            store.put(page(number), text(page(number)))
        for number in range(40):
            assert store.get(page(number)) in (None, text(page(number))), "M8: two pages were taken for one"


def _one_digest(real: Callable[..., object]) -> Callable[..., object]:
    return lambda _, *rest: real(7, *rest)


def check_domains(make: Make) -> None:
    """M9: nothing of one trust domain shows in another: equal pages are stored, charged and counted twice."""
    data = noise(page(0))
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        store.enroll(A, "a", domain="one")
        store.enroll(B, "b", domain="two")
        store.put(Handle(A, OBJECT, 0), data)
        store.put(Handle(B, OBJECT, 0), data)
        stats = store.stats()
        assert stats.unique_bytes == 2 * PAGE, "M9: contents are shared across trust domains"
        charged = stats.charged_bytes or {}
        assert charged["a"] == charged["b"], "M9: what one pays tells about the other"


def check_shares(make: Make) -> None:
    """M5: an owner over its share loses first, one under its share loses nothing to it; judged by outcome."""
    for over, under in ((A, B), (B, A)):
        with opened(make(MIB, segment_bytes=SEGMENT)) as store:
            store.enroll(A, "a", weight=1.0)
            store.enroll(B, "b", weight=1.0)
            mine = [Handle(under, OBJECT, number) for number in range(40)]
            for handle in mine:
                assert store.put(handle, noise(handle))
            for number in range(1500):
                handle = Handle(over, OBJECT, number)
                store.put(handle, noise(handle))
                check_sums(store.stats())
            kept = sum(store.get(handle) == noise(handle) for handle in mine)
            assert kept == len(mine), f"M5: an owner under its share lost {len(mine) - kept} of {len(mine)} pages"


def check_cap(make: Make) -> None:
    """M5: a hard cap binds even with free memory, and a refusal for it drops the older copy (V2)."""
    cap = 64 << 10
    with opened(make(4 * MIB, segment_bytes=SEGMENT)) as store:
        store.enroll(A, "a", cap_bytes=cap)
        for number in range(100):
            handle = page(number)
            store.put(handle, noise(handle))
            charged = (store.stats().charged_bytes or {}).get("a", 0)
            assert charged <= cap, f"M5: {charged} bytes are charged to an owner with a cap of {cap}"
            check_sums(store.stats())
        assert store.stats().resident_pages
        store.enroll(B, "b", cap_bytes=2 * PAGE)
        small, large = Handle(B, OBJECT, 0), bytes(3 * PAGE)
        assert store.put(small, noise(small, 100))
        assert store.put(small, large) is False
        assert store.stats().refused.get("quota"), "M5: a refusal for the cap is not counted as one"
        assert store.get(small) is None, "V2: a put refused for the cap left the older copy"


def check_scan(make: Make) -> None:
    """M4: pages read once never displace a page that was read twice."""
    with opened(make(2 * MIB, segment_bytes=SEGMENT, codec="none")) as store:
        hot = [page(number, A) for number in range(60)]
        for handle in hot:
            store.put(handle, noise(handle))
        for _ in range(2):
            assert all(store.get(handle) is not None for handle in hot)
        for number in range(4000):
            cold = page(number, B)
            store.put(cold, noise(cold))
        kept = sum(store.get(handle) is not None for handle in hot)
        assert kept == len(hot), f"M4: a stream of pages read once displaced {len(hot) - kept} of {len(hot)}"


def check_lowered_limit(make: Make) -> None:
    """M2: lowering the limit gives back what it must, at once; raising it gives room again."""
    with opened(make(4 * MIB, segment_bytes=SEGMENT)) as store:
        for number in range(900):
            store.put(page(number), noise(page(number)))
        used = sum((store.stats().used_bytes or {}).values())
        given = store.set_limit(MIB)
        stats = store.stats()
        assert sum((stats.used_bytes or {}).values()) <= MIB == stats.limit_bytes
        assert given >= used - MIB, f"M2: {given} bytes given back of {used - MIB}"
        check_sums(stats)
        store.set_limit(0)
        assert store.stats().resident_pages == 0
        assert not store.put(page(1), noise(page(1)))
        store.set_limit(64 * MIB)
        assert store.stats().limit_bytes == 4 * MIB, "M3: a limit rose above its ceiling"
        assert store.put(page(1), noise(page(1)))


def check_spill(make: Make) -> None:
    """C6: what is evicted is offered to the spill hook first, oldest first, whole; so it is always in some tier."""
    below: dict[Handle, Evicted] = {}
    order: list[int] = []

    def spill(evicted: Evicted) -> bool:
        below[evicted.handle] = evicted
        order.append(evicted.handle.page)
        return evicted.handle.page % 3 != 0

    with opened(make(MIB, segment_bytes=SEGMENT, spill=spill)) as store:
        for number in range(500):
            handle = page(number)
            assert store.put(handle, noise(handle))
            for earlier in range(0, number, 37):
                got = store.get(page(earlier))
                assert got == noise(page(earlier)) or (got is None and page(earlier) in below), "C6: a page is nowhere"
        left = store.stats().left or {}
        assert left.get("spilled", 0) + left.get("evicted", 0) == len(order)
        assert left.get("spilled") == sum(number % 3 != 0 for number in order), "R3: spilled pages are not counted so"
        assert all(evicted.raw_length == PAGE for evicted in below.values())


def check_giant_object(make: Make) -> None:
    """M6, A8: an object ten times the Store ends in bounded time, and the Store goes on."""
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        for number in range(10 * MIB // PAGE):
            store.put(page(number), noise(page(number)))
        other = page(0, B)
        assert any(store.put(other, noise(other)) for _ in range(20)), "M6: nothing fits any more"


def check_incompressible(make: Make) -> None:
    """M7: what does not shrink is kept raw and costs no more than raw and its header."""
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        for number in range(600):
            store.put(page(number), noise(page(number)))
        stats = store.stats()
        assert stats.resident_pages
        assert (stats.used_bytes or {})["pages"] == stats.resident_pages * (PAGE + HEADER_BYTES)


def check_frozen(make: Make) -> None:
    """M12: frozen, puts are refused, gets and flushes work; thawed, all is as before."""
    with opened(make(MIB, segment_bytes=SEGMENT)) as store:
        for number in (0, 1):
            store.put(page(number), text(page(number)))
        store.freeze()
        assert not store.put(page(2), text(page(2)))
        assert store.stats().refused == {"frozen": 1}
        assert store.get(page(0)) == text(page(0))
        assert store.flush(Scope(*page(1)))
        assert store.get(page(1)) is None
        store.thaw()
        assert store.put(page(2), text(page(2)))


def check_books(make: Make) -> None:
    """M10, N1: owners with shares and caps, shared contents, a moving limit: the books agree after every call."""
    for seed in range(2):
        with opened(make(MIB, segment_bytes=SEGMENT)) as store:
            pools = (A, B, C)
            store.enroll(A, "a", weight=2.0)
            store.enroll(B, "b", weight=1.0, cap_bytes=200 << 10)
            store.enroll(C, "c", cap_bytes=100 << 10, domain="apart")
            pokes = {
                "limit": lambda number, store=store: store.set_limit(300_000 + number % 900_000),
                "settle": lambda _, store=store: store.settle(),
            }
            plan = Plan(pools=pools, page_bytes=PAGE, pages=40, objects=3, weights=(60, 1, 30, 5, 1, 0, 0, 3))
            campaign(Rig(store, pokes=pokes), seed=seed, steps=3000, plan=plan)


PROOFS: dict[str, Callable[[Make], None]] = {
    name[6:]: proof for name, proof in list(globals().items()) if name.startswith("check_") and name != "check_sums"
}
