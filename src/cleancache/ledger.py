"""Who is charged for what: one account an owner, whose sum is the bytes used, to the byte.

Laws M5 and M10. A *cap* is hard: it binds even when there is room. A *weight* gives a soft share of the limit: when
room is short, the owner that is most over its share loses first, and one that stays under its share loses nothing to
one that is over. Owners without a weight have no share of their own and live by the common order. The Store itself is
an owner too (`STORE`): it pays for its tables and for room that is not reclaimed yet.

No clock, no lock, no I/O: the Store calls it under its own lock. Wish W5.
"""

from __future__ import annotations

from collections import defaultdict

STORE = "store"  # the owner of tables, spare segments and dead room


class Ledger:
    """The accounts of one Store. *charges* is open to the Store's hot path, which moves bytes between two owners in it.

    >>> ledger = Ledger()
    >>> ledger.charge("a", 10)
    >>> ledger.move("a", "b", 4)
    >>> ledger.charges["a"], ledger.total
    (6, 10)
    """

    def __init__(self) -> None:
        self.charges: defaultdict[str, int] = defaultdict(int)
        self.caps: dict[str, int] = {}
        self.weights: dict[str, float] = {}

    def enroll(self, owner: str, *, weight: float | None = None, cap_bytes: int | None = None) -> None:
        """Give *owner* a weight (None leaves it as it is) and a hard cap (None takes it away)."""
        if weight is not None:
            self.weights[owner] = weight
        if cap_bytes is None:
            self.caps.pop(owner, None)
        else:
            self.caps[owner] = cap_bytes

    @property
    def total(self) -> int:
        """What all owners are charged for together."""
        return sum(self.charges.values())

    def charge(self, owner: str, size: int) -> None:
        """Add *size* bytes (which may be negative: give back) to *owner*."""
        self.charges[owner] += size
        if not self.charges[owner]:
            del self.charges[owner]  # pools come and go: an account that holds nothing takes no room

    def move(self, payer: str, heir: str, size: int) -> None:
        """Let *heir* pay from now on for what *payer* paid for: the oldest holder pays, the next one inherits."""
        self.charges[heir] += size
        self.charge(payer, -size)

    def fits(self, owner: str, size: int) -> bool:
        """Say whether *owner* may have *size* bytes more under its hard cap."""
        cap = self.caps.get(owner)
        return cap is None or self.charges[owner] + size <= cap

    def over_share(self, limit_bytes: int) -> list[str]:
        """The owners over their share, the one most over it first; empty as long as nobody has a weight.

        A share is the owner's part of *limit_bytes* by weight among the owners that have one; others have none.
        """
        weights = sum(self.weights.values())
        if not weights:
            return []
        over = []
        for owner, size in self.charges.items():
            excess = size - limit_bytes * self.weights.get(owner, 0.0) / weights
            if owner != STORE and excess > 0:
                over.append((excess, owner))
        return [owner for _, owner in sorted(over, reverse=True)]

    def snapshot(self) -> dict[str, int]:
        """A copy of all accounts that hold something: owner → bytes."""
        return {owner: size for owner, size in self.charges.items() if size}
