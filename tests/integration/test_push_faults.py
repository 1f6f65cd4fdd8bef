"""Pushes while Redis or PostgreSQL is away: nobody waits for them, nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from redis.asyncio import Redis

from tests.integration.store_gates import opened
from tests.push_workers import Ground, ground, until
from veredus.core.errors import StoreUnavailable
from veredus.server.process.embedded import Embedded


@pytest.fixture
async def there(own_stores: Embedded, own_database: str) -> AsyncIterator[Ground]:
    async with opened(own_database) as world, ground(world, own_stores.redis_url) as made:
        yield made


@contextmanager
def running(*work: asyncio.Task[None]) -> Iterator[None]:
    try:
        yield
    finally:
        for task in work:
            task.cancel()


async def test_without_redis_a_push_becomes_due_and_is_carried_out_when_redis_is_back(there: Ground, own_stores: Embedded) -> None:
    worker, device = there.worker(remake=0.01), await there.device()
    await asyncio.to_thread(own_stores.redis.kill)
    with running(asyncio.create_task(worker.pushes.run()), asyncio.create_task(worker.queue.run())):
        assert await worker.queue.due({device: 1}) == [device]
        await until(lambda: worker.pushes.counters.queue_dropped == 1 and worker.pushes.counters.transport_failures > 0)
        await asyncio.to_thread(own_stores.redis.start)
        await there.pass_time(31)
        await until(lambda: worker.provider.told == [(device, True)])


async def test_a_redis_that_takes_no_writes_is_as_good_as_away(there: Ground, own_stores: Embedded) -> None:
    worker, device = there.worker(), await there.device()
    async with Redis.from_url(own_stores.redis_url) as raw:
        await worker.jobs.take(1)
        await raw.config_set("min-replicas-to-write", 1)
        await worker.queue.due({device: 1})
        await worker.queue.flush()
        assert worker.pushes.counters.queue_dropped == 1
        with pytest.raises(ConnectionError):
            await worker.jobs.add([device])
        await raw.config_set("min-replicas-to-write", 0)
    await there.pass_time(31)
    await worker.pushes.remake()
    await worker.pushes.turn()
    assert worker.provider.told == [(device, True)]


async def test_a_push_sent_while_postgresql_restarts_is_recorded_and_not_sent_again(there: Ground, own_stores: Embedded) -> None:
    worker, device = there.worker(remake=0.01), await there.device()
    worker.provider.gate = asyncio.Event()
    await worker.queue.due({device: 1})
    await worker.queue.flush()
    turn = asyncio.create_task(worker.pushes.turn())
    await worker.provider.asked.wait()
    await asyncio.to_thread(own_stores.postgres.kill)
    worker.provider.gate.set()
    await until(lambda: worker.pushes.counters.record_retries > 0)
    await asyncio.to_thread(own_stores.postgres.start)
    await turn
    state = await there.state(device)
    assert (state["sent"], state["told"]) == (1, True)
    assert worker.provider.told == [(device, True)]


async def test_a_job_taken_while_postgresql_is_away_is_taken_over_when_it_is_back(there: Ground, own_stores: Embedded) -> None:
    worker, device = there.worker(idle=0.0), await there.device()
    await worker.queue.due({device: 1})
    await worker.queue.flush()
    await asyncio.to_thread(own_stores.postgres.kill)
    with pytest.raises(StoreUnavailable):
        await worker.pushes.turn()
    await asyncio.to_thread(own_stores.postgres.start)
    await worker.pushes.take_over()
    assert worker.provider.told == [(device, True)]
