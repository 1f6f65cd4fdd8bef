"""Presence on a real Redis that loses what it had, hangs, or is away."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from redis.asyncio import Redis

from tests.presence_workers import LONG, SHORT, Make, until, workers
from veredus.core.clock import SystemClock
from veredus.server.cluster import keys
from veredus.server.cluster.timing import Timing
from veredus.server.process.embedded import Embedded


class Jumping(SystemClock):
    """A clock that can be moved on."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Make]:
    async with workers(redis_url) as make:
        yield make


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that hangs meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_after_a_wipe_everything_is_claimed_again_with_the_old_tokens_and_told(worker: Make, raw: Redis) -> None:
    one, told = await worker("one", SHORT)
    devices = list(range(1, 1201))  # more than two batches
    await one.claim(devices)
    before = await one.locate(devices)
    await raw.flushall()
    await told.until(lambda: len(told.claims) == len(devices))
    assert await one.locate(devices) == before
    assert one.counters.rebuilds == 1
    assert one.settled


async def test_a_wipe_cannot_make_an_older_connection_the_newer(worker: Make, raw: Redis) -> None:
    (one, one_told), (two, two_told) = await worker("one", SHORT), await worker("two", SHORT)
    await one.claim([7])
    await two.claim([7])
    await raw.flushall()
    await two_told.until(lambda: 7 in two_told.claims)
    await one_told.until(lambda: 7 in one_told.claims or 7 in one_told.superseded_devices)
    assert (await one.locate([7]))[7].worker == "two"
    # Whoever came first after the wipe, one of them learnt of the other.
    assert one_told.superseded_devices == [7] or two_told.claims[7] is not None


async def test_claiming_again_does_not_take_a_device_back_from_a_newer_connection(worker: Make, raw: Redis) -> None:
    (one, told), (two, _) = await worker("one", SHORT), await worker("two")
    await one.claim([7, 8])
    await two.claim([7])
    await raw.delete(keys.LEASE + "one")
    await told.until(lambda: 8 in told.claims and bool(told.superseded_devices))
    assert told.superseded_devices == [7]
    assert one.counters.superseded == 1
    found = await two.locate([7, 8])
    assert (found[7].worker, found[8].worker) == ("two", "one")


async def test_entries_lost_while_the_lease_stayed_are_noticed_by_the_marker(worker: Make, raw: Redis) -> None:
    one, told = await worker("one", SHORT)
    await one.claim([7])
    await raw.delete(keys.DEVICES)
    await told.until(lambda: 7 in told.claims)
    assert 7 in await one.locate([7])


async def test_a_lost_lease_makes_it_claim_everything_again(worker: Make, raw: Redis) -> None:
    one, told = await worker("one", SHORT)
    await one.claim([7])
    await raw.delete(keys.LEASE + "one")
    await told.until(lambda: 7 in told.claims)
    assert 7 in await one.locate([7])


async def test_a_loop_that_stood_still_makes_it_claim_everything_again(worker: Make) -> None:
    clock = Jumping()
    one, told = await worker("one", SHORT, clock=clock)
    await one.claim([7])
    clock.ahead += SHORT.stall + SHORT.renew + 1
    await told.until(lambda: 7 in told.claims)
    assert one.counters.rebuilds == 1


async def test_what_dead_workers_left_is_swept_and_nothing_else(worker: Make, raw: Redis) -> None:
    other, _ = await worker("other")
    await other.claim([1])
    await raw.hset(keys.DEVICES, mapping={"7": "dead abc 1", "8": f"other {'0' * 16} 1", "9": "no location"})
    sweeper, _ = await worker("sweeper", SHORT)
    await sweeper.claim([2])

    async def swept() -> bool:
        return set(await raw.hkeys(keys.DEVICES)) == {"1", "2", "9", "marker"}

    await until(swept)
    assert set(await other.locate([1, 2])) == {1, 2}


# ---- Redis is away


async def test_while_redis_is_away_nothing_waits_and_afterwards_everything_is_claimed(own_stores: Embedded, worker: Make) -> None:
    one, told = await worker("one", SHORT, own_stores.redis_url)
    await one.claim([7])
    own_stores.redis.kill()
    await one.locate([7])  # the first to notice
    async with asyncio.timeout(2.0):
        assert await one.locate([7]) == {}
        assert await one.claim([8]) == [None]
        await one.release([7])
    assert one.counters.unanswered_locates >= 1
    assert one.counters.failures >= 1
    assert not one.settled
    own_stores.redis.start()
    await told.until(lambda: 8 in told.claims)
    assert set(await one.locate([7, 8])) == {8}


async def test_a_worker_starts_without_redis_and_joins_when_it_comes(own_stores: Embedded, worker: Make) -> None:
    own_stores.redis.stop()
    one, told = await worker("one", SHORT, own_stores.redis_url)
    assert await one.claim([7]) == [None]
    assert await one.locate([7]) == {}
    own_stores.redis.start()
    await told.until(lambda: 7 in told.claims)
    assert 7 in await one.locate([7])


async def test_a_redis_that_hangs_is_given_up_after_the_time_for_it(own_stores: Embedded, worker: Make) -> None:
    timing = Timing(retry=0.01, locate=0.05, command=0.05)
    one, told = await worker("one", timing, own_stores.redis_url)
    await one.claim([7])
    with stopped(own_stores.redis.pid):
        assert await one.locate([7]) == {}
        assert await one.claim([8]) == [None]
        assert one.counters.unanswered_locates == 1
    await told.until(lambda: 8 in told.claims)
    assert set(await one.locate([7, 8])) == {7, 8}


async def test_a_claim_whose_caller_gave_up_is_made_all_the_same_and_told(own_stores: Embedded, worker: Make) -> None:
    one, told = await worker("one", LONG, own_stores.redis_url)
    with stopped(own_stores.redis.pid):
        claiming = asyncio.create_task(one.claim([7]))
        await asyncio.sleep(0)  # it is on its way
        claiming.cancel()
    await told.until(lambda: 7 in told.claims)
    assert 7 in await one.locate([7])


async def test_commands_that_redis_refuses_do_not_keep_it_busy_and_end_with_the_reason(worker: Make, raw: Redis) -> None:
    one, told = await worker("one", Timing(renew=0.02, retry=0.02, locate=5.0, command=5.0))
    await raw.delete(keys.DEVICES)
    await raw.set(keys.DEVICES, "of another type")
    assert await one.claim([7]) == [None]
    assert await one.locate([7]) == {}
    await raw.config_resetstat()

    async def tried() -> bool:
        return one.counters.failures >= 5

    await until(tried)
    await raw.delete(keys.DEVICES)
    await told.until(lambda: 7 in told.claims)
    assert 7 in await one.locate([7])
    assert one.counters.faults == 0
