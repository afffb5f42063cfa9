"""Who is charged for what: one account an owner, whose sum is the bytes used, to the byte.

Laws M5 and M10. A *cap* is hard: it binds even when there is room. A *weight* gives a soft share of the limit: when
room is short, the owner that is most over its share loses first, and one that stays under its share loses nothing to
one that is over. Owners without a weight have no share of their own and live by the common order. The Store itself is
an owner too (`STORE`): it pays for its tables and for room that is not reclaimed yet.

No clock, no lock, no I/O: the Store calls it under its own lock. Wish W5.
"""

from __future__ import annotations

from dataclasses import dataclass

STORE = "store"  # the owner of tables, spare segments and dead room


@dataclass(slots=True)
class Account:
    """What one owner has and may have, in bytes."""

    bytes: int = 0
    weight: float = 0.0
    cap_bytes: int | None = None


class Ledger:
    """The accounts of one Store.

    >>> ledger = Ledger()
    >>> ledger.charge("a", 10)
    ... ledger.move("a", "b", 4)
    ... ledger.charged("a"), ledger.total
    (6, 10)
    """

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {STORE: Account()}
        self.total = 0
        self._weights = 0.0

    def enroll(self, owner: str, *, weight: float | None = None, cap_bytes: int | None = None) -> None:
        """Open the account of *owner*, or change its weight and cap; None leaves the weight and takes the cap away."""
        account = self._accounts.setdefault(owner, Account())
        if weight is not None:
            self._weights += weight - account.weight
            account.weight = weight
        account.cap_bytes = cap_bytes

    def charge(self, owner: str, size: int) -> None:
        """Add *size* bytes (which may be negative: give back) to *owner*."""
        account = self._accounts.get(owner)
        if account is None:
            account = self._accounts[owner] = Account()
        account.bytes += size
        self.total += size

    def move(self, payer: str, heir: str, size: int) -> None:
        """Let *heir* pay from now on for what *payer* paid for: the oldest holder pays, the next one inherits."""
        self.charge(payer, -size)
        self.charge(heir, size)

    def charged(self, owner: str) -> int:
        """The bytes that *owner* is charged for."""
        account = self._accounts.get(owner)
        return 0 if account is None else account.bytes

    def fits(self, owner: str, size: int) -> bool:
        """Say whether *owner* may have *size* bytes more under its hard cap."""
        account = self._accounts.get(owner)
        return account is None or account.cap_bytes is None or account.bytes + size <= account.cap_bytes

    def excess(self, owner: str, limit_bytes: int) -> float:
        """By how many bytes *owner* is over its share of *limit_bytes*; at most 0 when it is under it."""
        account = self._accounts.get(owner)
        if account is None or not self._weights:
            return 0.0
        return account.bytes - limit_bytes * account.weight / self._weights

    def over_share(self, limit_bytes: int) -> list[str]:
        """The owners over their share, the one most over it first; empty as long as nobody has a weight."""
        if not self._weights:
            return []
        over = [(self.excess(owner, limit_bytes), owner) for owner in self._accounts if owner != STORE]
        return [owner for excess, owner in sorted(over, reverse=True) if excess > 0]

    def close(self, owner: str) -> None:
        """Forget an account that owns nothing; one that still does stays."""
        account = self._accounts.get(owner)
        if account is not None and owner != STORE and account.bytes == 0:
            self._weights -= account.weight
            del self._accounts[owner]

    def charges(self) -> dict[str, int]:
        """A copy of all accounts: owner → bytes."""
        return {owner: account.bytes for owner, account in self._accounts.items()}
