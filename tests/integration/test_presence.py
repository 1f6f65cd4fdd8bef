"""Presence on a real Redis: who is where, and what happens when Redis, a worker or an answer is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager

import pytest
from redis.asyncio import Redis

from veredus.core.clock import Clock, SystemClock
from veredus.core.model import Account, Device, Location
from veredus.server.cluster import keys
from veredus.server.cluster.presence import RedisPresence
from veredus.server.cluster.redis import connect
from veredus.server.cluster.timing import Timing
from veredus.server.process.embedded import Embedded
from veredus.server.secret import Secret

CLOCK = SystemClock()
LONG = Timing(retry=0.01, locate=5.0, command=5.0)  # leases outlive the test, nothing renews by itself
SHORT = Timing(lease=0.3, renew=0.05, retry=0.01, locate=5.0, command=5.0)


class Told:
    """Remembers what presence told."""

    def __init__(self) -> None:
        self.claims: dict[int, Location | None] = {}
        self.superseded_devices: list[int] = []
        self.something = asyncio.Event()

    def claimed(self, displaced: Mapping[int, Location | None]) -> None:
        self.claims |= displaced
        self.something.set()

    def superseded(self, devices: Sequence[int]) -> None:
        self.superseded_devices += devices
        self.something.set()

    async def until(self, seen: Callable[[], bool]) -> None:
        while not seen():
            self.something.clear()
            await self.something.wait()


class Jumping(SystemClock):
    """A clock that can be moved on."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


Make = Callable[..., Awaitable[tuple[RedisPresence, Told]]]


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Make]:
    """Starts workers on this test's Redis; ends them with it."""
    async with AsyncExitStack() as stack:

        async def make(name: str, timing: Timing = LONG, url: str = redis_url, clock: Clock = CLOCK) -> tuple[RedisPresence, Told]:
            client = connect(Secret(url), seconds=5.0)
            stack.push_async_callback(client.aclose)
            told = Told()
            presence = RedisPresence(client, name, told, clock, timing)
            await presence.start()
            stack.push_async_callback(presence.close)
            return presence, told

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


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it holds; the test's timeout bounds it."""
    while True:
        if await holds():
            return
        await asyncio.sleep(0)  # everything else has its turn


async def test_a_claimed_device_is_found_from_another_worker_and_a_released_one_is_not(worker: Make) -> None:
    (one, _), (two, _) = await worker("one"), await worker("two")
    assert await one.claim([7, 8]) == [None, None]
    found = await two.locate([7, 8, 9])
    assert set(found) == {7, 8}
    assert (found[7].worker, found[7].incarnation) == ("one", one.incarnation)
    await one.release([7])

    async def gone() -> bool:
        return set(await two.locate([7, 8])) == {8}

    await until(gone)


@pytest.mark.requirement("PRE-1")
async def test_it_answers_whether_a_device_of_an_account_is_online(worker: Make) -> None:
    presence, _ = await worker("one")
    account = Account(1, b"a" * 16, 1, {1: Device(70, 1, 0), 2: Device(71, 2, 0)})
    await presence.claim([71])
    assert await presence.is_online(account, 2)
    assert not await presence.is_online(account, 1)
    assert not await presence.is_online(account, 3)


@pytest.mark.requirement("PRE-4")
async def test_a_newer_connection_displaces_and_learns_whom(worker: Make) -> None:
    (one, _), (two, _) = await worker("one"), await worker("two")
    await one.claim([7])
    (displaced,) = await two.claim([7])
    assert displaced is not None
    assert (displaced.worker, displaced.incarnation) == ("one", one.incarnation)
    found = (await one.locate([7]))[7]
    assert found.worker == "two"
    assert found.token > displaced.token


async def test_a_connection_to_the_same_worker_displaces_nobody_elsewhere(worker: Make) -> None:
    one, _ = await worker("one")
    await one.claim([7])
    first = (await one.locate([7]))[7]
    assert await one.claim([7]) == [None]
    assert (await one.locate([7]))[7].token > first.token


async def test_a_late_release_does_not_take_away_what_a_newer_connection_claimed(worker: Make) -> None:
    (one, _), (two, _) = await worker("one"), await worker("two")
    await one.claim([7, 8])
    await two.claim([7])
    await one.release([7, 8])

    async def written() -> bool:
        return 8 not in await two.locate([8])

    await until(written)
    assert (await one.locate([7]))[7].worker == "two"


async def test_a_newer_claim_wins_although_the_clock_of_redis_went_back(worker: Make, raw: Redis) -> None:
    (one, _), (two, _) = await worker("one"), await worker("two")
    await one.claim([7])
    future = 4_000_000_000_000_000
    await raw.hset(keys.DEVICES, "7", f"one {one.incarnation} {future}")
    (displaced,) = await two.claim([7])
    assert displaced is not None
    assert displaced.token == future
    assert (await one.locate([7]))[7] == Location("two", two.incarnation, future + 1)


async def test_a_thousand_devices_cost_two_commands_to_find(worker: Make, raw: Redis) -> None:
    one, _ = await worker("one")
    devices = list(range(1, 1001))
    await one.claim(devices)
    await raw.config_resetstat()
    assert len(await one.locate(devices)) == 1000
    calls = {name: stat["calls"] for name, stat in (await raw.info("commandstats")).items()}
    assert calls.get("cmdstat_hmget") == 1
    assert calls.get("cmdstat_mget") == 1
    assert not {name for name in calls if name.startswith(("cmdstat_hget", "cmdstat_get"))}


async def test_claims_of_one_turn_go_out_together(worker: Make, raw: Redis) -> None:
    one, _ = await worker("one")
    await one.claim([1])
    await raw.config_resetstat()
    await asyncio.gather(*(one.claim([device]) for device in range(2, 102)))
    calls = (await raw.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert calls == 1


@pytest.mark.requirement("PRE-2")
async def test_a_worker_that_stops_renewing_is_absent_when_its_lease_has_run_out(worker: Make) -> None:
    dying, _ = await worker("dying", SHORT)
    other, _ = await worker("other")
    await dying.claim([7])
    assert 7 in await other.locate([7])
    for task in dying._tasks:
        task.cancel()

    async def absent() -> bool:
        return 7 not in await other.locate([7])

    await until(absent)
    assert await other.claim([7]) == [None], "the dead are not displaced"


async def test_a_lease_is_kept_for_longer_than_it_lasts(worker: Make, raw: Redis) -> None:
    await worker("one", SHORT)
    await raw.config_resetstat()

    async def renewed_often() -> bool:
        statistics = await raw.info("commandstats")
        return bool(statistics.get("cmdstat_pexpire", {}).get("calls", 0) * SHORT.renew > 2 * SHORT.lease)

    await until(renewed_often)
    assert await raw.get(keys.LEASE + "one") is not None


async def test_an_idle_device_costs_redis_nothing(worker: Make, raw: Redis) -> None:
    one, _ = await worker("one", SHORT)
    await one.claim(list(range(1, 501)))
    entry = await raw.hget(keys.DEVICES, "7")
    await raw.config_resetstat()

    async def renewed() -> bool:
        return (await raw.info("commandstats")).get("cmdstat_pexpire", {}).get("calls", 0) > 5

    await until(renewed)
    assert "cmdstat_hset" not in await raw.info("commandstats")
    assert await raw.hget(keys.DEVICES, "7") == entry


async def test_a_worker_that_closes_is_absent_at_once(worker: Make) -> None:
    (one, _), (two, _) = await worker("one"), await worker("two")
    await one.claim([7])
    await one.close()
    assert await two.locate([7]) == {}


async def test_a_new_process_under_an_old_name_takes_over_and_the_old_claims_are_dead(worker: Make) -> None:
    old, _ = await worker("one")
    await old.claim([7, 8])
    new, _ = await worker("one")
    assert await new.locate([7, 8]) == {}
    assert await new.claim([7]) == [None]
    await old.close()
    assert set(await new.locate([7, 8])) == {7}, "the old one's close does not take the new one's lease"


async def test_an_old_process_whose_name_was_taken_notices_and_answers_nothing(worker: Make) -> None:
    old, _ = await worker("one", SHORT)
    await old.claim([7])
    await worker("one")

    async def noticed() -> bool:
        return old.counters.lost_leases > 0

    await until(noticed)
    assert await old.locate([7]) == {}
    assert not old.settled


# ---- Redis loses what it had


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


def test_a_name_that_would_not_be_one_word_in_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="one word"):
        RedisPresence(Redis(), "two words", Told(), SystemClock())
