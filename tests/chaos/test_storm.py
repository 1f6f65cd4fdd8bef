"""A short storm: a handful of faults on two nodes, the same at every run. `make chaos` rages longer."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.storm import Options, storm
from tests.chaos.storm_faults import HANDFUL, KINDS, schedule


@pytest.mark.requirement("MSG-21", "MSG-33", "WS-10")
async def test_a_short_storm_over_two_nodes_breaks_no_promise() -> None:
    options = Options(duration=24.0, seed=20, accounts=4, pause=0.2, calm=2.0)
    plan = schedule(options.seed, options.duration, HANDFUL, options.calm, options.together)
    assert len(plan) >= 5
    async with asyncio.timeout(110):
        outcome = await storm(options, plan)
    assert outcome.kept, str(outcome)
    assert outcome.sent > 100


def test_the_same_seed_makes_the_same_storm_and_leaves_no_kind_out() -> None:
    plan = schedule(5, 600.0)
    assert plan == schedule(5, 600.0)
    assert plan != schedule(6, 600.0)
    assert {planned.name for planned in plan} == set(KINDS)
