"""What a tier still has to be told to forget: in order, coarser when there is much of it, never forgotten (law 1.6).

More than 64 owed flushes collapse to objects, then to pools, then to `EVERYTHING` (all pools of this process). Single
pages owed by refused puts have a book of their own and collapse past 4096. Every debt carries a stamp: what was owed
again while it was being paid stays owed. No clock, no lock (the owner brings one), no I/O.
"""

from __future__ import annotations

from cleancache.handle import Handle, Scope

MAX_FLUSHES = 64
MAX_PAGES = 4096
EVERYTHING = Scope(b"")  # covers all pools; never a real scope, a pool id has 16 bytes


class Debts:
    """Scopes owed to one tier.

    >>> debts = Debts()
    >>> debts.owe(Scope(bytes(16)))
    >>> debts.covers(Handle(bytes(16), bytes(24), 7)), len(debts)
    (True, 1)
    """

    def __init__(self) -> None:
        self._flushes: dict[Scope, int] = {}
        self._pages: dict[Scope, int] = {}
        self._stamp = 0

    def owe(self, scope: Scope, *, refused: bool = False) -> None:
        """Note that *scope* must be flushed there; *refused*: the scope is the page of a put that was refused."""
        self._stamp += 1
        if EVERYTHING in self._flushes:
            self._flushes[EVERYTHING] = self._stamp  # it covers this one too, and was owed again
            return
        book, most = (self._pages, MAX_PAGES) if refused else (self._flushes, MAX_FLUSHES)
        book.pop(scope, None)  # owed again: it moves to the end
        book[scope] = self._stamp
        if len(book) > most:
            self._collapse(book, most)

    def _collapse(self, book: dict[Scope, int], most: int) -> None:
        for kind in ("page", "object"):
            for scope in [scope for scope in book if scope.kind == kind]:
                stamp = book.pop(scope)
                wider = Scope(scope.pool, scope.object) if kind == "page" else Scope(scope.pool)
                book[wider] = max(stamp, book.get(wider, 0))
            if len(book) <= most:
                return
        self._flushes.clear()
        self._pages.clear()
        self._flushes[EVERYTHING] = self._stamp

    def covers(self, handle: Handle) -> bool:
        """Say whether *handle* may not be served before a debt is paid. O(1)."""
        pool, obj, page = handle
        flushes, pages = self._flushes, self._pages
        return (
            (pool, obj, page) in pages
            or (pool, obj, page) in flushes
            or (pool, obj, None) in flushes
            or (pool, None, None) in flushes
            or EVERYTHING in flushes
            or (pool, obj, None) in pages
            or (pool, None, None) in pages
        )

    def first(self) -> tuple[Scope, int] | None:
        """The oldest debt with its stamp, or None."""
        heads = [next(iter(book.items())) for book in (self._flushes, self._pages) if book]
        return min(heads, key=lambda head: head[1]) if heads else None

    def settle(self, scope: Scope, stamp: int) -> None:
        """*scope* was paid as it was owed at *stamp*; if it was owed again since, it stays."""
        for book in (self._flushes, self._pages):
            if book.get(scope) == stamp:
                del book[scope]

    def pools(self) -> set[bytes]:
        """All pools in which something is owed; b"" stands for everything."""
        return {scope.pool for book in (self._flushes, self._pages) for scope in book}

    def __len__(self) -> int:
        return len(self._flushes) + len(self._pages)
