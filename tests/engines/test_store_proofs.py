"""What only a Store promises: C6, C10, M1, M2, M4–M12, X20, D1, D6. The checks are in store_proofs.py."""

from __future__ import annotations

import pytest

from cleancache.store import Store
from tests.engines.store_proofs import PROOFS


@pytest.mark.parametrize("name", PROOFS)
def test_the_store_keeps(name: str) -> None:
    PROOFS[name](Store)
