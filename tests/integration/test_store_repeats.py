"""One client id makes one message, whatever happens between its repeats (P3, MSG-25)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.message_store import contents, mailboxes, submission
from tests.integration.store_gates import PostgresWorld, held, opened, query, until_stuck
from veredus.core.model import Verdict
from veredus.server.store.commit import CAREFUL_BATCHES

pytestmark = pytest.mark.requirement("MSG-25")


@pytest.fixture
async def world(database: str) -> AsyncIterator[PostgresWorld]:
    async with opened(database) as world:
        yield world


@pytest.fixture(params=["plain", "careful"])
async def either(request: pytest.FixtureRequest, world: PostgresWorld) -> PostgresWorld:
    """The store in its two moods: expecting no repeats, and after it met one."""
    if request.param == "careful":
        recipient = await world.account()
        sent = submission(recipient)
        await world.store.commit([sent])
        await world.store.commit([sent])
    return world


async def test_a_resend_on_another_connection_gets_the_first_answer(either: PostgresWorld) -> None:
    recipient = await either.account()
    sent = submission(recipient)
    [first] = await either.store.commit([sent])
    async with opened(either.dsn) as other:
        [repeat] = await other.store.commit([sent])
    assert (repeat.verdict, repeat.guid, repeat.server_timestamp) == (Verdict.REPEATED, first.guid, first.server_timestamp)
    assert await contents(either.store, mailboxes(recipient)[0]) == [first.guid]


async def test_a_resend_waits_for_the_first_which_is_not_yet_committed(either: PostgresWorld) -> None:
    recipient = await either.account()
    first = submission(recipient)
    again = submission(recipient, client_id=first.send.client_id)
    new = submission(recipient)
    async with held(either.dsn) as other:
        await other.commit(first)
        repeat = asyncio.create_task(either.store.commit([new, again]))
        await until_stuck(either.dsn)
        await other.transaction.commit()
        created, repeated = await repeat
    assert created.verdict is Verdict.COMMITTED
    assert (repeated.verdict, repeated.guid) == (Verdict.REPEATED, first.send.guid)
    assert sorted(await contents(either.store, mailboxes(recipient)[0])) == sorted([first.send.guid, new.send.guid])


async def test_a_resend_is_stored_when_the_first_rolled_back(either: PostgresWorld) -> None:
    recipient = await either.account()
    first = submission(recipient)
    again = submission(recipient, client_id=first.send.client_id)
    async with held(either.dsn) as other:
        await other.commit(first)
        repeat = asyncio.create_task(either.store.commit([again]))
        await until_stuck(either.dsn)
        await other.transaction.rollback()
        [outcome] = await repeat
    assert (outcome.verdict, outcome.guid) == (Verdict.COMMITTED, again.send.guid)
    assert await contents(either.store, mailboxes(recipient)[0]) == [again.send.guid]


async def test_another_body_is_refused_also_while_the_first_is_uncommitted(either: PostgresWorld) -> None:
    recipient = await either.account()
    first = submission(recipient)
    async with held(either.dsn) as other:
        await other.commit(first)
        repeat = asyncio.create_task(either.store.commit([submission(recipient, b"other", client_id=first.send.client_id)]))
        await until_stuck(either.dsn)
        await other.transaction.commit()
        [outcome] = await repeat
    assert outcome.verdict is Verdict.MISMATCH
    assert await contents(either.store, mailboxes(recipient)[0]) == [first.send.guid]


async def test_many_connections_sending_the_same_ids_in_any_order_make_each_message_once(world: PostgresWorld) -> None:
    recipient = await world.account()
    originals = [submission(recipient, b"%d" % number) for number in range(40)]
    async with opened(world.dsn) as other:
        batches = [originals[start:] + originals[:start] for start in range(0, 40, 5)]
        answers = await asyncio.gather(
            *[(world, other)[number % 2].store.commit(batch) for number, batch in enumerate(batches)],
        )
    assert sorted(await contents(world.store, mailboxes(recipient)[0])) == sorted(each.send.guid for each in originals)
    for original in originals:
        found = [outcomes[batch.index(original)] for batch, outcomes in zip(batches, answers, strict=True)]
        assert {outcome.guid for outcome in found} == {original.send.guid}
        assert len({outcome.server_timestamp for outcome in found}) == 1
        assert [outcome.verdict for outcome in found].count(Verdict.COMMITTED) == 1


async def test_an_id_twice_in_a_batch_is_stored_once(world: PostgresWorld) -> None:
    """The core collapses repeats before; should one slip through, the unique index must still hold."""
    recipient = await world.account()
    first = submission(recipient)
    again = submission(recipient, client_id=first.send.client_id)
    outcomes = await world.store.commit([first, again])
    assert [outcome.verdict for outcome in outcomes] == [Verdict.COMMITTED, Verdict.REPEATED]
    assert {outcome.guid for outcome in outcomes} == {first.send.guid}
    assert await contents(world.store, mailboxes(recipient)[0]) == [first.send.guid]


@pytest.mark.requirement("MSG-31")
async def test_one_bad_row_among_a_thousand_is_refused_alone_and_the_order_stays(world: PostgresWorld) -> None:
    recipient = await world.account()
    batch = [submission(recipient) for _ in range(1000)]
    batch[617] = submission(recipient, bytes(300_000))
    outcomes = await world.store.commit(batch)
    assert outcomes[617].verdict is Verdict.REFUSED
    assert [index for index, outcome in enumerate(outcomes) if outcome.verdict is not Verdict.COMMITTED] == [617]
    ids = [outcome.ids[0] for outcome in outcomes if outcome.ids]
    assert ids == sorted(ids)
    assert len(await contents(world.store, mailboxes(recipient)[0])) == 999
    # Nothing is left of the refused one: its id is free for a message that can be stored.
    [outcome] = await world.store.commit([submission(recipient, client_id=batch[617].send.client_id)])
    assert outcome.verdict is Verdict.COMMITTED


async def test_data_that_cannot_even_be_sent_is_refused_alone(world: PostgresWorld) -> None:
    recipient = await world.account()
    batch = [submission(recipient, sender=2**70 if number == 3 else 5) for number in range(6)]
    outcomes = await world.store.commit(batch)
    assert [outcome.verdict is Verdict.REFUSED for outcome in outcomes] == [False, False, False, True, False, False]


async def test_a_batch_of_nothing_but_repeats_is_answered_in_full(world: PostgresWorld) -> None:
    recipient = await world.account()
    batch = [submission(recipient) for _ in range(200)]
    first = await world.store.commit(batch)
    for _ in range(CAREFUL_BATCHES + 2):  # through the careful batches and into plain ones again
        repeat = await world.store.commit(batch)
        assert [(outcome.verdict, outcome.guid) for outcome in repeat] == [(Verdict.REPEATED, outcome.guid) for outcome in first]


async def test_a_version_that_moves_while_a_batch_waits_belongs_to_a_later_time(world: PostgresWorld) -> None:
    """Whoever looked before the change counts as having sent before it."""
    recipient = await world.account()
    first, waiting = submission(recipient), submission(recipient)
    async with held(world.dsn) as other:
        await other.commit(first)
        task = asyncio.create_task(world.store.commit([submission(recipient, client_id=first.send.client_id), waiting]))
        await until_stuck(world.dsn)
        await world.move(recipient)
        await other.transaction.rollback()
        outcomes = await task
    # A plain statement was answered by the winner's end alone and went on with the snapshot it had.
    assert [outcome.verdict for outcome in outcomes] == [Verdict.COMMITTED] * 2
    [late] = await world.store.commit([submission(recipient)])
    assert late.verdict is Verdict.STALE_DEVICES


@pytest.mark.requirement("MSG-2")
async def test_a_sealed_send_leaves_no_trace_of_its_sender(world: PostgresWorld) -> None:
    recipient = await world.account()
    sealed = submission(recipient, sender=424_242_424_242, sealed=True)
    await world.store.commit([sealed])
    [row] = await query(world.dsn, "SELECT sender, client_id, key_window FROM mailbox")
    assert tuple(row) == (None, None, None)
    [key] = await query(world.dsn, "SELECT sender, client_id FROM send_key")
    assert key["sender"] == 0
    assert key["client_id"].bytes != sealed.send.client_id
    everything = await query(world.dsn, "SELECT m::text AS text FROM mailbox m UNION ALL SELECT k::text FROM send_key k")
    assert not any("424242424242" in row["text"] for row in everything)


async def test_two_senders_of_sealed_messages_may_use_the_same_id(world: PostgresWorld) -> None:
    recipient = await world.account()
    one = submission(recipient, sender=1, sealed=True)
    other = submission(recipient, b"other", client_id=one.send.client_id, sender=2, sealed=True)
    assert [outcome.verdict for outcome in await world.store.commit([one, other])] == [Verdict.COMMITTED] * 2


@pytest.mark.requirement("MSG-11")
async def test_a_send_costs_one_row_for_its_device_and_one_key_and_changes_no_other_row(world: PostgresWorld) -> None:
    recipient = await world.account()
    await world.store.commit([submission(recipient) for _ in range(10)])
    await world.postgres.close()  # a session's statistics are complete when it has ended
    rows = await query(world.dsn, "SELECT relname, n_tup_ins AS ins, n_tup_upd AS upd, n_tup_del AS del FROM pg_stat_user_tables")
    hot = {
        row["relname"]: (row["ins"], row["upd"], row["del"]) for row in rows if row["ins"] and row["relname"] in ("mailbox_1", "send_key_2")
    }
    assert hot == {"mailbox_1": (10, 0, 0), "send_key_2": (10, 0, 0)}
