"""Ids may commit out of order; pages show what a reader needs to lose nothing by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.contract.message_store import mailboxes, submission
from tests.integration.store_gates import PostgresWorld, held, opened, until_stuck
from veredus.core.model import Verdict


@pytest.fixture
async def world(database: str) -> AsyncIterator[PostgresWorld]:
    async with opened(database) as world:
        yield world


@pytest.mark.requirement("SYN-3")
async def test_a_late_commit_with_a_smaller_id_is_found_by_whoever_heeds_the_snapshots(world: PostgresWorld) -> None:
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    late = submission(recipient)
    async with held(world.dsn) as other:
        await other.commit(late)  # has its id, is not committed
        [early] = await world.store.commit([submission(recipient)])
        first = await world.store.page(mailbox, 0, [], 100)
        assert [row.id for row in first.rows] == list(early.ids)
        # The floor may pass the row only when a later page's xmin has reached this page's xmax: not while the other runs.
        again = await world.store.page(mailbox, 0, list(early.ids), 100)
        assert again.rows == ()
        assert again.short
        assert again.xmin < first.xmax
        await other.transaction.commit()
    # Reading from the floor with what was sent left out finds the smaller id.
    found = await world.store.page(mailbox, 0, list(early.ids), 100)
    assert [row.guid for row in found.rows] == [late.send.guid]
    assert found.rows[0].id < early.ids[0]
    assert found.xmin >= first.xmax
    # From here on the floor may be above both, and nothing is missing.
    assert (await world.store.page(mailbox, early.ids[0], [], 100)).rows == ()


async def test_an_empty_page_s_snapshot_holds_the_floor_back_as_well(world: PostgresWorld) -> None:
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    async with held(world.dsn) as other:
        await other.commit(submission(recipient))
        empty = await world.store.page(mailbox, 0, [], 100)
        assert empty.rows == ()
        assert empty.xmin < empty.xmax
        await other.transaction.commit()
    after = await world.store.page(mailbox, 0, [], 100)
    assert after.xmin >= empty.xmax
    assert len(after.rows) == 1


@pytest.mark.requirement("SYN-8")
async def test_a_cumulative_acknowledgement_leaves_a_smaller_id_that_was_never_sent(world: PostgresWorld) -> None:
    """«Up to X» is resolved to rows by the session; the store deletes what it is named and no range."""
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    late = submission(recipient)
    async with held(world.dsn) as other:
        await other.commit(late)
        await world.store.commit([submission(recipient) for _ in range(3)])
        sent = (await world.store.page(mailbox, 0, [], 100)).rows
        await other.transaction.commit()
    assert await world.store.remove([(mailbox, row.id) for row in sent]) == 3
    left = (await world.store.page(mailbox, 0, [], 100)).rows
    assert [row.guid for row in left] == [late.send.guid]
    assert left[0].id < sent[0].id


@pytest.mark.requirement("SYN-2")
async def test_pages_of_a_hundred_walk_a_mailbox_without_gap_or_repeat(world: PostgresWorld) -> None:
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    expected = [outcome.ids[0] for outcome in await world.store.commit([submission(recipient) for _ in range(250)])]
    seen: list[int] = []
    sizes = []
    short = False
    while not short:
        page = await world.store.page(mailbox, 0, seen, 100)
        seen += [row.id for row in page.rows]
        sizes.append(len(page.rows))
        short = page.short
    assert seen == expected
    assert sizes == [100, 100, 50]


async def test_two_connections_of_a_device_may_acknowledge_the_same_rows_at_once(world: PostgresWorld) -> None:
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    ids = [outcome.ids[0] for outcome in await world.store.commit([submission(recipient) for _ in range(200)])]
    async with opened(world.dsn) as other:
        removed = await asyncio.gather(
            world.store.remove([(mailbox, row) for row in ids]),
            other.store.remove([(mailbox, row) for row in reversed(ids)]),
            world.store.remove([(mailbox, row) for row in ids[50:]]),
        )
    assert sum(removed) == 200


async def test_a_transaction_newer_than_all_that_have_ended_holds_the_floor_back(world: PostgresWorld) -> None:
    """pg_snapshot_xmax would not: it is at the running transaction's id, and so is the next snapshot's xmin."""
    recipient = await world.account()
    mailbox = mailboxes(recipient)[0]
    older, newer = submission(recipient), submission(recipient)
    async with held(world.dsn) as second, held(world.dsn) as first:
        await first.connection.execute("SELECT pg_current_xact_id()")  # first has the smaller transaction id
        await second.commit(newer)  # and second the smaller mailbox id
        await first.commit(older)
        await first.transaction.commit()
        page = await world.store.page(mailbox, 0, [], 100)
        assert [row.guid for row in page.rows] == [older.send.guid]
        while_running = await world.store.page(mailbox, 0, [page.rows[0].id], 100)
        assert while_running.xmin < page.xmax
        await second.transaction.commit()
    after = await world.store.page(mailbox, 0, [page.rows[0].id], 100)
    assert [row.guid for row in after.rows] == [newer.send.guid]
    assert after.rows[0].id < page.rows[0].id
    assert after.xmin >= page.xmax


async def test_a_commit_has_its_transaction_id_before_it_draws_a_mailbox_id(world: PostgresWorld) -> None:
    recipient = await world.account()
    await world.store.commit([submission(recipient)])  # the sequence has numbers in stock: drawing one gives no transaction id by itself
    gate = await asyncpg.connect(world.dsn)
    async with gate.transaction():
        await gate.execute("LOCK TABLE mailbox_1 IN SHARE MODE")
        before = await gate.fetchval("SELECT last_value FROM mailbox_id")
        task = asyncio.create_task(world.store.commit([submission(recipient)]))
        await until_stuck(world.dsn)
        assert await gate.fetchval("SELECT last_value FROM mailbox_id") == before + 1
        assert await gate.fetchval("SELECT count(backend_xid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 1
    [outcome] = await task
    await gate.close()
    assert outcome.verdict is Verdict.COMMITTED
