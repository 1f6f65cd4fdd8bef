"""Wake-ups in PostgreSQL: pushes that are due, occupied mailboxes, the sweep and its owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.contract.message_store import mailboxes, submission
from tests.integration.store_gates import PostgresWorld, opened
from veredus.server.store.pool import RANGE, Connections, PoolConfig
from veredus.server.store.wakeups import OVERDUE, PostgresWakeups


@pytest.fixture
async def world(database: str) -> AsyncIterator[PostgresWorld]:
    async with opened(database) as world:
        yield world


@pytest.fixture
async def wakeups(database: str) -> AsyncIterator[PostgresWakeups]:
    groups = [Connections(PoolConfig(dsn=database, size=2, settings=settings)) for settings in ({}, RANGE)]
    yield PostgresWakeups(*groups)
    for connections in groups:
        await connections.close()


async def due(database: str) -> dict[int, int]:
    connection = await asyncpg.connect(database)
    try:
        rows = await connection.fetch("SELECT id, push_due_id FROM device WHERE push_due_id IS NOT NULL")
        return {row["id"]: row["push_due_id"] for row in rows}
    finally:
        await connection.close()


async def test_a_push_is_due_once_until_the_device_is_awake(world: PostgresWorld, wakeups: PostgresWakeups, database: str) -> None:
    [device] = mailboxes(await world.account())
    await wakeups.due({device: 7})
    await wakeups.due({device: 9})
    assert await due(database) == {device: 7}
    await wakeups.awake([device])
    assert await due(database) == {}


async def test_without_a_row_a_push_is_due_only_for_an_occupied_mailbox(
    world: PostgresWorld, wakeups: PostgresWakeups, database: str
) -> None:
    full, empty = await world.account(), await world.account()
    [outcome] = await world.store.commit([submission(full)])
    [held], [nothing] = mailboxes(full), mailboxes(empty)
    await wakeups.due({held: 0, nothing: 0})
    assert await due(database) == {held: outcome.ids[0]}
    assert await wakeups.occupied([held, nothing]) == {held}


async def test_many_workers_make_the_same_pushes_due_without_waiting_in_a_circle(
    world: PostgresWorld, wakeups: PostgresWakeups, database: str
) -> None:
    devices = [device for _ in range(40) for device in mailboxes(await world.account())]
    await asyncio.gather(*(wakeups.due(dict.fromkeys(order, 1)) for order in (devices, devices[::-1]) * 4))
    assert await due(database) == dict.fromkeys(devices, 1)


async def test_the_sweep_finds_rows_between_its_marks_and_only_one_worker_sweeps(world: PostgresWorld, wakeups: PostgresWakeups) -> None:
    recipient = await world.account()
    [device] = mailboxes(recipient)
    [outcome] = await world.store.commit([submission(recipient)])
    found = [await wakeups.overdue(0.0) for _ in range(5)]
    assert found.count([(device, outcome.ids[0])]) == 2  # each row is looked for twice
    assert found[0] == []  # not before it is old enough
    assert await wakeups.overdue(3600.0) == []


async def test_acknowledged_rows_are_not_found_by_the_sweep(world: PostgresWorld, wakeups: PostgresWakeups) -> None:
    recipient = await world.account()
    [device] = mailboxes(recipient)
    [outcome] = await world.store.commit([submission(recipient)])
    await world.store.remove([(device, outcome.ids[0])])
    assert [await wakeups.overdue(0.0) for _ in range(5)] == [[]] * 5


async def test_the_sweep_reads_by_the_order_of_rows_not_the_whole_key(world: PostgresWorld, database: str) -> None:
    recipients = [await world.account() for _ in range(100)]  # with few devices PostgreSQL 18 may skip through the key, and rightly
    for _ in range(30):
        await world.store.commit([submission(recipient, bytes(3000)) for recipient in recipients])
    connection = await asyncpg.connect(database, server_settings=RANGE)
    try:
        await connection.execute("VACUUM ANALYZE mailbox_1")
        newest = await connection.fetchval("SELECT max(id) FROM mailbox")
        plan = await connection.fetch("EXPLAIN " + OVERDUE.replace("$1", str(newest - 50)).replace("$2", str(newest)))
        assert "Bitmap Index Scan on mailbox_1_id_idx" in "\n".join(line[0] for line in plan)
    finally:
        await connection.close()


@pytest.mark.requirement("MSG-18")
async def test_what_is_older_than_the_retention_is_not_delivered_any_more(world: PostgresWorld, database: str) -> None:
    recipient = await world.account()
    [device] = mailboxes(recipient)
    await world.store.commit([submission(recipient), submission(recipient)])
    connection = await asyncpg.connect(database)
    try:
        old = "UPDATE mailbox SET server_time = server_time - 30 * 86400000::bigint WHERE id = (SELECT min(id) FROM mailbox)"
        await connection.execute(old)
    finally:
        await connection.close()
    assert len((await world.store.page(device, 0, [], 10)).rows) == 1
