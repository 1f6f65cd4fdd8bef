"""Three workers on one port: devices are anywhere, and faults hit while messages cross between workers (P1 to P5, P7)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis.asyncio

from tests.chaos.ground import ground
from tests.checker.workload import Mix, Workload
from tests.supervised import Supervised
from veredus.server.process.embedded import Embedded

MIX = Mix(quiescence_seconds=60.0, drain_seconds=30.0, reconnect=0.004)
MESSAGES = 600


@dataclass
class Scene:
    """What a fault may lay hands on."""

    service: Supervised
    redis_url: str
    stores: Embedded | None = None

    async def redis(self, *command: str) -> None:
        async with redis.asyncio.Redis.from_url(self.redis_url) as client:
            await client.execute_command(*command)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def three_workers(folder: Path, dsn: str, redis_url: str, stores: Embedded | None = None) -> AsyncIterator[tuple[Workload, Scene]]:
    async with ground(folder, dsn, redis_url) as place:
        accounts = await place.accounts(4, devices=2)
        with Supervised(folder, workers=3).with_workers_of(place.file).listen_on(place.port) as service:
            await asyncio.to_thread(service.started)
            yield Workload(place.url, accounts, seed=31, mix=MIX), Scene(service, redis_url, stores)


async def kept(workload: Workload, fault: Callable[[], Awaitable[None]]) -> None:
    """The promises hold over a workload that the fault hits twice."""
    async with asyncio.timeout(110):
        running = asyncio.ensure_future(workload.run(MESSAGES))
        for sent in (120, 300):
            await workload.reached(sent)
            await fault()
        report = await running
    assert report.kept, str(report)


@pytest.mark.requirement("MSG-21", "MSG-33", "WS-10", "MSG-12", "SYN-6")
async def test_messages_cross_between_workers(database: str, redis_url: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, database, redis_url) as (workload, _):

        async def nothing() -> None:
            return

        await kept(workload, nothing)


async def test_a_worker_killed_at_a_random_moment(database: str, redis_url: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, database, redis_url) as (workload, scene):

        async def kill() -> None:
            seen = len(scene.service.events)
            os.kill(scene.service.serving()[seen % 3], signal.SIGKILL)
            await asyncio.to_thread(scene.service.wait_for, "serving", since=seen)

        await kept(workload, kill)


async def test_a_rolling_restart_under_load(database: str, redis_url: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, database, redis_url) as (workload, scene):

        async def roll() -> None:
            scene.service.signal(signal.SIGHUP)
            await asyncio.sleep(0)

        await kept(workload, roll)


async def test_redis_wiped_under_load(database: str, redis_url: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, database, redis_url) as (workload, scene):
        await kept(workload, lambda: scene.redis("FLUSHDB"))


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_connections_to_redis_cut_under_load(kind: str, own_stores: Embedded, own_database: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, own_database, own_stores.redis_url) as (workload, scene):
        await kept(workload, lambda: scene.redis("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"))


async def test_redis_killed_and_started_under_load(own_stores: Embedded, own_database: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, own_database, own_stores.redis_url, own_stores) as (workload, _):

        async def kill() -> None:
            await asyncio.to_thread(own_stores.redis.kill)
            await asyncio.to_thread(own_stores.redis.start)

        await kept(workload, kill)


async def test_redis_paused_under_load(own_stores: Embedded, own_database: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, own_database, own_stores.redis_url) as (workload, scene):
        await kept(workload, lambda: scene.redis("CLIENT", "PAUSE", "3000", "ALL"))


async def test_postgresql_killed_under_load_of_three_workers(own_stores: Embedded, own_database: str, tmp_path: Path) -> None:
    async with three_workers(tmp_path, own_database, own_stores.redis_url) as (workload, _):

        async def kill() -> None:
            await asyncio.to_thread(own_stores.postgres.kill)
            await asyncio.to_thread(own_stores.postgres.start)

        await kept(workload, kill)
