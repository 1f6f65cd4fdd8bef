"""Repeats and unknown results (P1, P3): one message, one answer, whatever happened to the first."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.core.delivering import RecordingOrigin, inbound, running, send, until
from veredus.core.errors import Code
from veredus.core.limits import Limits


@pytest.mark.requirement("MSG-25")
async def test_a_repeat_gets_the_first_answer_in_flight_and_afterwards() -> None:
    """P3."""
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        first, second, third = RecordingOrigin(), RecordingOrigin(), RecordingOrigin()
        client_id = b"k" * 16
        world.store.before_commit = asyncio.Event()
        world.delivery.accept(first, alice, [send(alice, bob, client_id=client_id)])
        await world.store.began.wait()
        world.delivery.accept(second, alice, [send(alice, bob, client_id=client_id)])
        world.store.before_commit.set()
        await until(lambda: first.replies and second.replies)
        world.delivery.accept(third, alice, [send(alice, bob, client_id=client_id)])
        assert first.replies == second.replies == third.replies
        assert world.store.commits == 1
        assert len(world.store.mailbox) == 1


async def test_twice_in_one_batch_is_one_message() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        client_id = b"k" * 16
        world.delivery.accept(origin, alice, [send(alice, bob, client_id=client_id), send(alice, bob, client_id=client_id)])
        await until(lambda: len(origin.replies) == 2)
        assert origin.replies[0] == origin.replies[1]
        assert len(world.store.mailbox) == 1


async def test_the_same_id_with_another_body_is_refused_in_flight_in_memory_and_in_the_store() -> None:
    async with running(Limits(seen_entries=1)) as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob, b"a", client_id=b"k" * 16), send(alice, bob, b"b", client_id=b"k" * 16)])
        await until(lambda: len(origin.replies) == 2)
        world.delivery.accept(origin, alice, [send(alice, bob, b"c", client_id=b"k" * 16)])
        for number in range(20):  # push the key out of memory
            world.delivery.accept(origin, alice, [send(alice, bob, client_id=bytes([number]) * 16)])
        await until(lambda: len(origin.replies) == 23)
        world.delivery.accept(origin, alice, [send(alice, bob, b"d", client_id=b"k" * 16)])
        await until(lambda: len(origin.replies) == 24)
        codes = [reply.code for reply in origin.replies if reply.client_id == b"k" * 16]
        assert sorted(codes) == [Code.OK, *[Code.IDEMPOTENCY_MISMATCH] * 3]


async def test_a_repeat_rings_the_recipient_again() -> None:
    """P5 (g): whatever happened to the first push, the repeat brings the row."""
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        message = send(alice, bob, client_id=b"k" * 16)
        world.delivery.accept(origin, alice, [message])
        await until(lambda: origin.replies)
        _, wire = await world.online(bob)
        lost = send(alice, bob, b"lost", client_id=b"l" * 16)
        world.delivery.routing.route = lambda submission, outcome: None  # type: ignore[method-assign]
        world.delivery.accept(origin, alice, [lost])
        await until(lambda: len(origin.replies) == 2)
        assert len(wire.deliveries) == 1
        world.delivery.accept(origin, alice, [send(alice, bob, b"lost", client_id=b"l" * 16)])
        await until(lambda: len(wire.deliveries) == 2)


@pytest.mark.parametrize("stored", [True, False])
async def test_an_unknown_result_closes_the_connection_and_is_settled_by_the_key(stored: bool) -> None:
    """P1, P3: the client hears nothing it could misunderstand, its repeat gets the one answer, and the recipient gets one message."""
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        session, wire = await world.online(alice)
        _, received = await world.online(bob)
        world.store.lose_answer = [stored]
        session.on_inbound(inbound(send(alice, bob, client_id=b"k" * 16)))
        await until(lambda: wire.closed is not None)
        assert wire.errors == [Code.RESULT_UNKNOWN]
        session.on_lost()
        _, again = await world.online(alice)
        world.delivery.routing._receivers[alice.device_id].on_inbound(inbound(send(alice, bob, client_id=b"k" * 16)))  # type: ignore[attr-defined]
        await until(lambda: again.replies)
        assert again.replies[0].code is Code.OK
        await until(lambda: received.deliveries)
        assert len(world.store.mailbox) == 1
        assert len(received.deliveries) == 1


async def test_while_a_result_is_being_settled_others_are_refused_not_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veredus.core.messaging.journal.SETTLE_MOST_SECONDS", 0.01)
    async with running(Limits(lanes=1)) as world:
        [alice], [bob], [carol] = world.account(), world.account(), world.account()
        first, waiting, later = RecordingOrigin(), RecordingOrigin(), RecordingOrigin()
        world.store.before_commit = asyncio.Event()
        world.store.lose_answer = [True]
        world.delivery.accept(first, alice, [send(alice, bob)])
        await world.store.began.wait()
        world.delivery.accept(waiting, carol, [send(carol, bob)])
        world.store.before_commit.set()
        await until(lambda: first.unknown)
        world.store.available = False
        await until(lambda: waiting.replies)
        world.delivery.accept(later, carol, [send(carol, bob)])
        assert [reply.code for reply in waiting.replies + later.replies] == [Code.UNAVAILABLE] * 2
        world.store.available = True
        later.refusal = Code.OK
        await until(lambda: world.context.counters.repeated == 1)
        world.delivery.accept(later, carol, [send(carol, bob)])
        await until(lambda: len(later.replies) == 2)
        assert later.replies[1].code is Code.OK
