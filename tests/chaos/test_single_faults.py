"""One fault at a time over two nodes: those that need a network of its own, a second node, or clients in processes of their own."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.storm import Options, storm
from tests.chaos.storm_faults import Planned

FAULTS = {
    "supervisor killed": 0.5,
    "redis silent": 4.0,  # longer than the bus waits before it looks by itself
    "bus doubled": 2.0,
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
