"""Debts: coarser when there are many, never forgotten, paid in order (laws 1.6, C11)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cleancache.debts import EVERYTHING, MAX_FLUSHES, MAX_PAGES, Debts
from cleancache.handle import Handle, Scope

POOLS = [bytes([number]) * 16 for number in range(3)]
OBJECTS = [bytes([number]) * 24 for number in range(40)]
PLACES = st.builds(Handle, st.sampled_from(POOLS), st.sampled_from(OBJECTS), st.integers(0, 5))
SCOPES = st.builds(lambda handle, kind: Scope(*handle[:kind]), PLACES, st.sampled_from([1, 2, 2, 3, 3, 3, 3, 3]))


@given(st.lists(st.tuples(SCOPES, st.booleans()), max_size=300), st.lists(PLACES, max_size=30))
def test_C11_what_is_owed_is_covered_until_a_scope_that_covers_it_was_paid(
    owed: list[tuple[Scope, bool]], asked: list[Handle]
) -> None:
    debts = Debts()
    for scope, refused in owed:
        debts.owe(scope, refused=refused and scope.kind == "page")

    asked += [Handle(scope.pool, scope.object or OBJECTS[0], scope.page or 0) for scope, _ in owed]
    due = {handle for handle in asked if any(scope.covers(handle) for scope, _ in owed)}
    assert all(debts.covers(handle) for handle in due)
    assert len(debts) <= MAX_FLUSHES + MAX_PAGES
    while (debt := debts.first()) is not None:
        scope, stamp = debt
        debts.settle(scope, stamp)
        due -= {handle for handle in due if scope == EVERYTHING or scope.covers(handle)}
        assert all(debts.covers(handle) for handle in due)
    assert not due
    assert len(debts) == 0


def test_debts_are_paid_oldest_first() -> None:
    debts, scopes = Debts(), [Scope(POOLS[0], obj) for obj in OBJECTS[:5]]
    for scope in scopes:
        debts.owe(scope)
    debts.owe(Scope(POOLS[1], OBJECTS[0], 1), refused=True)
    debts.owe(scopes[0])  # owed again: the last now

    paid = []
    while (debt := debts.first()) is not None:
        paid.append(debt[0])
        debts.settle(*debt)

    assert paid == [*scopes[1:], Scope(POOLS[1], OBJECTS[0], 1), scopes[0]]


def test_C11_a_debt_renewed_while_it_is_paid_is_not_settled() -> None:
    debts = Debts()
    debts.owe(Scope(POOLS[0]))
    debt = debts.first()
    assert debt is not None
    debts.owe(Scope(POOLS[0]))
    debts.settle(*debt)

    assert len(debts) == 1


def test_flushes_collapse_to_objects_then_pools_then_everything() -> None:
    debts = Debts()
    for page in range(MAX_FLUSHES + 1):
        debts.owe(Scope(POOLS[0], OBJECTS[0], page))
    assert (len(debts), debts.first()) == (1, (Scope(POOLS[0], OBJECTS[0]), MAX_FLUSHES + 1))
    for number in range(1, MAX_FLUSHES + 1):
        debts.owe(Scope(POOLS[0], number.to_bytes(24, "big")))
    assert debts.pools() == {POOLS[0]}
    assert len(debts) == 1
    for number in range(1, MAX_FLUSHES + 1):
        debts.owe(Scope(number.to_bytes(16, "big")))
    assert debts.pools() == {EVERYTHING.pool}
    assert debts.covers(Handle(b"never named here", OBJECTS[0], 0))
    debts.owe(Scope(POOLS[0]))
    assert len(debts) == 1
