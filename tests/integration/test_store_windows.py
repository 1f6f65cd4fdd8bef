"""Keys are remembered across window changes, whoever is in the middle of a commit while the window changes (MSG-26)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.contract.message_store import contents, mailboxes, submission
from tests.integration.store_gates import PostgresWorld, held, opened, query, until_stuck
from veredus.core.model import Outcome, Submission, Verdict
from veredus.server.store.window_job import WindowJob

KEY = "INSERT INTO send_key (sender, server_time, client_id, guid, key_window, needs_sync, digest) VALUES ($1, 1, $2, $3, $4, false, $5)"


@pytest.fixture
async def world(database: str) -> AsyncIterator[PostgresWorld]:
    async with opened(database) as world:
        yield world


async def state(dsn: str) -> tuple[int, bool]:
    """The current window, and whether it is being changed."""
    [row] = await query(dsn, "SELECT current, changing FROM send_state")
    return row["current"], row["changing"]


async def pass_the_time(dsn: str) -> None:
    """Let the current window be 24 hours old."""
    await query(dsn, "UPDATE send_window SET opened_at = opened_at - interval '24 hours' WHERE number = (SELECT current FROM send_state)")


async def change(dsn: str) -> None:
    """One whole change of window."""
    await pass_the_time(dsn)
    await WindowJob(dsn).run()


async def until_changing(dsn: str) -> None:
    async with asyncio.timeout(20):
        while not (await state(dsn))[1]:
            await asyncio.sleep(0.005)


async def windows(dsn: str) -> list[int]:
    rows = await query(dsn, "SELECT number FROM send_window ORDER BY number")
    tables = await query(dsn, "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'send_key'::regclass ORDER BY 1")
    assert [row["name"] for row in tables] == [f"send_key_{row['number']}" for row in rows]
    return [row["number"] for row in rows]


@pytest.mark.requirement("MSG-26")
@pytest.mark.parametrize("sealed", [False, True])
async def test_a_resend_in_the_next_window_gets_the_first_answer_and_after_two_its_key_is_forgotten(
    world: PostgresWorld, sealed: bool
) -> None:
    recipient = await world.account()
    sent = submission(recipient, sealed=sealed)
    [first] = await world.store.commit([sent])
    await change(world.dsn)
    [repeat] = await world.store.commit([sent])
    assert (repeat.verdict, repeat.guid, repeat.server_timestamp) == (Verdict.REPEATED, first.guid, first.server_timestamp)
    [mismatch] = await world.store.commit([submission(recipient, b"other", client_id=sent.send.client_id, sealed=sealed)])
    assert mismatch.verdict is Verdict.MISMATCH
    await change(world.dsn)
    [forgotten] = await world.store.commit([sent])
    assert forgotten.verdict is Verdict.COMMITTED


async def test_the_window_moves_only_when_its_time_is_over(world: PostgresWorld) -> None:
    before = await state(world.dsn)
    await WindowJob(world.dsn).run()
    assert await state(world.dsn) == before
    await change(world.dsn)
    assert await state(world.dsn) == (before[0] + 1, False)
    await WindowJob(world.dsn).run()
    assert await state(world.dsn) == (before[0] + 1, False)


async def test_a_worker_that_missed_a_change_writes_nothing_by_its_old_idea(world: PostgresWorld) -> None:
    recipient = await world.account()
    sent = submission(recipient)
    await world.store.commit([submission(recipient)])  # has read the state
    await change(world.dsn)
    async with opened(world.dsn) as other:
        [first] = await other.store.commit([sent])
    [repeat] = await world.store.commit([submission(recipient, client_id=sent.send.client_id)])
    assert (repeat.verdict, repeat.guid) == (Verdict.REPEATED, first.guid)
    assert sorted(row["key_window"] for row in await query(world.dsn, "SELECT key_window FROM send_key")) == [2, 3]


@pytest.mark.requirement("MSG-26")
async def test_a_window_two_old_is_dropped_with_the_key_that_sealed_its_senders(world: PostgresWorld) -> None:
    current, _ = await state(world.dsn)
    assert await windows(world.dsn) == [current - 1, current]
    await change(world.dsn)
    assert await windows(world.dsn) == [current, current + 1]
    await change(world.dsn)
    assert await windows(world.dsn) == [current + 1, current + 2]
    seals = {row["seal"] for row in await query(world.dsn, "SELECT seal FROM send_window")}
    assert len(seals) == 2
    assert bytes(32) not in seals


async def test_a_transaction_from_before_the_change_keeps_the_old_window_as_arbiter(world: PostgresWorld) -> None:
    """It has stored a key in the old window only. Whoever sends that id during the change waits for it."""
    recipient = await world.account()
    first = submission(recipient)
    again = submission(recipient, client_id=first.send.client_id)
    current, _ = await state(world.dsn)
    async with held(world.dsn) as other:
        await other.commit(first)
        await pass_the_time(world.dsn)
        job = asyncio.create_task(WindowJob(world.dsn).run())
        await until_changing(world.dsn)
        repeat = asyncio.create_task(world.store.commit([again, submission(recipient)]))
        await until_stuck(world.dsn)
        assert await state(world.dsn) == (current, True)
        assert not job.done()
        await other.transaction.commit()
        outcomes = await repeat
        await job
    assert [outcome.verdict for outcome in outcomes] == [Verdict.REPEATED, Verdict.COMMITTED]
    assert outcomes[0].guid == first.send.guid
    assert (await contents(world.store, mailboxes(recipient)[0])).count(again.send.guid) == 0
    assert await state(world.dsn) == (current + 1, False)


async def test_a_statement_with_a_snapshot_but_no_transaction_id_yet_holds_the_change_up(world: PostgresWorld) -> None:
    """It waits for somebody's key before it has written anything; it will write the old window alone."""
    recipient = await world.account()
    blocker, waiting = submission(recipient, sender=1), submission(recipient, sender=2)
    blocked = submission(recipient, client_id=blocker.send.client_id, sender=1)
    current, _ = await state(world.dsn)
    async with held(world.dsn) as other, opened(world.dsn) as late:
        await other.commit(blocker)
        old = asyncio.create_task(world.store.commit([blocked, waiting]))
        await until_stuck(world.dsn)
        await pass_the_time(world.dsn)
        job = asyncio.create_task(WindowJob(world.dsn).run())
        await until_changing(world.dsn)
        # One that began in the change and has the same key as the old statement will have.
        new = asyncio.create_task(late.store.commit([submission(recipient, client_id=waiting.send.client_id, sender=2)]))
        await new
        assert not job.done()
        await other.transaction.rollback()
        outcomes = await old
        await job
    assert outcomes[0].verdict is Verdict.COMMITTED
    assert outcomes[1].verdict is Verdict.REPEATED
    assert outcomes[1].guid == new.result()[0].guid
    assert len(await contents(world.store, mailboxes(recipient)[0])) == 2
    assert await state(world.dsn) == (current + 1, False)


async def test_a_transaction_from_the_change_arbitrates_in_the_new_window_afterwards(world: PostgresWorld) -> None:
    """It began while both windows were written and ends after the change: who writes the new window only must still meet it."""
    recipient = await world.account()
    first = submission(recipient)
    again = submission(recipient, client_id=first.send.client_id)
    current, _ = await state(world.dsn)
    async with held(world.dsn) as old:
        await old.commit(submission(recipient))
        await pass_the_time(world.dsn)
        job = asyncio.create_task(WindowJob(world.dsn).run())
        await until_changing(world.dsn)
        async with held(world.dsn) as other:
            await other.commit(first)
            await old.transaction.commit()
            async with asyncio.timeout(20):
                while (await state(world.dsn))[0] == current:
                    await asyncio.sleep(0.005)
            repeat = asyncio.create_task(world.store.commit([again]))
            await until_stuck(world.dsn)
            await other.transaction.commit()
            [outcome] = await repeat
            await job
    assert (outcome.verdict, outcome.guid) == (Verdict.REPEATED, first.send.guid)
    assert again.send.guid not in await contents(world.store, mailboxes(recipient)[0])


async def test_a_key_of_the_change_that_lost_in_the_new_window_is_answered_from_there(world: PostgresWorld) -> None:
    """It leaves a row in the old window with no message behind it; nobody may ever be answered from that row."""
    recipient = await world.account()
    loser = submission(recipient)
    winner = uuid4()
    current, _ = await state(world.dsn)
    async with held(world.dsn) as old, held(world.dsn) as new:
        await old.commit(submission(recipient))
        await pass_the_time(world.dsn)
        job = asyncio.create_task(WindowJob(world.dsn).run())
        await until_changing(world.dsn)
        await new.connection.execute(KEY, loser.sender, UUID(bytes=loser.send.client_id), winner, current + 1, loser.send.digest)
        task = asyncio.create_task(world.store.commit([loser]))
        await until_stuck(world.dsn)  # the old window has its key, in the new one it waits for the winner
        await new.transaction.commit()
        [during] = await task
        await old.transaction.commit()
        await job
    rows = await query(world.dsn, "SELECT key_window, guid FROM send_key WHERE client_id = $1 ORDER BY 1", UUID(bytes=loser.send.client_id))
    assert [row["key_window"] for row in rows] == [current, current + 1]
    [after] = await world.store.commit([loser])
    for outcome in (during, after):
        assert (outcome.verdict, outcome.guid) == (Verdict.REPEATED, winner.bytes)
    assert loser.send.guid not in await contents(world.store, mailboxes(recipient)[0])


async def test_sends_of_many_workers_through_three_changes_are_each_stored_once(world: PostgresWorld) -> None:
    """Every id is sent again and again by two workers while the windows move under them."""
    recipient = await world.account()
    originals: list[Submission] = []
    seen: dict[bytes, set[bytes]] = {}
    stop = asyncio.Event()

    async def send(store: PostgresWorld, number: int) -> None:
        while not stop.is_set():
            fresh = [submission(recipient, b"%d" % len(originals), sealed=index % 2 == 0) for index in range(4)]
            batch = fresh + originals[-12:][:: 1 if number else -1]
            for each, outcome in zip(batch, await store.store.commit(batch), strict=True):
                assert outcome.verdict in (Verdict.COMMITTED, Verdict.REPEATED), outcome
                seen.setdefault(each.send.client_id, set()).add(outcome.guid)
            originals.extend(fresh)

    async with opened(world.dsn) as other:
        senders = [asyncio.create_task(send(store, number)) for number, store in enumerate((world, other, world, other))]
        for _ in range(3):
            before = len(originals)
            async with asyncio.timeout(20):
                while len(originals) < before + 60:
                    await asyncio.sleep(0.005)
            await change(world.dsn)
        stop.set()
        await asyncio.gather(*senders)
    assert all(len(guids) == 1 for guids in seen.values())
    stored = await contents_all(world, mailboxes(recipient)[0])
    assert len(stored) == len(set(stored)) == len(originals)
    assert set(stored) == {guid for guids in seen.values() for guid in guids}


async def contents_all(world: PostgresWorld, mailbox: int) -> list[bytes]:
    return [row.guid for row in (await world.store.page(mailbox, 0, [], 1_000_000)).rows]


@pytest.mark.parametrize("step", ["begin", "gone", "finish", "forget"])
async def test_a_job_that_dies_anywhere_is_finished_by_the_next(world: PostgresWorld, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    recipient = await world.account()
    sent = submission(recipient)
    await world.store.commit([sent])
    current, _ = await state(world.dsn)
    await pass_the_time(world.dsn)

    async def die(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        if step == "gone":
            patch.setattr("veredus.server.store.window_job.writers_gone", die)
        else:
            patch.setattr(WindowJob, f"_{step}", die)
        with suppress(ConnectionError):
            await WindowJob(world.dsn).run()
    # Whatever state that left, sends go on and repeats are known.
    outcomes: list[Outcome] = await world.store.commit([sent, submission(recipient)])
    assert [outcome.verdict for outcome in outcomes] == [Verdict.REPEATED, Verdict.COMMITTED]
    await WindowJob(world.dsn).run()
    assert await state(world.dsn) == (current + 1, False)
    assert await windows(world.dsn) == [current, current + 1]
    outcomes = await world.store.commit([sent, submission(recipient)])
    assert [outcome.verdict for outcome in outcomes] == [Verdict.REPEATED, Verdict.COMMITTED]


async def test_a_drop_that_was_interrupted_is_finished_by_the_next_run(world: PostgresWorld) -> None:
    current, _ = await state(world.dsn)
    reader = await asyncpg.connect(world.dsn)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("SELECT 1 FROM send_key")  # holds up the second half of DETACH … CONCURRENTLY
    await pass_the_time(world.dsn)
    with pytest.raises(asyncpg.LockNotAvailableError):
        await WindowJob(world.dsn).run()
    await transaction.rollback()
    await reader.close()
    await WindowJob(world.dsn).run()
    assert await windows(world.dsn) == [current, current + 1]


async def test_many_nodes_may_run_the_job_at_once(world: PostgresWorld) -> None:
    current, _ = await state(world.dsn)
    await pass_the_time(world.dsn)
    await asyncio.gather(*[WindowJob(world.dsn).run() for _ in range(6)])
    assert await state(world.dsn) == (current + 1, False)
    assert await windows(world.dsn) == [current, current + 1]
