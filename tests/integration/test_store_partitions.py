"""Mailbox partitions come and go without anybody waiting, and a job that fails only lets rows live longer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.contract.message_store import contents, mailboxes, submission
from tests.integration.store_gates import PostgresWorld, held, opened, query
from veredus.core.model import Verdict
from veredus.server.store.epoch import FORWARD, new_epoch
from veredus.server.store.partitions import SHIFT, PartitionJob


@pytest.fixture
async def world(database: str) -> AsyncIterator[PostgresWorld]:
    async with opened(database) as world:
        yield world


async def age(dsn: str, days: float) -> None:
    """Let everything be older by so many days."""
    await query(
        dsn,
        "UPDATE mailbox_partition SET opened_at = opened_at - $1 * interval '1 day', closed_at = closed_at - $1 * interval '1 day'",
        days,
    )


async def partitions(dsn: str) -> list[int]:
    rows = await query(dsn, "SELECT number FROM mailbox_partition ORDER BY number")
    tables = await query(dsn, "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'mailbox'::regclass")
    assert {row["name"] for row in tables} == {f"mailbox_{row['number']}" for row in rows}
    return [row["number"] for row in rows]


async def send(world: PostgresWorld) -> tuple[int, int]:
    """The mailbox and id of a new message."""
    recipient = await world.account()
    [outcome] = await world.store.commit([submission(recipient)])
    assert outcome.verdict is Verdict.COMMITTED
    return mailboxes(recipient)[0], outcome.ids[0]


async def test_a_week_s_ids_share_their_high_bits_and_the_next_week_has_the_next(world: PostgresWorld) -> None:
    _, first = await send(world)
    await PartitionJob(world.dsn).run()
    _, same = await send(world)
    await age(world.dsn, 7)
    await PartitionJob(world.dsn).run()
    _, second = await send(world)
    assert [number >> SHIFT for number in (first, same, second)] == [1, 1, 2]
    assert first < same < second
    assert await partitions(world.dsn) == [1, 2]


@pytest.mark.requirement("MSG-18", "MSG-10")
async def test_what_nobody_acknowledged_stays_for_thirty_days_and_goes_with_its_partition(world: PostgresWorld) -> None:
    mailbox, _ = await send(world)
    for days in (7, 7, 7, 7):
        await age(world.dsn, days)
        await PartitionJob(world.dsn).run()
    await age(world.dsn, 8.9)  # 29.9 days after its partition was closed
    await PartitionJob(world.dsn).run()
    assert len(await contents(world.store, mailbox)) == 1
    await age(world.dsn, 0.2)
    await PartitionJob(world.dsn).run()
    assert await contents(world.store, mailbox) == []
    assert 1 not in await partitions(world.dsn)
    await send(world)


async def test_never_are_more_partitions_kept_than_an_empty_page_may_visit(world: PostgresWorld) -> None:
    for _ in range(10):
        await age(world.dsn, 7)
        await PartitionJob(world.dsn).run()
    assert len(await partitions(world.dsn)) <= 6


async def test_a_missing_next_partition_breaks_no_send(world: PostgresWorld) -> None:
    await age(world.dsn, 7)
    await query(world.dsn, "CREATE TABLE mailbox_2 ()")  # in the way of the one to be made
    with pytest.raises(asyncpg.DuplicateTableError):
        await PartitionJob(world.dsn).run()
    _, still = await send(world)
    assert still >> SHIFT == 1
    await query(world.dsn, "DROP TABLE mailbox_2")
    await PartitionJob(world.dsn).run()
    _, then = await send(world)
    assert then >> SHIFT == 2


async def test_a_job_that_died_after_moving_the_sequence_is_finished_by_the_next(world: PostgresWorld) -> None:
    await query(world.dsn, "SELECT mailbox_create_partition(2)")
    await query(world.dsn, "SELECT setval('mailbox_id', 2::bigint << 40, false)")
    await PartitionJob(world.dsn).run()
    rows = await query(
        world.dsn, "SELECT number, opened_at IS NOT NULL AS opened, closed_at IS NOT NULL AS closed FROM mailbox_partition ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [(1, True, True), (2, True, False)]


async def test_a_job_that_died_before_moving_the_sequence_is_finished_by_the_next(world: PostgresWorld) -> None:
    await query(world.dsn, "SELECT mailbox_create_partition(2)")
    await age(world.dsn, 7)
    await PartitionJob(world.dsn).run()
    assert (await send(world))[1] >> SHIFT == 2


async def test_making_a_partition_waits_for_no_send_and_no_reader(world: PostgresWorld) -> None:
    recipient = await world.account()
    waiting = submission(recipient)
    async with held(world.dsn) as other:
        await other.commit(waiting)
        await other.connection.fetch("SELECT 1 FROM mailbox")
        await age(world.dsn, 7)
        await PartitionJob(world.dsn).run()
        assert (await send(world))[1] >> SHIFT == 2
        await other.transaction.commit()
    assert await contents(world.store, mailboxes(recipient)[0]) == [waiting.send.guid]


async def test_a_transaction_over_the_change_keeps_its_smaller_id_and_loses_nothing(world: PostgresWorld) -> None:
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    late = submission(recipient)
    async with held(world.dsn) as other:
        await other.commit(late)
        await age(world.dsn, 7)
        await PartitionJob(world.dsn).run()
        [after] = await world.store.commit([submission(recipient)])
        page = await world.store.page(mailbox, 0, [], 100)
        assert [row.id for row in page.rows] == list(after.ids)
        await other.transaction.commit()
    found = await world.store.page(mailbox, 0, list(after.ids), 100)
    assert [row.guid for row in found.rows] == [late.send.guid]


async def test_a_page_and_a_removal_reach_over_partitions_in_order(world: PostgresWorld) -> None:
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    ids = []
    for _ in range(3):
        ids += [outcome.ids[0] for outcome in await world.store.commit([submission(recipient) for _ in range(3)])]
        await age(world.dsn, 7)
        await PartitionJob(world.dsn).run()
    page = await world.store.page(mailbox, 0, [], 7)
    assert [row.id for row in page.rows] == ids[:7]
    assert await world.store.remove([(mailbox, ids[index]) for index in (0, 4, 8)]) == 3
    assert [row.id for row in (await world.store.page(mailbox, 0, [], 100)).rows] == [ids[index] for index in (1, 2, 3, 5, 6, 7)]


async def test_a_new_epoch_is_another_name_and_moves_every_sequence_far_ahead(world: PostgresWorld) -> None:
    recipient = await world.account()
    [before] = await world.store.commit([submission(recipient)])
    old = await world.store.epoch()
    new = await new_epoch(world.dsn)
    assert new != old
    assert await world.store.epoch() == new
    moved = await world.account()
    [after] = await world.store.commit([submission(recipient)])
    assert after.ids[0] - before.ids[0] >= FORWARD
    assert after.ids[0] >> SHIFT == before.ids[0] >> SHIFT
    assert moved.id - recipient.id >= FORWARD
    assert mailboxes(moved)[0] - mailboxes(recipient)[0] >= FORWARD
    assert moved.devices_version - recipient.devices_version >= FORWARD
