"""The bus while its connections break, Redis stops, pauses or comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.bus_workers import PATIENT, Make, Stranger, Told, row, stranger_on, until, workers
from veredus.server.cluster.bus import RedisBus
from veredus.server.cluster.bus_link import AWAY, dedicated
from veredus.server.process.embedded import Embedded

HASTY = msgspec.structs.replace(PATIENT, publish=0.3, silence=1.0)


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Make]:
    async with workers(redis_url) as make:
        yield make


@pytest.fixture
async def stranger(redis_url: str) -> AsyncIterator[Stranger]:
    async with stranger_on(redis_url) as stranger:
        yield stranger


async def published(bus: RedisBus, holds: Callable[[], bool], first: int = 1) -> int:
    """Publish rows for "two" one after the other until it holds; the number of the last."""
    number = first
    while True:
        await bus.publish({"two": [row(number)]})
        await asyncio.sleep(0)  # while Redis is away publishing does not wait for anything
        if holds():
            return number
        number += 1


def at_once(answer: Coroutine[Any, Any, set[str]]) -> set[str]:
    """The answer of a call that waits for nothing."""
    try:
        answer.send(None)
    except StopIteration as end:
        value: set[str] = end.value
        return value
    answer.close()
    raise AssertionError("it waits")


def assert_in_order(told: Told) -> None:
    assert told.ids == sorted(set(told.ids))


@pytest.mark.requirement("WS-10")
async def test_a_killed_subscription_is_made_again_and_told_once_it_hears(worker: Make, stranger: Stranger) -> None:
    (one, _), (two, told) = await worker("one"), await worker("two")
    last = await published(one, lambda: len(told.ids) > 10)
    await stranger.client.client_kill_filter(_type="pubsub")
    last = await published(one, lambda: told.interruptions > 0, last + 1)
    last = await published(one, lambda: last < told.ids[-1], last + 1)
    await told.until(lambda: told.ids[-1] == last)
    assert two.counters.subscriber_connects == 2
    assert told.interruptions == 1  # the numbers missed meanwhile are part of it
    assert_in_order(told)


async def test_a_killed_publisher_comes_back_and_what_it_lost_is_noticed(worker: Make, stranger: Stranger) -> None:
    (one, _), (_, told) = await worker("one"), await worker("two")
    last = await published(one, lambda: len(told.ids) > 10)
    await stranger.client.client_kill_filter(_type="normal", skipme=True)
    last = await published(one, lambda: one.counters.failed_frames > 0, last + 1)
    last = await published(one, lambda: one.counters.publisher_connects == 2 and last < told.ids[-1], last + 1)
    await told.until(lambda: told.ids[-1] == last)
    assert told.interruptions >= 1
    assert_in_order(told)


async def test_a_loss_is_noticed_although_nothing_is_sent_afterwards(worker: Make, stranger: Stranger) -> None:
    (one, _), (_, told) = await worker("one"), await worker("two")
    await stranger.client.client_kill_filter(_type="normal", skipme=True)
    await published(one, lambda: one.counters.failed_frames > 0)
    await told.until(lambda: told.interruptions > 0)


async def test_both_connections_killed_again_and_again_lose_no_interruption(worker: Make, stranger: Stranger) -> None:
    (one, _), (two, told) = await worker("one"), await worker("two")
    last = 0
    for round_ in range(1, 11):
        before = told.interruptions
        kind = "pubsub" if round_ % 2 else "normal"
        await stranger.client.client_kill_filter(_type=kind, skipme=True)
        last = await published(one, partial(told.interrupted_more_than, before), last + 1)
    last = await published(one, lambda: last < told.ids[-1], last + 1)
    await told.until(lambda: told.ids[-1] == last)
    assert_in_order(told)
    assert one.counters.faults == two.counters.faults == 0


async def test_while_redis_is_away_publishing_waits_for_nothing_and_devices_are_looked_into(own_stores: Embedded) -> None:
    async with workers(own_stores.redis_url) as worker:
        (one, _), (two, told) = await worker("one", HASTY), await worker("two", HASTY)
        await asyncio.to_thread(own_stores.redis.stop)
        await published(one, lambda: one.counters.failed_frames > 0)
        for number in range(100):
            assert at_once(one.publish({"two": [row(number)]})) == set()
        await told.until(lambda: two.counters.blind_looks >= 2)
        assert told.interruptions >= 2
        before = told.interruptions
        await asyncio.to_thread(own_stores.redis.start)
        await published(one, lambda: told.ids[-1:] > [1000], 1001)
        assert told.interruptions > before
        assert one.counters.faults == two.counters.faults == 0


async def test_a_bus_starts_without_redis_and_tells_when_it_hears(own_stores: Embedded) -> None:
    await asyncio.to_thread(own_stores.redis.stop)
    async with workers(own_stores.redis_url) as worker:
        one, told = await worker("one", HASTY)
        assert await one.publish({"two": [row(1)]}) == set()
        await asyncio.to_thread(own_stores.redis.start)
        await until(lambda: one.counters.subscriber_connects > 0)
        assert told.interruptions >= 1


async def test_a_pause_of_redis_holds_up_a_publish_for_its_time_only(own_stores: Embedded) -> None:
    async with workers(own_stores.redis_url) as worker, stranger_on(own_stores.redis_url) as stranger:
        (one, _), (_, told) = await worker("one", HASTY), await worker("two", HASTY)
        await published(one, lambda: 1 in told.ids)
        await stranger.client.client_pause(3000)
        await published(one, lambda: one.counters.failed_frames > 1, 2)
        await published(one, lambda: told.ids[-1:] > [1000], 1001)
        assert told.interruptions >= 1
        assert_in_order(told)


async def test_a_pause_of_writes_alone_makes_redis_away_as_well(own_stores: Embedded) -> None:
    async with workers(own_stores.redis_url) as worker, stranger_on(own_stores.redis_url) as stranger:
        (one, _), (_, told) = await worker("one", HASTY), await worker("two", HASTY)
        await published(one, lambda: 1 in told.ids)
        await stranger.client.client_pause(2500, all=False)
        await published(one, lambda: one.counters.failed_frames > 0, 2)
        while one.counters.publisher_connects < 4:  # connecting works
            assert at_once(one.publish({"two": [row(2)]})) == set()
            await asyncio.sleep(0)
        await published(one, lambda: told.ids[-1:] > [1000], 1001)
        assert told.interruptions >= 1


# ---- what we rely on in redis-py


async def test_the_client_of_redis_py_subscribes_again_without_a_word(redis_url: str, stranger: Stranger) -> None:
    """Why the bus has connections of its own."""
    retry = Retry(NoBackoff(), 1)
    async with Redis.from_url(redis_url, retry=retry) as client, client.pubsub(ignore_subscribe_messages=True) as heard:
        await heard.subscribe("channel")
        await heard.get_message(timeout=5.0)
        await stranger.client.client_kill_filter(_type="pubsub")
        while not await stranger.client.publish("channel", "after the break"):
            await heard.get_message(timeout=0.01)
        message = await heard.get_message(timeout=5.0)
        while message is None:
            message = await heard.get_message(timeout=5.0)
        assert message["data"] == b"after the break"


async def test_a_dedicated_connection_says_when_it_broke_and_does_not_come_back_by_itself(redis_url: str, stranger: Stranger) -> None:
    async with Redis.from_url(redis_url) as client:
        connection = dedicated(client)
        await connection.connect()
        await connection.send_command("SUBSCRIBE", "channel", check_health=False)
        assert (await connection.read_response())[0] == b"subscribe"
        await stranger.client.client_kill_filter(_type="pubsub")
        with pytest.raises(AWAY):
            await connection.read_response()
        assert not connection.is_connected
        with pytest.raises(RedisError):
            await connection.read_response()
        assert await stranger.client.publish("channel", "nobody hears it") == 0
