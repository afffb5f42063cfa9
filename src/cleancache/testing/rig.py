"""A back end on the test bench: itself, the switches that disturb it, and what a miss means while they are on.

A `Switch` that *refuses* makes every put refuse with that reason (frozen, full, over quota …). One that is a *fault*
makes misses say nothing about presence, and flushes may answer False. A *poke* changes something once (a limit, a
sweep, a registration) and must never change what a get may give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cleancache.backend import Backend


@dataclass(frozen=True, slots=True)
class Switch:
    """Something that goes wrong while it is on.

    *refuses*: the reason under which every put is refused meanwhile; "" if it is refused, but counted as what the tier
    made of it. *is_fault*: a miss says nothing meanwhile.
    """

    on: Callable[[], object]
    off: Callable[[], object]
    refuses: str | None = None
    is_fault: bool = False


@dataclass(frozen=True, slots=True)
class Rig:
    """A back end, its switches by name, and its pokes, each a call with a random number."""

    backend: Backend
    switches: Mapping[str, Switch] = field(default_factory=dict)
    pokes: Mapping[str, Callable[[int], object]] = field(default_factory=dict)
    after: Callable[[], object] | None = None  # called when the back end was closed

    @property
    def is_faulty(self) -> bool:
        """Say whether a switch can make misses say nothing and flushes answer False."""
        return any(switch.is_fault for switch in self.switches.values())

    def close(self) -> None:
        """Close the back end and what stands behind it."""
        self.backend.close()
        if self.after is not None:
            self.after()


def rig_of(made: Backend | Rig) -> Rig:
    """A rig, whatever the factory made."""
    return made if isinstance(made, Rig) else Rig(made)
