"""The public proving kit: the laws as a suite, a model, a state machine, and fakes. See docs/write-a-back-end.md.

Five lines prove a back end:

    from cleancache.testing import Laws

    class TestMine(Laws):
        def make(self):
            return Mine()

Nothing here needs pytest; `run_laws(Mine)` does the same and raises AssertionError. Only `machine` imports Hypothesis.
"""

from __future__ import annotations

from cleancache.testing.campaign import Plan, campaign, first_seed, race, soak_s
from cleancache.testing.contents import contents
from cleancache.testing.fakes import FakeClock, Flaky, Full, Slow
from cleancache.testing.laws import Laws, run_laws
from cleancache.testing.model import History, Model
from cleancache.testing.rig import Rig, Switch
from cleancache.testing.shelf import Shelf
from cleancache.testing.sums import Miss, check_sums

__all__ = [
    "FakeClock",
    "Flaky",
    "Full",
    "History",
    "Laws",
    "Miss",
    "Model",
    "Plan",
    "Rig",
    "Shelf",
    "Slow",
    "Switch",
    "campaign",
    "check_sums",
    "contents",
    "first_seed",
    "race",
    "run_laws",
    "soak_s",
]
