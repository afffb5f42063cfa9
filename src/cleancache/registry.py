"""Stack text -> slot; kinds come by `register` or by entry points, at any time (W2, W3, W4; laws 1.5, I5–I9).

The same canonical text is the same slot: one instance, one budget. A kind nobody registered is no error: its slot
waits, and one warning says which kinds are known and what to install. Entry points of the group `cleancache.backends`
are looked up at the first connect and imported at the first use of their kind; an import that fails is a factory that
fails.

The lock guards the two tables and which factory a slot expects; it is never held across a factory, an import or a verb.
Order of locks: the registry's, then a slot's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from importlib import import_module

from cleancache.backend import Backend
from cleancache.errors import SpecError
from cleancache.slot import Factory, Slot
from cleancache.spec import Tier, did_you_mean, parse_stack, printable_text, stack_text

log = logging.getLogger("cleancache.registry")

GROUP = "cleancache.backends"
EXTRAS: dict[str, str] = {}  # kind → extra, for kinds of ours that need one; those of this version need none

_registries: weakref.WeakSet[Registry] = weakref.WeakSet()


class Registry:
    """Kinds of tiers and the slots that use them. *group*: the entry points to look up, None for none.

    Threads: any. A program uses `cleancache.registry.default`; tests make their own.

    >>> slot = Registry(group=None).connect("none")
    >>> slot.put(Handle(bytes(16), bytes(24), 0), b"clean")
    False
    """

    def __init__(self, *, group: str | None = GROUP, clock: Callable[[], float] = time.monotonic) -> None:
        self._group = group
        self._clock = clock
        self._lock = threading.RLock()
        self._kinds: dict[str, Factory] = {}
        self._slots: dict[str, Slot] = {}
        self._is_scanned = group is None
        _registries.add(self)

    def known(self) -> tuple[str, ...]:
        """The kinds that are registered, or that an installed package offers."""
        self._scan()
        with self._lock:
            return tuple(sorted(self._kinds))

    def register(self, kind: str, factory: Factory) -> None:
        """Make *kind* known and fill the slots that wait for it.

        Raises: SpecError, if the kind is known already: unregister it first.
        """
        self._scan()
        with self._lock:
            if kind in self._kinds:
                raise SpecError(
                    f"a back end {kind!r} is registered already; unregister it first, or choose another name"
                )
            self._kinds[kind] = factory
            waiting = self._of(kind)
            for slot in waiting:
                slot.expect(factory)
        for slot in waiting:
            slot.fill(factory)

    def unregister(self, kind: str) -> None:
        """Drain and close the back ends of *kind*; its slots are empty, and wait for the next one.

        Raises: SpecError, if nobody registered it.
        """
        self._scan()
        with self._lock:
            factory = self._kinds.pop(kind, None)
            if factory is None:
                known = ", ".join(sorted(self._kinds)) or "none"
                raise SpecError(f"no back end {kind!r} is registered; known: {known}")
            slots = self._of(kind)
            for slot in slots:
                slot.expect(None)
        for slot in slots:
            slot.vacate(factory)

    def _of(self, kind: str) -> list[Slot]:
        """Under the lock: the slots of *kind*."""
        return [slot for slot in self._slots.values() if _kind(slot) == kind]

    def connect(self, stack: str) -> Slot:
        """The slot of *stack*, filled if its kind is known; the same text gives the same slot.

        Raises: SpecError, for text that does not parse, for options that the kind refuses, for more than one tier.
        """
        tiers = parse_stack(stack)
        if len(tiers) > 1:
            raise SpecError(
                f"{printable_text(tiers)!r} asks for {len(tiers)} tiers and this version takes one; "
                f"name one, as {tiers[0].printable!r}"
            )
        self._scan()
        text = stack_text(tiers)
        with self._lock:
            slot = self._slots.get(text)
            is_new = slot is None or slot.is_closed
            if slot is None or slot.is_closed:
                slot = self._slots[text] = Slot(tiers, clock=self._clock)
            kind = _kind(slot)
            factory = self._kinds.get(kind) if kind else None
            if is_new:
                slot.expect(factory)
        if factory is not None and is_new:
            try:
                slot.fill(factory, strict=True)
            except SpecError:
                with self._lock:
                    if self._slots.get(text) is slot:
                        del self._slots[text]
                slot.close()
                raise
        elif kind and factory is None and is_new:
            log.warning("%s", self.advice(kind, slot.name))
        return slot

    def slots(self) -> tuple[Slot, ...]:
        """All slots, for statistics."""
        with self._lock:
            return tuple(self._slots.values())

    def close(self) -> None:
        """Close all slots; the kinds stay known."""
        with self._lock:
            slots = list(self._slots.values())
            self._slots.clear()
        for slot in slots:
            slot.close()

    def advice(self, kind: str, stack: str) -> str:
        """What to do about *kind*, which nobody registered."""
        known = self.known()
        text = f"no back end {kind!r} yet for {stack!r}; known: {', '.join(known) or 'none'}"
        if kind in EXTRAS:
            text += f"; to get it: pip install 'cleancache[{EXTRAS[kind]}]'"
        elif near := did_you_mean(kind, [*known, *EXTRAS]):
            text += f"; did you mean {near!r}?"
        return text

    def _scan(self) -> None:
        if self._is_scanned or self._group is None:
            return
        from importlib.metadata import entry_points  # 20 ms that `import cleancache` must not cost

        found = [(point.name, _loading(point.value)) for point in entry_points(group=self._group)]
        with self._lock:
            if not self._is_scanned:
                for kind, factory in found:
                    self._kinds.setdefault(kind, factory)
                self._is_scanned = True

    def drop_after_fork(self) -> None:
        """In a forked child: a new lock; the slots see to themselves."""
        self._lock = threading.RLock()


def _kind(slot: Slot) -> str | None:
    return slot.tiers[0].kind if slot.tiers else None


def _loading(value: str) -> Factory:
    """A factory that imports the real one, `module:name`, when it is first called."""

    def factory(tier: Tier) -> Backend:
        module, _, name = value.partition(":")
        made: Backend = getattr(import_module(module), name)(tier)
        return made

    return factory


def _after_fork() -> None:
    for registry in list(_registries):
        registry.drop_after_fork()


os.register_at_fork(after_in_child=_after_fork)

default = Registry()
