"""One fault at a time over two nodes: those that need a network of their own. `make chaos ARGS="--only NAME"` makes any other alone."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.storm import Options, storm
from tests.chaos.storm_faults import Planned

FAULTS = {
    "redis silent": 4.0,  # longer than the bus waits before it looks by itself
    "connections swallowed": 2.0,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_one_fault_over_two_nodes_breaks_no_promise(name: str) -> None:
    options = Options(duration=FAULTS[name] + 3.0, seed=3, accounts=4, pause=0.1)
    async with asyncio.timeout(110):
        outcome = await storm(options, [Planned(1.0, name, FAULTS[name], 7)])
    assert outcome.kept, str(outcome)
    assert [fault.name for fault in outcome.faults] == [name]
    assert outcome.sent > 50
