"""SIGSTOP of a worker under load, then SIGCONT: it holds senders with commits under way and recipients with rows in flight (P1 to P5).

Either its devices wait for it, or they give it up and connect to another worker, and the old one wakes up believing in them.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from tests.chaos.ground import ground
from tests.chaos.test_many_workers import MESSAGES, MIX
from tests.checker.workload import Workload
from tests.supervised import Supervised
from veredus.client import Config

STOPPED_SECONDS = 4.0  # the bus takes a worker for gone after 3, and the worker itself for having stood still
WAITING = Config(backoff_first_seconds=0.05, backoff_most_seconds=1.0)
# A new connection may meet the stopped worker again: it is given up soon.
LEAVING = Config(backoff_first_seconds=0.05, backoff_most_seconds=0.2, ping_seconds=0.5, connect_seconds=0.5)


@pytest.mark.parametrize("config", [WAITING, LEAVING], ids=["its devices wait", "its devices connect elsewhere"])
async def test_a_worker_stopped_and_continued_under_load(config: Config, database: str, redis_url: str, tmp_path: Path) -> None:
    mix = msgspec.structs.replace(MIX, config=config)
    async with ground(tmp_path, database, redis_url) as place:
        accounts = await place.accounts(4, devices=2)
        # No hang is noticed: a worker that is killed is another test.
        with Supervised(tmp_path, workers=3, hang_seconds=60.0).with_workers_of(place.file).listen_on(place.port) as service:
            await asyncio.to_thread(service.started)
            workload = Workload(place.url, accounts, seed=41, mix=mix)
            async with asyncio.timeout(110):
                running = asyncio.ensure_future(workload.run(MESSAGES))
                for number, sent in enumerate((60, 200)):
                    await workload.reached(sent)
                    pid = service.serving()[number]
                    os.kill(pid, signal.SIGSTOP)
                    await asyncio.sleep(STOPPED_SECONDS)
                    os.kill(pid, signal.SIGCONT)
                report = await running
    assert report.kept, str(report)


async def test_a_supervisor_killed_under_load_and_another_started(database: str, redis_url: str, tmp_path: Path) -> None:
    """Its workers end by themselves, and their successors take over what they held."""
    async with ground(tmp_path, database, redis_url) as place:
        accounts = await place.accounts(4, devices=2)
        first = Supervised(tmp_path, workers=3).with_workers_of(place.file).listen_on(place.port)
        second = Supervised(tmp_path, workers=3, address_seconds=20.0).with_workers_of(place.file).listen_on(place.port)
        with first:
            await asyncio.to_thread(first.started)
            workload = Workload(place.url, accounts, seed=43, mix=MIX)
            async with asyncio.timeout(110):
                running = asyncio.ensure_future(workload.run(MESSAGES))
                await workload.reached(120)
                first.signal(signal.SIGKILL)
                with second.start():
                    await asyncio.to_thread(second.settled)
                    report = await running
    assert report.kept, str(report)
