"""Three workers over two Redis servers, of which one is killed, wiped or away while messages cross (P1 to P5, P7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis.asyncio

from tests.chaos.ground import ground
from tests.chaos.test_many_workers import MIX, kept
from tests.checker.workload import Workload
from tests.stores import SecondRedis
from tests.supervised import Supervised
from veredus.server.cluster import keys


@asynccontextmanager
async def three_workers(folder: Path, dsn: str, urls: list[str]) -> AsyncIterator[Workload]:
    async with ground(folder, dsn, urls[0]) as place:
        place.file.write_text(place.file.read_text().replace(f"redis_url: {urls[0]!r}", f"redis_urls: {urls!r}"))
        accounts = await place.accounts(4, devices=2)
        with Supervised(folder, workers=3).with_workers_of(place.file).listen_on(place.port) as service:
            await asyncio.to_thread(service.started)
            yield Workload(place.url, accounts, seed=32, mix=MIX)


async def test_one_of_two_redis_killed_and_started_under_load(
    database: str, redis_url: str, second_redis: SecondRedis, tmp_path: Path
) -> None:
    async with three_workers(tmp_path, database, [redis_url, second_redis.redis_url]) as workload:

        async def kill() -> None:
            second_redis.kill()
            second_redis.start()

        await kept(workload, kill)


async def test_one_of_two_redis_away_for_a_while_under_load(
    database: str, redis_url: str, second_redis: SecondRedis, tmp_path: Path
) -> None:
    async with three_workers(tmp_path, database, [redis_url, second_redis.redis_url]) as workload:
        steps = iter([second_redis.kill, second_redis.start])

        async def next_step() -> None:
            next(steps)()

        async with redis.asyncio.Redis.from_url(second_redis.redis_url) as client:
            assert len(await client.keys(f"{keys.LEASE}*")) == 3, "it is in use"

        await kept(workload, next_step)


async def test_each_of_two_redis_wiped_in_turn_under_load(database: str, redis_url: str, second_redis: SecondRedis, tmp_path: Path) -> None:
    urls = [redis_url, second_redis.redis_url]
    async with three_workers(tmp_path, database, urls) as workload:
        turns = iter(urls)

        async def wipe() -> None:
            async with redis.asyncio.Redis.from_url(next(turns)) as client:
                await client.flushdb()

        await kept(workload, wipe)
