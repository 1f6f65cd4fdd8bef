"""What may have been committed is said to be unknown, and committing again settles it. A commit is never cancelled."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import pytest

from tests.contract.message_store import contents, mailboxes, submission
from tests.integration.store_gates import Held, PostgresWorld, held, opened, query, until_stuck
from veredus.core.errors import ResultUnknown, StoreUnavailable
from veredus.core.model import Account, Submission, Verdict

RUNNING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'veredus commit' AND state = 'active' AND datname = current_database()"


class Cable:
    """A proxy between a store and its server that can be cut at a chosen point of the next statement."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.cut: str | None = None  # "request": never arrives; "answer": arrives, and the answer is lost
        self.links: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self.server)
        both = (writer, far_writer)
        for source, sink, kind in ((reader, far_writer, "request"), (far_reader, writer, "answer")):
            task = asyncio.create_task(self.carry(source, sink, kind, both))
            self.links.add(task)
            task.add_done_callback(self.links.discard)

    async def carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, kind: str, both: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        try:
            while data := await source.read(65536):
                if self.cut == kind:
                    break
                sink.write(data)
        finally:
            for writer in both:
                writer.close()


@pytest.fixture
async def cable(database: str) -> AsyncIterator[tuple[Cable, str]]:
    """The cable, and the DSN that leads through it."""
    parts = urlsplit(database)
    settings = {name: values[0] for name, values in parse_qs(parts.query).items()}
    port = settings.get("port", "5432")
    cable = Cable(f"{settings['host']}/.s.PGSQL.{port}")
    with tempfile.TemporaryDirectory(prefix="veredus-cable-", dir="/tmp") as folder:
        server = await asyncio.start_unix_server(cable.accept, Path(folder) / f".s.PGSQL.{port}")
        yield cable, parts._replace(query=urlencode(settings | {"host": folder})).geturl()
        server.close()
        for task in list(cable.links):
            task.cancel()
        await asyncio.gather(*cable.links, return_exceptions=True)


@pytest.mark.parametrize(("cut", "stored"), [("request", False), ("answer", True)])
async def test_a_connection_cut_during_a_commit_is_unknown_and_committing_again_tells(
    database: str, cable: tuple[Cable, str], cut: str, stored: bool
) -> None:
    wire, through = cable
    async with opened(database) as direct, opened(through) as world:
        recipient = await direct.account()
        await world.store.commit([submission(recipient)])  # the connection is there and the statement prepared
        sent = submission(recipient)
        wire.cut = cut
        with pytest.raises(ResultUnknown):
            await world.store.commit([sent])
        wire.cut = None
        [outcome] = await world.store.commit([sent])
        assert outcome.verdict is (Verdict.REPEATED if stored else Verdict.COMMITTED)
        assert outcome.guid == sent.send.guid
        assert (await contents(direct.store, mailboxes(recipient)[0])).count(sent.send.guid) == 1


async def stuck_commit(world: PostgresWorld, other: Held) -> tuple[Submission, Account, asyncio.Task[object]]:
    """A commit that waits for another's key after its statement was sent."""
    recipient = await world.account()
    blocker = submission(recipient)
    await other.commit(blocker)
    sent = submission(recipient, client_id=blocker.send.client_id)
    task: asyncio.Task[object] = asyncio.create_task(world.store.commit([sent]))
    await until_stuck(world.dsn)
    return sent, recipient, task


async def test_past_its_deadline_a_commit_is_unknown_and_goes_on_in_the_server(database: str) -> None:
    async with opened(database, deadline_seconds=0.3) as world, held(database) as other:
        sent, recipient, task = await stuck_commit(world, other)
        [backend] = await query(database, RUNNING)
        with pytest.raises(ResultUnknown):
            await task
        assert await query(database, RUNNING) == [backend], "the statement was cancelled"
        await other.transaction.rollback()
        async with asyncio.timeout(20):
            while await query(database, RUNNING):
                await asyncio.sleep(0.01)
        assert await contents(world.store, mailboxes(recipient)[0]) == [sent.send.guid]
        [outcome] = await world.store.commit([sent])
        assert (outcome.verdict, outcome.guid) == (Verdict.REPEATED, sent.send.guid)


async def test_committing_again_waits_for_an_original_that_still_runs(database: str) -> None:
    async with opened(database, deadline_seconds=0.3) as world, opened(database) as patient, held(database) as other:
        sent, recipient, task = await stuck_commit(world, other)
        with pytest.raises(ResultUnknown):
            await task
        again = asyncio.create_task(patient.store.commit([sent]))
        await until_stuck(database, 2)
        await other.transaction.rollback()
        [outcome] = await again
        assert outcome.verdict in (Verdict.REPEATED, Verdict.COMMITTED)  # whoever of the two was woken first
        assert outcome.guid == sent.send.guid
        assert await contents(world.store, mailboxes(recipient)[0]) == [sent.send.guid]


async def test_a_caller_that_goes_away_cancels_nothing_and_its_connection_is_used_again(database: str) -> None:
    async with opened(database, commits=1) as world, held(database) as other:
        sent, recipient, task = await stuck_commit(world, other)
        [backend] = await query(database, RUNNING)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await query(database, RUNNING) == [backend]
        await other.transaction.rollback()
        [outcome] = await world.store.commit([sent])  # waits for the only connection, so for the first to end
        assert outcome.verdict is Verdict.REPEATED
        assert await contents(world.store, mailboxes(recipient)[0]) == [sent.send.guid]


async def test_a_killed_backend_makes_the_result_unknown(database: str) -> None:
    async with opened(database) as world, held(database) as other:
        sent, recipient, task = await stuck_commit(world, other)
        [backend] = await query(database, RUNNING)
        await other.connection.fetchval("SELECT pg_terminate_backend($1)", backend["pid"])
        with pytest.raises(ResultUnknown):
            await task
        await other.transaction.rollback()
        [outcome] = await world.store.commit([sent])
        assert outcome.verdict is Verdict.COMMITTED
        assert await contents(world.store, mailboxes(recipient)[0]) == [sent.send.guid]


async def test_a_deadlock_is_repeated_until_it_is_stored(database: str) -> None:
    """Keys are taken in one order, so only a stranger's transaction can do this; the server then gives up one of the two."""
    async with opened(database) as world:
        recipient = await world.account()
        first, second = submission(recipient, sender=1), submission(recipient, sender=2)
        stranger = await asyncpg.connect(database)
        await stranger.execute("SET deadlock_timeout = '1h'")  # let the store's backend be the one that finds it and gives up
        transaction = stranger.transaction()
        await transaction.start()
        columns = "sender, server_time, client_id, guid, key_window, needs_sync, digest"
        key = f"INSERT INTO send_key ({columns}) VALUES ($1, 1, $2, $2, 2, false, '')"
        await stranger.execute(key, 2, second.send.client_id.hex())
        task = asyncio.create_task(world.store.commit([first, second]))
        await until_stuck(database)
        crossing = asyncio.create_task(stranger.execute(key, 1, first.send.client_id.hex()))
        await crossing  # the store's statement was given up, or this would wait for ever
        await transaction.rollback()
        await stranger.close()
        assert [outcome.verdict for outcome in await task] == [Verdict.COMMITTED] * 2


async def test_a_server_that_is_not_there_is_unavailable_and_nothing_happened(database: str) -> None:
    nowhere = urlsplit(database)._replace(query=urlencode({"host": "/nonexistent"})).geturl()
    async with opened(database) as world, opened(nowhere) as lost:
        recipient = await world.account()
        with pytest.raises(StoreUnavailable):
            await lost.store.commit([submission(recipient)])
        with pytest.raises(StoreUnavailable):
            await lost.store.page(1, 0, [], 100)
        with pytest.raises(StoreUnavailable):
            await lost.store.remove([(1, 1)])
        with pytest.raises(StoreUnavailable):
            await lost.postgres.start()


async def test_no_free_connection_in_time_is_unavailable(database: str) -> None:
    async with opened(database, commits=1, connect_seconds=0.3) as world, held(database) as other:
        _, recipient, task = await stuck_commit(world, other)
        with pytest.raises(StoreUnavailable):
            await world.store.commit([submission(recipient)])
        await other.transaction.rollback()
        await task


async def test_a_missing_partition_is_the_store_s_fault_and_refuses_nobody_s_message(database: str) -> None:
    async with opened(database) as world:
        recipient = await world.account()
        await query(database, "SELECT setval('mailbox_id', 9::bigint << 40)")
        with pytest.raises(StoreUnavailable):
            await world.store.commit([submission(recipient) for _ in range(4)])
        assert await query(database, "SELECT 1 FROM send_key") == []


async def test_errors_name_no_ids_and_no_content(database: str) -> None:
    async with opened(database, deadline_seconds=0.3) as world, held(database) as other:
        sent, _, task = await stuck_commit(world, other)
        with pytest.raises(ResultUnknown) as caught:
            await task
        text = repr(caught.value) + str(caught.value.__cause__)
        assert sent.send.client_id.hex() not in text.replace("-", "")
        assert caught.value.__cause__ is None
        await other.transaction.rollback()
