"""The message path of one worker on fakes: the order of commit, push and answer; pages, acknowledgements, sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.core.delivering import RecordingOrigin, inbound, running, send, until
from veredus.core.errors import Code
from veredus.core.model import EnvelopeType, Page


@pytest.mark.requirement("MSG-14", "MSG-20")
async def test_a_message_is_pushed_to_an_online_device_and_answered() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        sender, sent = world.connect(alice)
        _, received = await world.online(bob)
        message = send(alice, bob)
        sender.on_inbound(inbound(message))
        await until(lambda: sent.replies)
        assert sent.replies[0].code is Code.OK
        assert sent.replies[0].guid == message.guid
        assert received.deliveries == [(1, message.envelopes[0], world.store.now_ms)]


async def test_nothing_is_pushed_or_answered_before_the_commit() -> None:
    """P1."""
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        sender, sent = world.connect(alice)
        _, received = await world.online(bob)
        world.store.after_commit = asyncio.Event()
        sender.on_inbound(inbound(send(alice, bob)))
        await world.store.stored.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not sent.replies
        assert not received.deliveries
        world.store.after_commit.set()
        await until(lambda: sent.replies and received.deliveries)


@pytest.mark.requirement("MSG-8")
async def test_presence_is_read_beside_the_commit_not_after_it() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.presence.gate = asyncio.Event()
        world.store.before_commit = asyncio.Event()
        world.delivery.accept(origin, alice, [send(alice, bob)])
        await world.store.began.wait()
        await world.presence.located.wait()  # both have begun and neither has ended
        world.store.before_commit.set()
        world.presence.gate.set()
        await until(lambda: origin.replies)


async def test_presence_that_fails_costs_no_message() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        world.presence.broken = True
        _, received = await world.online(bob)
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob)])
        await until(lambda: received.deliveries)
        assert world.context.counters.presence_failures > 0


@pytest.mark.requirement("MSG-23")
async def test_what_was_sent_while_a_device_was_away_is_there_when_it_comes() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        messages = [send(alice, bob, b"%d" % number) for number in range(250)]
        world.delivery.accept(origin, alice, messages)
        await until(lambda: len(origin.replies) == 250)
        _, received = world.connect(bob)
        await until(lambda: received.drained_at)
        assert [envelope for _, envelope, _ in received.deliveries] == [message.envelopes[0] for message in messages]
        assert received.drained_at == [250]


@pytest.mark.requirement("SYN-8", "MSG-15", "SYN-7")
async def test_acknowledged_rows_are_removed_and_only_those() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        session, wire = await world.online(bob)
        world.delivery.accept(RecordingOrigin(), alice, [send(alice, bob) for _ in range(5)])
        await until(lambda: len(wire.deliveries) == 5)
        session.on_inbound(inbound(up_to=2, tags=[4]))
        await until(lambda: world.context.counters.removed == 3)
        assert [row.id for row in world.store.of(bob.device_id)] == [3, 5]


async def test_removal_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veredus.core.messaging.acks.RETRY_SECONDS", 0)
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        session, wire = await world.online(bob)
        world.delivery.accept(RecordingOrigin(), alice, [send(alice, bob)])
        await until(lambda: wire.deliveries)
        world.store.available = False
        session.on_inbound(inbound(tags=[1]))
        await until(lambda: world.context.counters.remove_retries > 3)
        world.store.available = True
        await until(lambda: not world.store.of(bob.device_id))


async def test_a_newer_connection_of_a_device_replaces_the_older_and_nothing_is_lost_between_them() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        _, older = await world.online(bob)
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob, b"%d" % number) for number in range(10)])
        _, newer = world.connect(bob)
        world.delivery.accept(origin, alice, [send(alice, bob, b"%d" % number) for number in range(10, 20)])
        await until(lambda: len(origin.replies) == 20 and len(newer.deliveries) == 20)
        assert older.closed is Code.REPLACED


@pytest.mark.requirement("MSG-2", "KEY-2")
async def test_a_sealed_envelope_is_stored_without_its_source() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob, type=EnvelopeType.SEALED)])
        await until(lambda: origin.replies)
        [row] = world.store.of(bob.device_id)
        assert alice.account not in row.envelope


async def test_an_ephemeral_send_reaches_who_is_here_and_is_stored_nowhere() -> None:
    async with running() as world:
        [alice], [bob], [carol] = world.account(), world.account(), world.account()
        _, wire = await world.online(bob)
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob, ephemeral=True), send(alice, carol, ephemeral=True)])
        await until(lambda: len(origin.replies) == 2)
        assert [tag for tag, _, _ in wire.deliveries] == [0]
        assert not world.store.mailbox
        assert world.context.counters.ephemeral_dropped == 1


async def test_sync_asks_again_for_what_is_stored_and_says_when_done() -> None:
    async with running() as world:
        [bob] = world.account()
        session, wire = await world.online(bob)
        session.on_inbound(inbound(sync=True))
        await until(lambda: len(wire.drained_at) == 2)


async def test_pages_are_asked_for_until_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veredus.core.messaging.pager.RETRY_SECONDS", 0)
    async with running() as world:
        [bob] = world.account()
        world.store.available = False
        _, wire = world.connect(bob)
        await until(lambda: world.context.counters.page_retries > 2)
        world.store.available = True
        await until(lambda: wire.drained_at)


async def test_a_page_that_fails_in_an_unforeseen_way_is_read_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """P5: a session that is brought no page would wait for ever."""
    monkeypatch.setattr("veredus.core.messaging.pager.RETRY_SECONDS", 0)
    async with running() as world:
        [bob] = world.account()
        page, failures = world.store.page, [ZeroDivisionError("secret"), KeyError("secret")]

        async def failing(device: int, floor: int, skip: Sequence[int], limit: int) -> Page:
            if failures:
                raise failures.pop()
            return await page(device, floor, skip, limit)

        world.store.page = failing  # type: ignore[method-assign]
        _, wire = world.connect(bob)
        await until(lambda: wire.drained_at)
        assert "ZeroDivisionError" in caplog.text
        assert "secret" not in caplog.text
