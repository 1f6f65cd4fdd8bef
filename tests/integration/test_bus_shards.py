"""A bus over two Redis servers: each carries the channels of its own workers, and takes only those with it when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count

import msgspec
import pytest

from tests.bus_workers import CLOCK, PATIENT, Told, row, until
from tests.stores import SecondRedis
from veredus.server.cluster.bus import RedisBus
from veredus.server.cluster.bus_timing import BusTiming
from veredus.server.cluster.redis import connect
from veredus.server.cluster.shards import Shards, name_of
from veredus.server.secret import Secret

HASTY = msgspec.structs.replace(PATIENT, silence=0.3)


class Workers:
    """Makes workers with a bus on both servers."""

    def __init__(self, urls: list[str], stack: AsyncExitStack) -> None:
        self.urls = urls
        self._stack = stack

    def shards(self) -> Shards:
        return Shards(connect(Secret(url), seconds=5.0) for url in self.urls)

    def names(self, url: str, number: int = 1) -> list[str]:
        """Of workers whose channels that server carries."""
        shards, (client,) = self.shards(), Shards([connect(Secret(url))]).clients.values()
        all_names = (f"worker-{n}" for n in count())
        mine = (name for name in all_names if shards.of_worker(name) == name_of(client))
        return [next(mine) for _ in range(number)]

    async def __call__(self, name: str, timing: BusTiming = PATIENT) -> tuple[RedisBus, Told]:
        shards, told = self.shards(), Told()
        self._stack.push_async_callback(shards.aclose)
        bus = RedisBus(shards, name, "1", CLOCK, timing)
        bus.listen(told)
        await bus.start()
        self._stack.push_async_callback(bus.close)
        return bus, told


@pytest.fixture
async def worker(redis_url: str, second_redis: SecondRedis) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        yield Workers([redis_url, second_redis.redis_url], stack)


async def test_workers_reach_each_other_whichever_server_carries_their_channels(worker: Workers) -> None:
    first, third = worker.names(worker.urls[0], 2)
    (second,) = worker.names(worker.urls[1])
    made = {name: await worker(name) for name in (first, second, third)}
    for name, (bus, _) in made.items():
        others = [other for other in made if other != name]
        assert await bus.publish({other: [row(1)] for other in [*others, "nobody"]}) == {"nobody"}
    for bus, told in made.values():
        await told.until(lambda told=told: len(told.ids) == 2)  # type: ignore[misc]
        assert bus.counters.subscriber_connects == 1
        assert bus.counters.publisher_connects == 2


async def test_frames_keep_their_order_whether_a_call_touches_one_server_or_both(worker: Workers) -> None:
    (one,), (two, three) = worker.names(worker.urls[0]), worker.names(worker.urls[1], 2)
    bus, _ = await worker(three)
    (_, told_one), (_, told_two) = await worker(one), await worker(two)
    calls = []
    for number in range(0, 200, 2):
        calls.append(bus.publish({one: [row(number)], two: [row(number)]}))
        calls.append(bus.publish({two: [row(number + 1)]}))
    assert await asyncio.gather(*calls) == [set()] * 200
    await told_one.until(lambda: len(told_one.ids) == 100)
    await told_two.until(lambda: len(told_two.ids) == 200)
    assert told_two.ids == list(range(200))
    assert (told_one.interruptions, told_two.interruptions) == (0, 0)


async def test_a_server_that_is_away_silences_its_workers_only_and_they_know(worker: Workers, second_redis: SecondRedis) -> None:
    (one, three), (two,) = worker.names(worker.urls[0], 2), worker.names(worker.urls[1])
    (bus, _), (_, told_three), (_, told_two) = await worker(one, HASTY), await worker(three, HASTY), await worker(two, HASTY)
    await bus.publish({two: [row(1)], three: [row(1)]})
    await told_two.until(lambda: told_two.ids == [1])
    second_redis.kill()
    await told_two.until(lambda: told_two.interruptions >= 2)  # again and again
    for number in range(2, 50):
        assert await bus.publish({two: [row(number)], three: [row(number)]}) == set()
    await told_three.until(lambda: told_three.ids == list(range(1, 50)))
    assert bus.counters.failed_frames >= 48
    before = told_two.interruptions
    second_redis.start()
    await until(lambda: told_two.interruptions > before)
    number = 1000
    while not [each for each in told_two.ids if each >= 1000]:
        number += 1
        await bus.publish({two: [row(number)]})
        await asyncio.sleep(0)
    assert told_two.ids == sorted(set(told_two.ids))
