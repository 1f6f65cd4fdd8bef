"""The client against a server in memory on a real socket: what it does when things go well and when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import UUID, uuid4

import pytest
import uvloop

from tests.checker.check import Held, check
from tests.checker.history import Device, History, digest_of
from tests.checker.recorder import Recorder
from tests.fakes.server import FakeServer
from veredus.client import (
    Client,
    ClientClosed,
    Config,
    ConnectionRefused,
    Credentials,
    DevicesMismatch,
    DevicesStale,
    IdempotencyMismatch,
    Message,
    SendRefused,
    TooLarge,
)
from veredus.core.errors import Code
from veredus.core.model import EnvelopeType

ALICE, BOB = UUID(int=1), UUID(int=2)
QUICK = Config(backoff_first_seconds=0.01, backoff_most_seconds=0.02)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


def client(server: FakeServer, account: UUID, *, recorder: Recorder | None = None, config: Config = QUICK) -> Client:
    return Client(server.url, server.credentials(account), config=config, observer=recorder)


async def receive(client: Client, count: int, *, auto_ack: bool = True) -> list[Message]:
    found = []
    if count:
        async for message in client.messages(auto_ack=auto_ack):
            found.append(message)
            if len(found) == count:
                if auto_ack:
                    await message.ack()
                break
    return found


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_message_goes_from_one_client_to_another_on_either_loop(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario() -> None:
        async with FakeServer() as server, client(server, ALICE) as alice, client(server, BOB) as bob:
            sent = await alice.send(BOB, "good morning", urgent=True)
            [message] = await receive(bob, 1)
            assert (message.text, message.guid, message.source, message.source_device) == ("good morning", sent.guid, ALICE, 1)
            assert (message.type, message.urgent, message.server_timestamp) == (EnvelopeType.PLAINTEXT, True, sent.server_timestamp)
            await server.until(lambda: not server.mailboxes[BOB.bytes, 1])

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario())


async def test_what_was_stored_before_is_delivered_and_drained(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        for number in range(5):
            await alice.send(BOB, f"{number}")
    async with client(server, BOB) as bob:
        await bob.drained()
        assert [message.text for message in await receive(bob, 5)] == ["0", "1", "2", "3", "4"]


async def test_contents_go_to_the_devices_they_are_for(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        await alice.send(BOB, {1: b"for one", 2: b"for two"}, registration_ids={2: 17})
    async with Client(server.url, server.credentials(BOB, 2)) as second:
        [message] = await receive(second, 1)
        assert (message.content, message.type) == (b"for two", EnvelopeType.CIPHERTEXT)


async def test_a_new_session_beside_an_established_one_leaves_in_one_send(server: FakeServer) -> None:
    own = {2: EnvelopeType.PREKEY_BUNDLE}
    async with client(server, ALICE) as alice:
        await alice.send(BOB, {1: b"for one", 2: b"for two"}, types=own)
        with pytest.raises(SendRefused) as refused:
            await alice.send(BOB, {1: b"for one", 2: b"for two"}, types={2: EnvelopeType.SEALED})
        assert refused.value.code is Code.INVALID_TYPE
    for device, type in ((1, EnvelopeType.CIPHERTEXT), (2, EnvelopeType.PREKEY_BUNDLE)):
        async with Client(server.url, server.credentials(BOB, device)) as bob:
            [message] = await receive(bob, 1)
            assert message.type is type


async def test_sends_of_one_loop_iteration_leave_as_one_frame(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        await asyncio.gather(*(alice.submit(BOB, f"{number}") for number in range(QUICK.window)))
        assert server.line(ALICE).frames == 1


async def test_acknowledgements_of_one_loop_iteration_leave_as_one_position(server: FakeServer) -> None:
    async with client(server, ALICE) as alice, client(server, BOB) as bob:
        await asyncio.gather(*(alice.submit(BOB, f"{number}") for number in range(10)))
        messages = await receive(bob, 10, auto_ack=False)
        for message in messages:
            await message.ack()
        await server.until(lambda: server.line(BOB).acknowledged)
        assert server.line(BOB).acknowledged == [((), 10)]


async def test_unanswered_sends_go_again_in_their_order_on_the_next_connection(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        server.levers.drop_after = 3
        answers = await asyncio.gather(*(alice.submit(BOB, f"{number}") for number in range(6)))
        assert len({answer.guid for answer in answers}) == 6
        assert server.sends == [*server.sends[:3], *(answer.client_id.bytes for answer in answers)]
    async with client(server, BOB) as bob:
        assert [message.text for message in await receive(bob, 6)] == ["0", "1", "2", "3", "4", "5"]


async def test_after_a_retryable_refusal_the_client_resumes_and_keeps_the_order(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        server.levers.refuse.extend([Code.OK, Code.BUSY])
        await asyncio.gather(*(alice.submit(BOB, f"{number}") for number in range(40)))
        assert server.line(ALICE).resumes == 1
    async with client(server, BOB) as bob:
        assert [message.text for message in await receive(bob, 40)] == [f"{number}" for number in range(40)]


async def test_refusals_of_devices_carry_the_lists(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        server.levers.refuse.extend([Code.DEVICES_MISMATCH, Code.DEVICES_STALE])
        server.levers.devices = (2, 3)
        with pytest.raises(DevicesMismatch) as mismatch:
            await alice.send(BOB, "text")
        with pytest.raises(DevicesStale) as stale:
            await alice.send(BOB, "text")
        assert (mismatch.value.missing, stale.value.stale) == ((2, 3), (2, 3))


async def test_a_client_id_gives_the_first_answer_again_and_no_other_body(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        name = uuid4()
        first = await alice.send(BOB, "text", client_id=name)
        assert await alice.send(BOB, "text", client_id=name) == first
        with pytest.raises(IdempotencyMismatch):
            await alice.send(BOB, "another", client_id=name)


@pytest.mark.requirement("MSG-6", "SDK-19")
async def test_a_text_has_at_most_65535_bytes_and_other_content_what_the_server_takes(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        await alice.send(BOB, "é" * 32_767 + "a")
        with pytest.raises(TooLarge):
            await alice.send(BOB, "é" * 32_768)
        await alice.send(BOB, b"x" * 262_144)
        with pytest.raises(TooLarge):
            await alice.send(BOB, b"x" * 262_145)
        with pytest.raises(TooLarge):
            await alice.send(BOB, b"x" * (2 << 20))
        assert len(server.sends) == 3


async def test_a_repeat_after_a_reconnect_is_not_shown_again(server: FakeServer) -> None:
    async with client(server, ALICE) as alice, client(server, BOB) as bob:
        await alice.send(BOB, "one")
        [one] = await receive(bob, 1, auto_ack=False)
        first = server.line(BOB)
        first.drop()
        await server.until(lambda: any(line.mailbox[0] == BOB.bytes and line is not first for line in server.lines))
        await bob.drained()
        await alice.send(BOB, "two")
        [two] = await receive(bob, 1, auto_ack=False)
        assert two.text == "two"
        await two.ack()
        await one.ack()
        await server.until(lambda: not server.mailboxes[BOB.bytes, 1])


@pytest.mark.parametrize(("code", "final"), [(Code.REPLACED, True), (Code.SESSION_REVOKED, True), (Code.RESULT_UNKNOWN, False)])
async def test_a_close_ends_the_client_or_it_comes_back(server: FakeServer, code: Code, final: bool) -> None:
    async with client(server, ALICE) as alice:
        server.levers.answers.clear()
        waiting = alice.submit(BOB, "text")
        await server.until(lambda: server.line(ALICE).queue)
        server.levers.answers.set()
        server.line(ALICE).close(code)
        if not final:
            assert (await waiting).server_timestamp
            return
        with pytest.raises(ConnectionRefused) as caught:
            await waiting
        assert caught.value.code is code
        with pytest.raises(ConnectionRefused):
            await anext(alice.messages())
        with pytest.raises(ConnectionRefused):
            await alice.send(BOB, "text")


async def test_a_notice_that_closes_nothing_is_not_why_a_connection_was_lost(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        line = server.line(ALICE)
        line.writer.put_error(Code.UNKNOWN_DELIVERY, "", 0)
        line.flush()
        await alice.send(BOB, "text")
        line.drop()
        await alice.send(BOB, "text")


async def test_wrong_credentials_end_the_first_connect(server: FakeServer) -> None:
    alice = Client(server.url, Credentials(ALICE, 1, "wrong"))
    with pytest.raises(ConnectionRefused) as caught:
        await alice.connect()
    assert caught.value.code is Code.UNAUTHENTICATED
    await alice.close()


async def test_the_client_tries_again_while_the_server_has_no_room(server: FakeServer) -> None:
    server.levers.upgrade.extend([(503, {"Retry-After": "0"}), (429, {}), (500, {})])
    async with client(server, ALICE) as alice:
        assert (await alice.send(BOB, "text")).server_timestamp
    assert not server.levers.upgrade


@pytest.mark.requirement("SDK-25")
async def test_on_a_shutdown_notice_the_client_finishes_leaves_and_comes_back_without_loss(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        old = server.line(ALICE)
        server.levers.answers.clear()
        flying = alice.submit(BOB, "on its way")
        await server.until(lambda: old.queue)
        old.shutdown(1)
        await asyncio.wait_for(alice.sync(), 5)
        held = alice.submit(BOB, "after the notice")
        server.levers.answers.set()
        old.look()
        await asyncio.gather(flying, held)
        assert old not in server.lines
        assert server.sends == [flying.result().client_id.bytes, held.result().client_id.bytes]


@pytest.mark.requirement("SDK-18")
async def test_the_client_pings_and_drops_a_connection_that_is_dead(server: FakeServer) -> None:
    async with client(server, ALICE, config=Config(ping_seconds=0.02, backoff_first_seconds=0.01, backoff_most_seconds=0.02)) as alice:
        first = server.line(ALICE)
        await server.until(lambda: first.pings > 3)
        assert first in server.lines
        server.levers.silent = True
        await server.until(lambda: first not in server.lines)
        server.levers.silent = False
        await alice.connect()


async def test_a_server_that_says_nothing_is_left(server: FakeServer) -> None:
    server.levers.silent = True
    alice = client(server, ALICE, config=Config(connect_seconds=0.05, backoff_first_seconds=0.01, backoff_most_seconds=0.02))
    connecting = asyncio.create_task(alice.connect())
    await server.until(lambda: server.lines)
    await server.until(lambda: not server.lines)
    server.levers.silent = False
    await connecting
    await alice.close()


async def test_close_tells_what_is_acknowledged_and_fails_what_is_pending(server: FakeServer) -> None:
    async with client(server, ALICE) as alice:
        await alice.send(BOB, "text")
    bob = client(server, BOB)
    await bob.connect()
    [message] = await receive(bob, 1, auto_ack=False)
    server.levers.answers.clear()
    pending = bob.submit(ALICE, "text")
    await message.ack()
    await bob.close()
    with pytest.raises(ClientClosed):
        await pending
    with pytest.raises(ClientClosed):
        bob.submit(ALICE, "text")
    assert [found async for found in bob.messages()] == []
    await server.until(lambda: not server.lines)
    assert not server.mailboxes[BOB.bytes, 1]


async def test_a_password_shows_nowhere() -> None:
    credentials = Credentials.parse(f"{ALICE}.2:a:secret")
    assert credentials == Credentials(ALICE, 2, "a:secret")
    assert "secret" not in repr(credentials) + str(credentials)
    with pytest.raises(ValueError, match="form"):
        Credentials.parse(str(ALICE))


async def test_the_recorded_history_of_a_troubled_conversation_passes_the_checker(server: FakeServer) -> None:
    history = History()
    async with client(server, ALICE, recorder=Recorder(history, "a")) as alice, client(server, BOB, recorder=Recorder(history, "b")) as bob:
        for lever in range(12):
            server.levers.drop_after = lever % 4
            server.levers.refuse.extend([Code.OK] * (lever % 3) + [Code.BUSY])
            await asyncio.gather(*(alice.submit(BOB, {1: f"{lever} {number}"}) for number in range(20)))
            await receive(bob, 20)
            if lever % 3 == 0:
                server.line(BOB).drop()
                await bob.sync()
        await server.until(lambda: not server.mailboxes[BOB.bytes, 1])
    held = {Device(*mailbox): [Held(stored.guid, digest_of(b"")) for stored in rows] for mailbox, rows in server.mailboxes.items() if rows}
    assert [str(violation) for violation in check(history, held)] == []
    assert len(history) > 12 * 20 * 3
