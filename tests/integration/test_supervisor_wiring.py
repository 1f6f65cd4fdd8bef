"""The product's own worker under the supervisor: what clients saw is held against the promises while it is rolled, killed and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.ground import ground
from tests.checker.workload import Mix, Workload
from tests.supervised import Supervised

MIX = Mix(quiescence_seconds=30.0, drain_seconds=30.0, reconnect=0.002)


def roll(service: Supervised) -> None:
    service.signal(signal.SIGHUP)


def kill(service: Supervised) -> None:
    os.kill(service.serving()[0], signal.SIGKILL)


@pytest.mark.parametrize("fault", [roll, kill])
async def test_the_promises_hold_while_a_worker_is_replaced(
    fault: Callable[[Supervised], None], database: str, redis_url: str, tmp_path: Path
) -> None:
    async with ground(tmp_path, database, redis_url) as place:
        accounts = await place.accounts(3, devices=2)
        supervised = Supervised(tmp_path, workers=1).with_workers_of(place.file).listen_on(place.port)
        with supervised as service:
            await asyncio.to_thread(service.started)
            first = service.serving()[0]
            workload = Workload(place.url, accounts, seed=5, mix=MIX)
            async with asyncio.timeout(100):
                running = asyncio.ensure_future(workload.run(240))
                await workload.reached(60)
                seen = len(service.events)
                fault(service)
                await asyncio.to_thread(service.wait_for, "serving", since=seen)
                report = await running
            assert report.kept, str(report)
            assert report.tally.sent > 0
            assert service.serving()[0] != first
            service.signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.end) == 0
