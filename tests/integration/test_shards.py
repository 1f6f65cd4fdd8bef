"""Two Redis servers share presence: each holds its own devices, and takes only those with it when it goes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis

from tests.presence_workers import CLOCK, LONG, Told, until
from tests.stores import SecondRedis
from veredus.core.model import Account, Device
from veredus.server.cluster import keys
from veredus.server.cluster.redis import connect
from veredus.server.cluster.sharded_presence import ShardedPresence
from veredus.server.cluster.shards import Shards, connect_all, name_of
from veredus.server.cluster.timing import Timing
from veredus.server.process.embedded import Embedded
from veredus.server.secret import Secret

DEVICES = list(range(1, 201))
LOOKING = Timing(renew=0.05, retry=0.01, locate=5.0, command=5.0)  # often, and leases outlive the test


class Workers:
    """Makes workers with presence on both servers."""

    def __init__(self, urls: list[str], stack: AsyncExitStack) -> None:
        self.urls = urls
        self._stack = stack

    async def __call__(self, name: str, timing: Timing = LONG, urls: list[str] | None = None) -> tuple[ShardedPresence, Told]:
        shards = Shards(connect(Secret(url), seconds=5.0) for url in urls or self.urls)
        self._stack.push_async_callback(shards.aclose)
        told = Told()
        presence = ShardedPresence(shards, name, told, CLOCK, timing)
        await presence.start()
        self._stack.push_async_callback(presence.close)
        return presence, told


@pytest.fixture
async def worker(redis_url: str, second_redis: SecondRedis) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        yield Workers([redis_url, second_redis.redis_url], stack)


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url, decode_responses=True) as client:
        yield client


async def entries(url: str) -> set[int]:
    async with raw(url) as client:
        return {int(device) for device in await client.hkeys(keys.DEVICES) if device != "marker"}


def held_by(urls: list[str], url: str) -> set[int]:
    """Which of `DEVICES` the ring gives to that server."""
    ring = connect_all([Secret(each) for each in urls]).ring
    return {device for device in DEVICES if ring.owner(device) == name_of(Redis.from_url(url))}


async def test_each_server_holds_the_devices_the_ring_gives_it_and_every_lease(worker: Workers) -> None:
    (one, _), (two, _) = await worker("one"), await worker("two", urls=worker.urls[::-1])
    assert await one.claim(DEVICES) == [None] * len(DEVICES)
    found = await two.locate(DEVICES)
    assert set(found) == set(DEVICES)
    assert {(each.worker, each.incarnation) for each in found.values()} == {("one", one.incarnation)}
    for url in worker.urls:
        assert await entries(url) == held_by(worker.urls, url) != set()
        async with raw(url) as client:
            assert {await client.get(keys.LEASE + name) for name in ("one", "two")} == {one.incarnation, two.incarnation}


async def test_claims_answer_in_order_whom_they_displaced_and_releases_reach_every_server(worker: Workers) -> None:
    (one, _), (two, _) = await worker("one"), await worker("two")
    await one.claim(DEVICES[::2])
    displaced = await two.claim(DEVICES)
    assert [bool(other) for other in displaced] == [True, False] * (len(DEVICES) // 2)
    await two.release(DEVICES)

    async def gone() -> bool:
        return not await one.locate(DEVICES)

    await until(gone)
    assert two.settled


async def test_a_batch_is_the_same_commands_on_every_server_whatever_its_size(worker: Workers) -> None:
    one, _ = await worker("one")
    await one.claim(DEVICES)
    for url in worker.urls:
        async with raw(url) as client:
            await client.config_resetstat()
    await one.locate(DEVICES)
    for url in worker.urls:
        async with raw(url) as client:
            stats = await client.info("commandstats")
            assert {name: stats[f"cmdstat_{name}"]["calls"] for name in ("hmget", "mget")} == {"hmget": 1, "mget": 1}


async def test_a_device_of_an_account_is_online_wherever_it_is_held(worker: Workers) -> None:
    one, _ = await worker("one")
    account = Account(1, b"a" * 16, 1, {n: Device(device, n, 0) for n, device in enumerate(DEVICES[:16], 1)})
    await one.claim(DEVICES[:15])
    assert [await one.is_online(account, n) for n in (*range(1, 16), 16, 17)] == [True] * 15 + [False] * 2


async def test_a_server_that_is_away_takes_its_devices_only_and_gets_them_back(worker: Workers, second_redis: SecondRedis) -> None:
    one, told = await worker("one", LOOKING)
    lost = held_by(worker.urls, second_redis.redis_url)
    kept = set(DEVICES) - lost
    await one.claim(DEVICES)
    second_redis.kill()
    await one.locate(DEVICES)  # the first to notice
    async with asyncio.timeout(2.0):
        assert set(await one.locate(DEVICES)) == kept
        assert await one.claim([1000, 1001, 1002, 1003, 1004, 1005]) == [None] * 6
    assert not one.settled
    assert one.counters.failures >= 1
    second_redis.start()
    await told.until(lambda: lost <= set(told.claims))
    assert set(await one.locate(DEVICES)) == set(DEVICES)
    assert not kept & set(told.claims), "nobody needs to look into the mailboxes of the others"


async def test_a_server_that_hangs_delays_nothing_on_the_other_after_it_was_noticed(worker: Workers, second_redis: SecondRedis) -> None:
    one, _ = await worker("one", Timing(retry=0.01, locate=1.0, command=1.0))
    lost = held_by(worker.urls, second_redis.redis_url)
    await one.claim(DEVICES)
    os.kill(second_redis.pid, signal.SIGSTOP)
    try:
        assert set(await one.locate(DEVICES)) == set(DEVICES) - lost
    finally:
        os.kill(second_redis.pid, signal.SIGCONT)

    async def back() -> bool:
        return set(await one.locate(DEVICES)) == set(DEVICES)

    await until(back)


async def test_one_server_is_presence_as_it_was(redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        one, _ = await Workers([redis_url], stack)("one")
        await one.claim(DEVICES)
        assert await entries(redis_url) == set(DEVICES) == set(await one.locate(DEVICES))


async def test_workers_are_ready_while_any_server_answers(own_stores: Embedded, second_redis: SecondRedis) -> None:
    shards = connect_all([Secret(own_stores.redis_url), Secret(second_redis.redis_url)])
    second_redis.kill()
    await shards.ping()
    own_stores.redis.stop()
    with pytest.raises(Exception, match=r"(?i)connect"):
        await shards.ping()
    await shards.aclose()


def test_servers_are_told_apart_without_their_credentials() -> None:
    shards = connect_all([Secret("redis://me:hunter2@Host:6380/3"), Secret("unix:///run/redis.sock?db=1")])
    assert set(shards.clients) == {"host:6380/3", "/run/redis.sock/1"} == set(shards.ring.members)
    with pytest.raises(ValueError, match="twice"):
        connect_all([Secret("redis://me:hunter2@host"), Secret("redis://HOST:6379/0")])
