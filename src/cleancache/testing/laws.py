"""The laws of docs/laws.md as one body of tests for every back end: `Laws`, a pytest mixin; `run_laws` without pytest.

Each test says its number first. None assumes that a page that was put is still there, unless the back end claims so
(`keeps`): any page may vanish at any time, so absence proves nothing and only wrong bytes are a fault.
"""

from __future__ import annotations

import mmap
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cleancache.backend import Backend
from cleancache.handle import MAX_PAGE, Handle, Scope
from cleancache.testing.campaign import campaign, first_seed, race
from cleancache.testing.rig import Rig, rig_of
from cleancache.testing.suite import OTHER_POOL, POOL, Bench, needs
from cleancache.testing.sums import Miss, check_sums

__all__ = ["OTHER_POOL", "POOL", "Laws", "law_names", "run_laws"]

OBJECT, OTHER_OBJECT = b"object-A" * 3, b"object-B" * 3


class Laws(Bench):
    """The cases. Subclass it as `class TestMine(Laws)` and say in `make` how your back end is made; see `Bench`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        offers = {
            "keeps": cls.keeps and not cls.exclusive,
            "switches": cls.switches,
            "hostile": cls.mode == "hostile",
            "exclusive": cls.exclusive and cls.keeps,
        }
        for name in law_names(cls):
            wanted = getattr(getattr(cls, name), "needs", None)
            if wanted is not None and not offers[wanted]:
                setattr(cls, name, None)

    # --- verbs ----------------------------------------------------------------------------------------------------

    @needs("hostile")
    def test_V1_of_two_accepted_puts_only_the_second_is_given(self) -> None:
        with self.backend() as backend:
            for number, (first, second) in enumerate(((4096, 4096), (100, 4096), (4096, 100), (1, 1)), 1):
                handle = Handle(self.pools[0], OBJECT, number)
                self.put(backend, handle, self.page(handle, number, min(first, self.page_bytes)))
                newer = self.page(handle, number + 1, min(second, self.page_bytes))
                want = newer if self.put(backend, handle, newer) else None
                self.gives(backend, handle, want, "V1", surely=True)
                self.settle(backend)
                self.gives(backend, handle, want, "V1")

    def test_V2_a_put_refused_for_its_size_drops_the_older_copy(self) -> None:
        with self.backend() as backend:
            for number, size in enumerate((0, self.greatest(backend) + 1)):
                handle = Handle(self.pools[0], OBJECT, number)
                self.put(backend, handle, self.page(handle))
                assert backend.put(handle, bytes(size)) is False, f"V14: a page of {size} bytes was accepted"
                self.gives(backend, handle, None, "V2")
                self.settle(backend)
                self.gives(backend, handle, None, "V2")
            assert not self.reasons or backend.stats().refused.get("size") == 2, (
                f"V14: refused as {backend.stats().refused}"
            )

    @needs("switches")
    def test_V2_a_put_refused_for_any_reason_drops_the_older_copy(self) -> None:
        with self.rig() as rig:
            for number, (name, switch) in enumerate(rig.switches.items()):
                if switch.refuses is None:
                    continue
                backend, handle = rig.backend, Handle(self.pools[0], OBJECT, number)
                self.put(backend, handle, self.page(handle))
                before = backend.stats().refused.get(switch.refuses, 0)
                switch.on()
                assert backend.put(handle, self.page(handle, 2)) is False, f"a put was accepted while {name} was on"
                refused = backend.stats().refused
                assert not switch.refuses or refused.get(switch.refuses, 0) == before + 1, f"N4: {refused}"
                self.gives(backend, handle, None, f"V2 ({name})")
                switch.off()
                self.gives(backend, handle, None, f"V2 ({name})")
                self.settle(backend)
                self.gives(backend, handle, None, f"V2 ({name})")

    def test_V3_a_flush_ends_all_its_scope_covers_and_nothing_else(self) -> None:
        places = [(p, o, n) for p in self.pools for o in (OBJECT, OTHER_OBJECT) for n in (0, 1, 2)]
        handles = [Handle(*place) for place in places]
        for scope in (Scope(self.pools[0], OBJECT, 1), Scope(self.pools[0], OBJECT), Scope(self.pools[0])):
            with self.backend() as backend:
                kept = {handle: self.put(backend, handle, self.page(handle)) for handle in handles}
                assert backend.flush(scope) is True, f"V3: flush of {scope.kind} answered False"
                for handle in handles:
                    want = None if scope.covers(handle) or not kept[handle] else self.page(handle)
                    self.gives(backend, handle, want, f"V3 ({scope.kind})", surely=True)
                accepted = self.put(backend, handles[1], self.page(handles[1], 2))
                self.gives(backend, handles[1], self.page(handles[1], 2) if accepted else None, "V3", surely=True)

    def test_V4_a_flush_of_what_is_absent_changes_its_counter_and_nothing_else(self) -> None:
        with self.backend() as backend:
            handle = Handle(self.pools[0], OBJECT, 0)
            kept = self.put(backend, handle, self.page(handle))
            for scope in (
                *map(Scope, self.pools[1:]),
                Scope(self.pools[0], OTHER_OBJECT),
                Scope(self.pools[0], OBJECT, 9),
            ):
                before = backend.stats()
                assert backend.flush(scope) is True, f"V4: flush of an absent {scope.kind} answered False"
                after = backend.stats()
                counted = after.flushes.get(scope.kind, 0) - before.flushes.get(scope.kind, 0)
                assert counted == 1, f"N2: a flush of {scope.kind} was counted {counted} times"
                left = [sum((stats.left or {}).values()) for stats in (before, after)]
                assert left[0] == left[1], f"V4: pages left: {before.left} -> {after.left}"
            self.gives(backend, handle, self.page(handle) if kept else None, "V4", surely=True)

    def test_V5_after_an_absent_miss_every_get_misses_until_a_put(self) -> None:
        with self.backend() as backend:
            for number in range(20):
                handle = Handle(self.pools[0], OBJECT, number)
                with Miss(backend) as miss:
                    assert backend.get(handle) is None, "V5: a hit without a put"
                assert miss.reason is not None, "N4: a miss without a reason"
                self.settle(backend)
                self.gives(backend, handle, None, "V5")
                accepted = self.put(backend, handle, self.page(handle))
                self.gives(backend, handle, self.page(handle) if accepted else None, "V5", surely=True)

    def test_V6_a_get_gives_a_whole_immutable_page_or_none(self) -> None:
        with self.backend() as backend:
            for number in range(64):
                handle = Handle(self.pools[0], OBJECT, number)
                want = self.page(handle, 1, 1 + number * 61 % self.page_bytes)
                accepted = self.put(backend, handle, want)
                self.gives(backend, handle, want if accepted else None, "V6", surely=True)

    def test_V7_a_buffer_may_be_reused_at_once_and_any_contiguous_one_is_taken(self) -> None:
        with self.backend() as backend, mmap.mmap(-1, self.page_bytes) as mapped:
            for number, kind in enumerate(
                ("bytearray", "memoryview", "slice", "mmap", "numbers", "square", "readonly")
            ):
                handle = Handle(self.pools[0], OBJECT, number)
                want = self.page(handle, 1, self.page_bytes)
                mapped[:] = want
                owner: Any = mapped if kind == "mmap" else array("I", want) if kind == "numbers" else bytearray(want)
                if kind == "slice":
                    owner = bytearray(b"before" + want + b"after")
                data: Any = owner if kind == "bytearray" else memoryview(owner)
                if kind == "slice":
                    data = data[6 : 6 + len(want)]
                if kind == "square":
                    data = data.cast("B", (2, len(want) // 2))
                if kind == "readonly":
                    data = data.toreadonly()
                accepted = backend.put(handle, data)
                if isinstance(data, memoryview):
                    data.release()
                for at in range(len(owner)):
                    owner[at] = 0xEE
                if isinstance(owner, bytearray):
                    owner.clear()  # a tier that still looks at the buffer makes this a BufferError
                self.gives(backend, handle, want if accepted else None, f"V7 ({kind})", surely=True)
                self.settle(backend)
                self.gives(backend, handle, want if accepted else None, f"V7 ({kind})")

    @needs("keeps")
    def test_V8_an_inclusive_tier_gives_equal_bytes_to_every_get(self) -> None:
        with self.backend() as backend:
            handle = Handle(self.pools[0], OBJECT, 0)
            self.put(backend, handle, self.page(handle))
            for _ in range(3):
                self.gives(backend, handle, self.page(handle), "V8", surely=True)

    @needs("exclusive")
    def test_V8_of_two_gets_of_an_exclusive_tier_exactly_one_hits(self) -> None:
        with self.backend() as backend:
            for number in range(200):
                handle = Handle(self.pools[0], OBJECT, number)
                self.put(backend, handle, self.page(handle))
                start = threading.Barrier(2)
                got: list[bytes | None] = []

                def take(handle: Handle = handle, start: threading.Barrier = start, got: list[Any] = got) -> None:
                    start.wait()
                    got.append(backend.get(handle))

                threads = [threading.Thread(target=take) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert sorted(got, key=lambda page: page is None) == [self.page(handle), None], (
                    "V8: not exactly one hit"
                )

    @needs("hostile")
    def test_V9_calls_of_many_threads_have_a_serial_order(self) -> None:
        with self.rig() as rig:
            narrow = self.plan(rig.backend, pools=self.pools[:1], objects=2, pages=2)
            race(rig, seed=first_seed(), seconds=self.seconds, threads=4, plan=narrow)

    @needs("switches")
    def test_V11_a_flush_works_while_every_put_is_refused(self) -> None:
        with self.rig() as rig:
            for name, switch in rig.switches.items():
                for scope in (Scope(self.pools[0], OBJECT, 0), Scope(self.pools[0], OBJECT), Scope(self.pools[0])):
                    handle = Handle(self.pools[0], OBJECT, 0)
                    rig.backend.put(handle, self.page(handle))
                    switch.on()
                    rig.backend.flush(scope)
                    self.gives(rig.backend, handle, None, f"V11 ({name}, {scope.kind})")
                    switch.off()
                    self.gives(rig.backend, handle, None, f"V11 ({name}, {scope.kind})")

    def test_V12_a_flush_is_never_skipped(self) -> None:
        with self.backend() as backend:
            handles = [
                Handle(self.pools[0], obj, page) for obj in (OBJECT, OTHER_OBJECT) for page in (0, 1, 5, MAX_PAGE)
            ]
            for number in range(60):
                for handle in handles[number % 3 :: 2]:
                    backend.put(handle, self.page(handle, number))
                if number % 4 == 0:
                    backend.put(handles[0], b"")  # a refusal must not make an index believe that the object is gone
                if number % 5 == 0:
                    self.settle(backend)
                scope = (Scope(self.pools[0]), Scope(self.pools[0], OBJECT), Scope(*handles[number % 8]))[number % 3]
                assert backend.flush(scope) is True, f"V12: flush of {scope.kind} answered False"
                for handle in handles:
                    if scope.covers(handle):
                        self.gives(backend, handle, None, f"V12 ({scope.kind})")

    def test_V13_a_handle_out_of_range_is_refused_missed_and_flushed_in_vain(self) -> None:
        good: Any = Handle(self.pools[0], OBJECT, 0)
        bad: list[Any] = [good._replace(page=page) for page in (-1, MAX_PAGE + 1, 1 << 200, None, "0")]
        bad += [good._replace(pool=pool) for pool in (b"", b"x" * 15, b"x" * 17, "x" * 16, None)]
        bad += [good._replace(object=obj) for obj in (b"", b"x" * 23, b"x" * 25, "x" * 24)]
        with self.backend() as backend:
            kept = self.put(backend, good, self.page(good))
            for handle in bad:
                assert backend.put(handle, b"page") is False, f"V13: put of {handle} was accepted"
                assert backend.get(handle) is None, f"V13: get of {handle} hit"
                if handle.page is None:
                    continue  # as a scope this is the whole object
                assert backend.flush(Scope(*handle)) is True, f"V13: flush of {handle} answered False"
            self.gives(backend, good, self.page(good) if kept else None, "V13", surely=True)
            last = good._replace(page=MAX_PAGE)
            kept = self.put(backend, last, self.page(last))
            self.gives(backend, last, self.page(last) if kept else None, "V13", surely=True)

    def test_V14_lengths_come_back_exact(self) -> None:
        with self.backend() as backend:
            greatest = self.greatest(backend)
            sizes = sorted({1, 2, 63, 64, 65, self.page_bytes - 1, self.page_bytes, greatest - 1, greatest})
            handle = Handle(self.pools[0], OBJECT, 0)
            for number, size in enumerate(sizes + sizes[::-1]):
                if self.mode == "lawful":
                    handle = Handle(self.pools[0], OBJECT, number)
                want = self.page(handle, number + 1, size)
                accepted = backend.put(handle, want)
                self.gives(backend, handle, want if accepted else None, "V14")
            for size in (0, greatest + 1):
                assert backend.put(handle, bytes(size)) is False, f"V14: a page of {size} bytes was accepted"

    def test_V15_N1_N2_a_random_stream_of_verbs_agrees_with_the_model(self) -> None:
        seed = first_seed()
        with self.rig() as rig:
            campaign(rig, seed=seed, steps=self.steps, plan=self.plan(rig.backend))
        with self.rig() as rig:
            large = self.plan(rig.backend, page_bytes=self.page_bytes, pages=40, sums_every=20)
            campaign(rig, seed=seed + 1, steps=self.steps, plan=large)

    @needs("hostile")
    def test_V15_C7_C8_a_random_stream_of_eight_threads_agrees_with_a_serial_order(self) -> None:
        with self.rig() as rig:
            race(rig, seed=first_seed(), seconds=self.seconds, threads=8, plan=self.plan(rig.backend))

    # --- counters, lifecycle, security -----------------------------------------------------------------------------

    def test_N2_gauges_end_at_zero_and_counters_stay_after_close(self) -> None:
        rig = rig_of(self.make())
        backend = rig.backend
        for number in range(8):
            handle = Handle(self.pools[0], OBJECT, number)
            backend.put(handle, self.page(handle))
            backend.get(handle)
        before = backend.stats()
        rig.close()
        after = backend.stats()
        check_sums(after, before, is_holder=not rig.is_faulty)
        for name in ("resident_pages", "logical_bytes", "unique_bytes", "debts"):
            assert not getattr(after, name), f"N2: {name} is {getattr(after, name)} after close"
        assert not sum((after.charged_bytes or {}).values()), f"N2: charged after close: {after.charged_bytes}"

    def test_a_closed_back_end_refuses_misses_and_may_be_closed_again(self) -> None:
        rig = rig_of(self.make())
        handle = Handle(self.pools[0], OBJECT, 0)
        rig.backend.put(handle, self.page(handle))
        rig.backend.close()
        assert rig.backend.put(handle, self.page(handle)) is False, "close: a put was accepted afterwards"
        assert rig.backend.get(handle) is None, "close: a get hit afterwards"
        assert rig.backend.flush(Scope(self.pools[0])) in (True, False)
        rig.backend.close()
        check_sums(rig.backend.stats())
        rig.close()

    def test_P10_no_pickle_touches_the_bytes_of_a_page(self) -> None:
        with self.backend() as backend:
            handle = Handle(self.pools[0], OBJECT, 0)
            hostile = b"cposix\nsystem\n(S'true'\ntR." + bytes(100)
            for _ in range(2):
                backend.put(handle, hostile)
                with _unpickling() as seen:
                    backend.put(handle, hostile)
                    backend.get(handle)
                    backend.flush(Scope(self.pools[0]))
            assert not seen, f"P10: {seen} while a page was put, got and flushed"


_SEEN: list[str] | None = None
_HOOKED = False


@contextmanager
def _unpickling() -> Iterator[list[str]]:
    global _SEEN, _HOOKED

    def hook(event: str, _: Any) -> None:
        if _SEEN is not None and event in ("pickle.find_class", "marshal.loads", "marshal.load"):
            _SEEN.append(event)

    if not _HOOKED:  # an audit hook cannot be taken away again: one for the process
        sys.addaudithook(hook)
        _HOOKED = True
    seen: list[str] = []
    _SEEN = seen
    try:
        yield seen
    finally:
        _SEEN = None


def law_names(suite: type[Laws] = Laws) -> list[str]:
    """The tests of a suite, in order."""
    return [name for name in dir(suite) if name.startswith("test_") and getattr(suite, name) is not None]


def run_laws(make: Callable[[], Backend | Rig], **options: Any) -> int:
    """Run every law on the back ends that *make* makes; the number of cases. Options: the attributes of `Laws`.

    Raises: AssertionError at the first case that fails, whatever the back end did.

    >>> from cleancache.testing import Shelf
    >>> run_laws(Shelf, keeps=True, steps=200, seconds=0.05) > 15
    True
    """
    if not __debug__:
        raise RuntimeError("the laws are assertions: run them without -O")
    unknown = [name for name in options if not hasattr(Laws, name)]
    if unknown:
        raise TypeError(f"run_laws knows no option {', '.join(unknown)}")
    suite: type[Laws] = type("Suite", (Laws,), {**options, "make": lambda _: make()})
    names = law_names(suite)
    for name in names:
        try:
            getattr(suite(), name)()
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        except Exception as error:
            raise AssertionError(f"{name}: a verb raised {error!r}") from error
    return len(names)
