"""kill -9 of a worker at every step between acceptance and removal (P1 to P4, P7): what clients saw is held against the promises."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.gated import BROKEN, GATES
from tests.chaos.ground import ground
from tests.checker.workload import Mix, Workload

MIX = Mix(quiescence_seconds=30.0, drain_seconds=30.0, reconnect=0.002)


@pytest.mark.requirement("MSG-25", "WS-11", "MSG-32")
@pytest.mark.parametrize("step", GATES)
async def test_a_worker_killed_at_any_step_loses_doubles_and_reorders_nothing(
    step: str, database: str, redis_url: str, tmp_path: Path
) -> None:
    async with ground(tmp_path, database, redis_url) as place:
        accounts = await place.accounts(3, devices=2)
        worker = await place.worker(step, passes=4)
        workload = Workload(place.url, accounts, seed=7, mix=MIX)
        async with asyncio.timeout(100):
            running = asyncio.ensure_future(workload.run(240))
            await worker.line("reached")
            worker.kill()
            await worker.ended()
            await place.worker()
            report = await running
        assert report.kept, str(report)
        assert report.tally.sent > 0


async def test_a_worker_that_loses_a_part_ends_whole_instead_of_taking_messages_for_nothing(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    """P7: a supervisor replaces a worker that ended; half a worker nobody replaces."""
    async with ground(tmp_path, database, redis_url) as place:
        accounts = await place.accounts(3)
        worker = await place.worker(BROKEN, passes=4)
        workload = Workload(place.url, accounts, seed=13, mix=MIX)
        async with asyncio.timeout(100):
            running = asyncio.ensure_future(workload.run(150))
            assert await worker.ended() != 0
            await place.worker()
            report = await running
        assert report.kept, str(report)


async def test_a_worker_that_is_told_to_stop_finishes_what_it_took(database: str, redis_url: str, tmp_path: Path) -> None:
    import signal

    async with ground(tmp_path, database, redis_url) as place:
        accounts = await place.accounts(4)
        worker = await place.worker()
        workload = Workload(place.url, accounts, seed=11, mix=MIX)
        async with asyncio.timeout(100):
            running = asyncio.ensure_future(workload.run(400))
            await workload.reached(100)
            worker.signal(signal.SIGTERM)
            assert await worker.ended() == 0
            await place.worker()
            report = await running
        assert report.kept, str(report)
