"""The state machine, the campaign and the race on the reference back end, and how fast they are."""

from __future__ import annotations

import pytest

from cleancache.testing import Full, Plan, Rig, Shelf, Switch, campaign, first_seed, race
from cleancache.testing.machine import run_machine


def _rig() -> Rig:
    full = Full(Shelf(max_pages=9), None)
    switch = Switch(lambda: setattr(full, "reason", "frozen"), lambda: setattr(full, "reason", None), refuses="frozen")
    return Rig(full, {"frozen": switch})


def test_V15_the_machine_agrees_with_the_reference() -> None:
    run_machine(Shelf, max_page_bytes=1 << 20)
    run_machine(_rig)


def test_V15_the_lawful_machine_agrees_with_the_reference() -> None:
    run_machine(_rig, mode="lawful")


def test_V15_a_campaign_agrees_with_the_reference() -> None:
    assert campaign(_rig(), seed=first_seed(), steps=5000) > 5000
    assert campaign(Shelf(), seed=first_seed(), steps=5000, plan=Plan(mode="lawful")) > 5000


@pytest.mark.slow
def test_V15_a_race_agrees_with_the_reference() -> None:
    assert race(_rig(), seed=first_seed(), seconds=2, threads=8) > 5000
