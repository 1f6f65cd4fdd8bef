"""Presence on a real Redis: who is where, who is newer, and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.presence_workers import SHORT, Make, Told, until, workers
from veredus.core.clock import SystemClock
from veredus.core.model import Account, Device, Location
from veredus.server.cluster import keys
from veredus.server.cluster.presence import RedisPresence


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Make]:
    async with workers(redis_url) as make:
        yield make


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


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
        return bool((await raw.info("commandstats")).get("cmdstat_pexpire", {}).get("calls", 0) > 5)

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


def test_a_name_that_would_not_be_one_word_in_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="one word"):
        RedisPresence(Redis(), "two words", Told(), SystemClock())
