"""Pushes on real PostgreSQL and Redis: who is told, how often, and who carries it out. Time passes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.contract.message_store import mailboxes, submission
from tests.integration.store_gates import opened, query
from tests.push_workers import FAILED, UNREACHABLE, Ground, Provider, ground, until
from veredus.core.model import Location, PushOutcome, PushVerdict
from veredus.server.cluster.push_jobs import GROUP, STREAM
from veredus.server.store.pool import POINT
from veredus.server.store.pushes import BEGIN, RECORD
from veredus.server.store.wakeups import DUE

HERE = Location("one", "1", 1)


@pytest.fixture
async def there(database: str, redis_url: str) -> AsyncIterator[Ground]:
    async with opened(database) as world, ground(world, redis_url) as made:
        yield made


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.mark.requirement("MSG-12", "MSG-23")
async def test_who_is_nowhere_is_told_once_until_he_connects(there: Ground) -> None:
    worker, account = there.worker(), await there.world.account()
    [device] = mailboxes(account)
    for _ in range(3):
        [outcome] = await there.world.store.commit([submission(account)])
        await worker.queue.due({device: outcome.ids[0]})
        await worker.queue.flush()
        await worker.pushes.turn()
    assert worker.provider.told == [(device, True)]
    assert (await there.state(device))["told"]
    await worker.queue.awake([device])
    assert await worker.queue.due({device: 4}) == [device]
    await worker.queue.flush()
    await worker.pushes.turn()
    assert worker.provider.told == [(device, True)] * 2


@pytest.mark.requirement("PSH-6")
async def test_many_messages_are_one_job_and_making_them_due_waits_for_no_provider(there: Ground, raw: Redis) -> None:
    worker, device = there.worker(), await there.device()
    await asyncio.gather(*(worker.queue.due({device: row}) for row in range(1, 50)))
    await worker.queue.flush()
    assert await raw.xlen(STREAM) == 1
    assert worker.provider.told == []
    await worker.pushes.turn()
    assert worker.provider.told == [(device, True)]
    assert await raw.xlen(STREAM) == 0  # what was done is not kept


async def test_doubled_jobs_of_two_workers_tell_once(there: Ground) -> None:
    device = await there.device()
    provider = Provider()
    one, two = there.worker("one", provider), there.worker("two", provider)
    await one.queue.due({device: 1})
    await one.jobs.add([device, device])
    await two.jobs.add([device])
    await asyncio.gather(one.pushes.turn(), two.pushes.turn())
    assert provider.told == [(device, True)]


async def test_another_worker_carries_out_what_a_dead_one_took(there: Ground) -> None:
    device = await there.device()
    dead, alive = there.worker("dead"), there.worker("alive", idle=0.0)
    dead.provider.gate = asyncio.Event()  # for ever
    await dead.queue.due({device: 1})
    await dead.queue.flush()
    task = asyncio.create_task(dead.pushes.turn())
    await dead.provider.asked.wait()  # taken and begun, not told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await alive.pushes.turn()
    assert alive.provider.told == []  # nothing new for it
    await there.pass_time(dead.pushes.timing.lease + 1)
    await alive.pushes.take_over()
    assert alive.provider.told == [(device, True)]
    assert alive.pushes.counters.taken_over == 1


async def test_nobody_sends_beside_a_worker_that_is_sending(there: Ground) -> None:
    device = await there.device()
    slow, other = there.worker("slow"), there.worker("other", idle=0.0)
    slow.provider.gate = asyncio.Event()
    await slow.queue.due({device: 1})
    await slow.queue.flush()
    async with asyncio.TaskGroup() as group:
        group.create_task(slow.pushes.turn())
        await slow.provider.asked.wait()
        await other.pushes.take_over()
        slow.provider.gate.set()
    assert (slow.provider.told, other.provider.told) == ([(device, True)], [])


async def test_a_wiped_stream_is_made_again_from_the_store_by_one_worker(there: Ground, raw: Redis) -> None:
    one, two = there.worker("one"), there.worker("two")
    devices = [await there.device() for _ in range(5)]
    await one.queue.due(dict.fromkeys(devices, 1))
    await one.queue.flush()
    await raw.flushdb()
    await one.pushes.remake()
    assert await raw.exists(STREAM) == 0  # their jobs may still be under way
    await there.pass_time(31)
    await asyncio.gather(one.pushes.remake(), two.pushes.remake())
    assert await raw.xlen(STREAM) == 5
    await two.pushes.turn()
    assert sorted(two.provider.told) == [(device, True) for device in sorted(devices)]


async def test_a_stream_wiped_while_workers_read_it_is_read_again(there: Ground, raw: Redis) -> None:
    worker, device = there.worker(remake=0.01), await there.device()
    running = asyncio.create_task(worker.pushes.run())
    await until(lambda: worker.pushes.counters.transport_failures == 0)
    await worker.jobs.take(1)
    await raw.flushdb()
    await worker.queue.due({device: 1})
    await there.pass_time(31)
    await until(lambda: worker.provider.told == [(device, True)])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_stream_is_cut_at_a_length(there: Ground, raw: Redis) -> None:
    worker = there.worker()
    worker.jobs._timing = type(worker.jobs._timing)(wait=0.01, command=20.0, most=100)
    await worker.jobs.add(list(range(1, 1001)))
    assert await raw.xlen(STREAM) < 400  # cut by whole blocks of a hundred


async def test_who_connected_meanwhile_is_not_told(there: Ground) -> None:
    worker, device = there.worker(), await there.device()
    await worker.queue.due({device: 1})
    await worker.queue.flush()
    await worker.queue.awake([device])
    await worker.pushes.turn()
    assert worker.provider.told == []


async def test_who_is_connected_is_told_only_when_he_does_not_look_by_himself(there: Ground) -> None:
    worker, device = there.worker(), await there.device()
    await worker.queue.due({device: 1})
    await worker.queue.flush()
    there.presence.here[device] = HERE
    await worker.pushes.turn()
    assert worker.provider.told == []
    await there.pass_time(worker.pushes.timing.hold + 1)
    await worker.pushes.remake()
    await worker.pushes.turn()
    assert worker.provider.told == [(device, True)]


async def test_an_empty_mailbox_and_a_revoked_device_are_told_nothing_and_nothing_stays_due(there: Ground) -> None:
    worker = there.worker()
    empty, revoked, disabled = [await there.device() for _ in range(3)]
    await worker.queue.due(dict.fromkeys((empty, revoked, disabled), 1))
    await query(there.dsn, "DELETE FROM mailbox WHERE device = $1", empty)
    await query(there.dsn, "UPDATE device SET revoked_at = now() WHERE id = $1", revoked)
    await query(there.dsn, "UPDATE account SET disabled_at = now() WHERE id = (SELECT account FROM device WHERE id = $1)", disabled)
    await worker.queue.flush()
    await worker.pushes.turn()
    assert worker.provider.told == []
    assert [(await there.state(device))["due"] for device in (empty, revoked, disabled)] == [None] * 3


async def test_a_failing_provider_is_asked_again_with_backoff_and_at_last_not_any_more(there: Ground) -> None:
    worker, device = there.worker(most_failed=4), await there.device()
    worker.provider.outcome = FAILED
    await worker.queue.due({device: 1})
    waits = []
    for _ in range(6):
        await worker.jobs.add([device])
        await worker.pushes.turn()
        await worker.jobs.add([device])
        await worker.pushes.turn()  # not before it is time
        wait = (await there.state(device))["next"]
        waits.append(wait if wait is None else round(float(str(wait))))
        await there.pass_time(3601)
    assert [wait for wait in waits if wait is not None] == pytest.approx([5, 10, 20], abs=4)
    assert len(worker.provider.told) == 4
    assert worker.pushes.counters.given_up == 1


@pytest.mark.parametrize("fault", [RuntimeError("words"), TimeoutError(), OSError()])
async def test_a_provider_that_raises_has_failed_and_the_others_are_told(there: Ground, fault: Exception) -> None:
    worker, device = there.worker(), await there.device()
    worker.provider.fault = fault
    await worker.queue.due({device: 1})
    await worker.queue.flush()
    await worker.pushes.turn()
    state = await there.state(device)
    assert (state["failed"], state["told"]) == (1, False)


async def test_a_provider_may_ask_for_patience(there: Ground) -> None:
    worker, device = there.worker(), await there.device()
    worker.provider.outcome = PushOutcome(PushVerdict.FAILED, 600.0)
    await worker.queue.due({device: 1})
    await worker.queue.flush()
    await worker.pushes.turn()
    assert 500 < float(str((await there.state(device))["next"])) <= 600


async def test_a_push_that_brings_nobody_is_repeated_at_growing_intervals_and_not_for_ever(there: Ground) -> None:
    worker, device = there.worker(most_sent=3), await there.device()
    await worker.queue.due({device: 1})
    for expected in (1, 1, 2, 2, 3, 3):  # an hour, then two
        await worker.jobs.add([device])
        await worker.pushes.turn()
        assert len(worker.provider.told) == expected
        await there.pass_time(1801 * expected)
    await there.pass_time(10 * 86400)
    await worker.jobs.add([device])
    await worker.pushes.turn()
    assert len(worker.provider.told) == 3


async def test_who_cannot_be_reached_is_tried_again_only_when_he_was_here(there: Ground) -> None:
    worker, device = there.worker(), await there.device()
    worker.provider.outcome = UNREACHABLE
    await worker.queue.due({device: 1})
    for _ in range(2):
        await worker.jobs.add([device])
        await worker.pushes.turn()
        await there.pass_time(30 * 86400)
    assert len(worker.provider.told) == 1
    await worker.queue.awake([device])
    await worker.queue.due({device: 2})
    await worker.queue.flush()
    await worker.pushes.turn()
    assert len(worker.provider.told) == 2


async def test_who_took_his_messages_without_connecting_is_told_of_the_next(there: Ground) -> None:
    worker, account = there.worker(), await there.world.account()
    [device] = mailboxes(account)
    for _ in range(2):
        [outcome] = await there.world.store.commit([submission(account)])
        await worker.queue.due({device: outcome.ids[0]})
        await worker.queue.flush()
        await worker.pushes.turn()
        await there.world.store.remove([(device, outcome.ids[0])])
    assert len(worker.provider.told) == 2


async def test_what_is_not_urgent_waits_for_more_and_something_urgent_hurries_it(there: Ground) -> None:
    worker, account = there.worker(), await there.world.account()
    [device] = mailboxes(account)
    [first] = await there.world.store.commit([submission(account)])
    await query(there.dsn, "UPDATE mailbox SET urgent = false")
    assert await worker.queue.due({device: first.ids[0]}) == []
    await worker.jobs.add([device])
    await worker.pushes.turn()
    assert worker.provider.told == []
    await there.pass_time(31)
    await worker.pushes.remake()
    await worker.pushes.turn()
    assert worker.provider.told == [(device, False)]
    [second] = await there.world.store.commit([submission(account)])
    assert await worker.queue.due({device: second.ids[0]}) == [device]
    await worker.queue.flush()
    await worker.pushes.turn()
    assert worker.provider.told == [(device, False), (device, True)]


async def test_a_device_is_tried_so_often_in_a_minute_and_no_oftener(there: Ground) -> None:
    worker, device = there.worker(per_minute=3), await there.device()
    await query(there.dsn, "UPDATE device SET push_minute = date_trunc('minute', clock_timestamp() + interval '1 second')")
    for _ in range(8):
        await worker.queue.awake([device])
        await worker.queue.due({device: 1})
        await worker.queue.flush()
        await worker.pushes.turn()
    # A minute of the database may end meanwhile; then there are two.
    assert len(worker.provider.told) in (3, 6)
    state = await there.state(device)
    assert state["due"] == 1
    await there.pass_time(61)
    await worker.pushes.remake()
    await worker.pushes.turn()
    assert len(worker.provider.told) in (4, 7)


async def test_consumers_of_workers_that_ended_do_not_stay(there: Ground, raw: Redis) -> None:
    one, gone = there.worker("one"), there.worker("gone")
    for worker in (one, gone):
        await worker.jobs.add([1])  # a consumer exists from its first job
        await worker.pushes.turn()
    assert len(await raw.xinfo_consumers(STREAM, GROUP)) == 2
    await gone.jobs.close()
    assert [each["name"] for each in await raw.xinfo_consumers(STREAM, GROUP)] == ["one"]
    one.jobs._timing = type(one.jobs._timing)(wait=0.01, command=20.0, forget=0.0)
    await one.jobs.add([1])
    await there.worker("killed").pushes.turn()
    assert len(await raw.xinfo_consumers(STREAM, GROUP)) == 2
    await one.pushes.take_over()
    assert [each["name"] for each in await raw.xinfo_consumers(STREAM, GROUP)] == ["one"]


async def test_entries_that_are_no_jobs_are_done_at_once(there: Ground, raw: Redis) -> None:
    worker, device = there.worker(), await there.device()
    await worker.queue.due({device: 1})
    for fields in ({"device": "x"}, {"other": "1"}, {"device": "9" * 40}, {"device": str(device)}):
        await raw.xadd(STREAM, dict(fields))  # type: ignore[arg-type]
    await worker.pushes.turn()
    assert worker.provider.told == [(device, True)]
    assert await raw.xlen(STREAM) == 0


async def test_a_job_cut_off_the_stream_while_somebody_had_it_leaves_the_group(there: Ground, raw: Redis) -> None:
    one, two = there.worker("one"), there.worker("two")
    await one.jobs.add([7, 8])
    [job, _] = await one.jobs.take(10)
    await raw.xdel(STREAM, job.key)
    assert [left.device for left in await two.jobs.take_over(10, 0.0)] == [8]
    assert [each["pending"] for each in await raw.xinfo_consumers(STREAM, GROUP) if each["name"] == "two"] == [1]


async def test_statements_reach_devices_by_their_key_however_many_are_due(there: Ground) -> None:
    await there.device()
    connection = await asyncpg.connect(there.dsn, server_settings=POINT)
    try:
        for statement, values in (
            (DUE, ([1], [1], 30.0, 30.0)),
            (BEGIN, ([1], [1], 20.0, 20.0, 100)),
            (RECORD, ([1], [1], [True], [1.0])),
        ):
            plan = "\n".join(line[0] for line in await connection.fetch("EXPLAIN " + statement, *values))
            assert "device_pkey on device" in plan
            assert "device_push_queue" not in plan
            assert "device_active" not in plan
    finally:
        await connection.close()
