"""The limit of messages on a real Redis: two workers share it, a Redis away or wiped costs a second, and its keys tell nobody's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.unit.core.test_credentials import ManualClock
from veredus.core.clock import Clock, SystemClock
from veredus.core.limits import Limits
from veredus.core.messaging.counters import Counters
from veredus.core.messaging.ratelimit import UNITS, MessageLimit, Share
from veredus.server.cluster.limiter import PREFIX, RedisTally
from veredus.server.cluster.redis import connect
from veredus.server.process.embedded import Embedded
from veredus.server.secret import Secret

ME = 4711
RATE, BURST = 60, 10  # one a second: what flows back while a test runs is less than one
PEPPER = b"p" * 32


@asynccontextmanager
async def redis(url: str) -> AsyncIterator[Redis]:
    client = connect(Secret(url), seconds=5.0)
    try:
        yield client
    finally:
        await client.aclose()


def worker(client: Redis, clock: Clock | None = None, rate: int = RATE) -> MessageLimit:
    limits = Limits(messages_per_minute=rate, messages_burst=BURST)
    return MessageLimit(limits, clock or SystemClock(), Counters(), RedisTally(client, rate, PEPPER))


def drawn(limit: MessageLimit, most: int = 1000) -> int:
    """How many are granted until one is not."""
    return next((count for count in range(most) if limit.take(ME)), most)


@pytest.mark.requirement("RL-1")
async def test_two_workers_grant_no_more_than_the_limit_and_a_second_s_excess(redis_url: str) -> None:
    async with redis(redis_url) as client:
        clock = ManualClock()
        one, two = worker(client, clock), worker(client, clock)
        assert [one.take(ME) for _ in range(6)] == [0] * 6
        assert two.take(ME) == 0
        await one.settle()
        await two.settle()
        assert drawn(two) == 3, "seven were granted by both, and it knows"
        excess = drawn(one)
        assert excess == 4, "what it knew to be left when it last heard"
        await two.settle()
        await one.settle()
        assert drawn(one) == drawn(two) == 0
        assert one.wait(ME) > 4000, "the excess is owed"


async def test_a_batch_told_twice_adds_once(redis_url: str) -> None:
    async with redis(redis_url) as client:
        tally, other = RedisTally(client, 1, PEPPER), RedisTally(client, 1, PEPPER)
        shares = [Share(ME, 5 * UNITS, 5 * UNITS), Share(-1, UNITS, UNITS)]
        answers = [
            await tally.settle(1, shares),
            await tally.settle(1, shares),
            await other.settle(1, shares),
            await tally.settle(2, shares),
        ]
        assert [[round(units / UNITS) for units in answer] for answer in answers] == [[5, 1], [5, 1], [10, 2], [15, 3]]


async def test_a_bucket_flows_full_by_redis_own_clock_and_is_gone_then(redis_url: str) -> None:
    async with redis(redis_url) as client:
        tally = RedisTally(client, 60, PEPPER)
        [missing] = await tally.settle(1, [Share(ME, 5 * UNITS, 0)])
        assert missing == 5 * UNITS
        assert 4000 < await client.pttl(tally.name(ME)) <= 5000
        units, at = str(await client.get(tally.name(ME))).split()
        await client.set(tally.name(ME), f"{units} {int(at) - 2000}")
        [missing] = await tally.settle(2, [Share(ME, 0, 0)])
        assert 2 * UNITS < missing <= 3 * UNITS
        await client.set(tally.name(ME), f"{units} {int(at) + 3_600_000}")
        [missing] = await tally.settle(3, [Share(ME, 0, 0)])
        assert missing == 5 * UNITS, "a clock that went back stands still"
        await client.set(tally.name(ME), "of another form")
        assert await tally.settle(4, [Share(ME, UNITS, UNITS)]) == [UNITS]


async def test_a_wiped_redis_learns_it_again_from_the_workers(redis_url: str) -> None:
    async with redis(redis_url) as client:
        clock = ManualClock()
        one, two = worker(client, clock, rate=1), worker(client, clock, rate=1)
        assert drawn(one, 9) == 9
        await one.settle()
        await client.flushdb()
        assert one.take(ME) == 0
        await one.settle()
        assert two.take(ME) == 0
        await two.settle()
        assert drawn(two) == drawn(one) == 0


async def test_without_redis_each_worker_judges_alone_and_they_agree_again_when_it_is_back(own_stores: Embedded) -> None:
    async with redis(own_stores.redis_url) as client:
        clock = ManualClock()
        one, two = worker(client, clock, rate=1), worker(client, clock, rate=1)
        await asyncio.to_thread(own_stores.redis.stop)
        granted = drawn(one, 6) + drawn(two, 4)
        for limit in (one, two):
            await limit.settle()
            assert limit._counters.limit_failures == 1
        assert granted == 10
        assert drawn(one) == 4, "its own limit holds"
        with pytest.raises((RedisError, OSError)):
            await client.ping()
        await asyncio.to_thread(own_stores.redis.start)
        for limit in (one, two):
            await limit.settle()
        assert two.wait(ME) > 4 * 60_000, "fourteen are missing"
        assert two.untold == 0


async def test_redis_holds_no_account_s_number_and_only_keys_that_expire(redis_url: str) -> None:
    async with redis(redis_url) as client:
        one = worker(client)
        assert one.take(ME) == 0
        await one.settle()
        found = [key async for key in client.scan_iter()]
        assert len(found) == 2
        assert all(key.startswith(PREFIX) and str(ME) not in key for key in found)
        assert all([await client.pttl(key) > 0 for key in found])
        assert RedisTally(client, 1, b"another" * 5).name(ME) != RedisTally(client, 1, PEPPER).name(ME)
