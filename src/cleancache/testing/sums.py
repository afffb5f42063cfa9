"""The sum rules of the counters, as one check: R1–R5 of docs/laws.md, bounded labels (N3), rising counters (N2).

They hold whenever no call is under way. What a tier cannot know it leaves out (None), and then the rule is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from cleancache.backend import LEFT, MISSES, REFUSALS, SCOPES, Backend, Stats

USED = ("pages", "index", "dead", "reader")  # reader: what the Readers of the process may keep raw
COUNTERS = ("gets", "puts", "hits", "stored", "replaced")
FAMILIES = {"misses": MISSES, "refused": REFUSALS, "flushes": SCOPES, "left": LEFT}
RECORD_OVERHEAD_BYTES = 128  # greater than any header; R5 asks only that there is a bound a record


def check_sums(stats: Stats, before: Stats | None = None, *, is_holder: bool = True) -> None:
    """Fail with the broken rule, if the numbers of a quiet back end do not add up.

    *is_holder*: it holds the pages itself. What stands before a tier that loses answers counts what it could tell its
    callers, the tier counts what it did, and so R3 is not asked.

    Raises: AssertionError.

    >>> check_sums(Stats(gets=2, hits=1, misses={"absent": 1}))
    """
    misses, refused = sum(stats.misses.values()), sum(stats.refused.values())
    assert stats.gets == stats.hits + misses, f"R1: {stats.gets} gets, but {stats.hits} hits and misses {stats.misses}"
    assert stats.puts == stats.stored + stats.replaced + refused, (
        f"R2: {stats.puts} puts, but {stats.stored} stored, {stats.replaced} replaced and refused {stats.refused}"
    )
    if is_holder and stats.left is not None and stats.resident_pages is not None:
        left = sum(stats.left.values())
        assert stats.stored - left == stats.resident_pages, (
            f"R3: {stats.stored} stored, left {dict(stats.left)}, but {stats.resident_pages} pages are resident"
        )
    _check_memory(stats)
    _check_labels(stats)
    if before is not None:
        _check_rising(before, stats)


def _check_memory(stats: Stats) -> None:
    for name in ("resident_pages", "limit_bytes", "ceiling_bytes", "logical_bytes", "unique_bytes", "debts"):
        value = getattr(stats, name)
        assert value is None or value >= 0, f"{name} is {value}"
    used = None if stats.used_bytes is None else sum(stats.used_bytes.values())
    if used is not None and stats.charged_bytes is not None:
        charged = sum(stats.charged_bytes.values())
        assert used == charged, f"R4: used {dict(stats.used_bytes or {})} = {used}, but charged {charged}"
    if used is not None and stats.limit_bytes is not None:
        bare = stats.resident_pages == 0 and not (stats.used_bytes or {}).get("dead")  # all there is was given (M2)
        assert used <= stats.limit_bytes or bare, f"R4: {stats.used_bytes} bytes used, limit {stats.limit_bytes}"
    if stats.limit_bytes is not None and stats.ceiling_bytes is not None:
        assert stats.limit_bytes <= stats.ceiling_bytes, f"R4: limit {stats.limit_bytes} over {stats.ceiling_bytes}"
    for mapping in (stats.used_bytes, stats.charged_bytes):
        assert all(value >= 0 for value in (mapping or {}).values()), f"R4: negative: {dict(mapping or {})}"
    if stats.logical_bytes is not None and stats.unique_bytes is not None:
        assert stats.logical_bytes >= stats.unique_bytes, f"R5: logical {stats.logical_bytes} < {stats.unique_bytes}"
    if stats.used_bytes is not None and stats.unique_bytes is not None and stats.resident_pages is not None:
        pages = stats.used_bytes.get("pages", 0)
        bound = stats.unique_bytes + RECORD_OVERHEAD_BYTES * stats.resident_pages
        assert pages <= bound, (
            f"R5: {pages} bytes hold {stats.unique_bytes} unique ones of {stats.resident_pages} pages"
        )


def _check_labels(stats: Stats) -> None:
    for name, allowed in FAMILIES.items():
        family: Mapping[str, int] = getattr(stats, name) or {}
        strange = set(family) - set(allowed)
        assert not strange, f"N3: {name} has labels {sorted(strange)}; allowed: {', '.join(allowed)}"
        assert all(value >= 0 for value in family.values()), f"N2: {name} {dict(family)}"
    strange = set(stats.used_bytes or {}) - set(USED)
    assert not strange, f"N3: used_bytes has parts {sorted(strange)}; allowed: {', '.join(USED)}"


def _check_rising(before: Stats, stats: Stats) -> None:
    for name in COUNTERS:
        old, new = getattr(before, name), getattr(stats, name)
        assert new >= old, f"N2: {name} fell from {old} to {new}"
    for name in FAMILIES:
        for label, old in (getattr(before, name) or {}).items():
            new = (getattr(stats, name) or {}).get(label, 0)
            assert new >= old, f"N2: {name}[{label}] fell from {old} to {new}"


class Miss:
    """The reason of the last miss, read off the counters (N4); for one thread only.

    >>> from cleancache.testing import Shelf
    >>> shelf = Shelf()
    >>> with Miss(shelf) as miss:
    ...     _ = shelf.get(Handle(bytes(16), bytes(24), 0))
    >>> miss.reason
    'absent'
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.reason: str | None = None

    def __enter__(self) -> Miss:
        self._before = dict(self._backend.stats().misses)
        return self

    def __exit__(self, *_: object) -> None:
        after = self._backend.stats().misses
        risen = [label for label, value in after.items() if value > self._before.get(label, 0)]
        self.reason = risen[0] if len(risen) == 1 else None
