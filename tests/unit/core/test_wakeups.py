"""No lost wake-up (P5): several workers on one store, with a bus and a presence that lose, lie and hold back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.unit.core.delivering import RecordingOrigin, World, at_work, inbound, running, send, until
from veredus.core.errors import Code, StoreUnavailable
from veredus.core.messaging.delivery import Delivery
from veredus.core.model import Item, ItemKind, Location


@asynccontextmanager
async def two() -> AsyncIterator[tuple[World, Delivery, Delivery]]:
    async with running() as world:
        other, _ = world.worker("two")
        async with at_work(other):
            yield world, world.delivery, other


@pytest.mark.requirement("MSG-21", "MSG-33", "WS-10")
async def test_a_message_finds_its_device_on_another_worker() -> None:
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        origin = RecordingOrigin()
        one.accept(origin, alice, [send(alice, bob)])
        await until(lambda: origin.replies and wire.deliveries)
        assert world.bus.published[0][1][0].kind is ItemKind.ROW
        assert one._context.counters.carried == 1


async def test_other_workers_are_told_before_the_sender_hears_sent() -> None:
    """P4: what is sent after SENT arrived, over whichever worker, comes later."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        await world.online(bob, other)
        told_first: list[bool] = []
        origin = RecordingOrigin()
        origin.answer = lambda replies: told_first.append(bool(world.bus.published))  # type: ignore[method-assign]
        one.accept(origin, alice, [send(alice, bob)])
        await until(lambda: told_first)
        assert told_first == [True]


async def test_a_fresh_connection_rings_instead_of_pushing_past_what_it_sent_elsewhere() -> None:
    """P4: its earlier message may still be under way on the bus; the mailbox has both in order."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        world.bus.held = []
        first, second = send(alice, bob, b"first"), send(alice, bob, b"second")
        origin = RecordingOrigin()
        one.accept(origin, alice, [first])
        await until(lambda: origin.replies)
        session, answered = await world.online(alice, one)  # came back: its connection is fresh
        held, world.bus.held = world.bus.held, None
        session.on_inbound(inbound(second))
        await until(lambda: answered.replies and len(wire.deliveries) == 2)
        assert [envelope for _, envelope, _ in wire.deliveries] == [first.envelopes[0], second.envelopes[0]]
        other.relay.received(held[0][1])
        assert len(wire.deliveries) == 2


async def test_absent_counts_only_when_read_again_after_the_commit() -> None:
    """P5 (b): the device came between the first look and the commit."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        world.store.before_commit = asyncio.Event()
        origin = RecordingOrigin()
        one.accept(origin, alice, [send(alice, bob)])
        await world.store.began.wait()
        await world.presence.located.wait()
        _, wire = await world.online(bob, other)
        assert not wire.deliveries
        world.store.before_commit.set()
        await until(lambda: wire.deliveries)
        assert not world.wakeups.pushes


@pytest.mark.requirement("MSG-12", "MSG-23")
async def test_a_push_is_due_for_who_is_nowhere() -> None:
    async with two() as (world, one, _):
        [alice], [bob] = world.account(), world.account()
        one.accept(RecordingOrigin(), alice, [send(alice, bob), send(alice, bob)])
        await until(lambda: world.wakeups.pushes.get(bob.device_id) == 2)


async def test_a_worker_nobody_listens_as_counts_as_absent() -> None:
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        await world.online(bob, other)
        del world.bus.workers["two"]
        one.accept(RecordingOrigin(), alice, [send(alice, bob)])
        await until(lambda: world.wakeups.pushes == {bob.device_id: 1})


async def test_who_receives_what_it_cannot_deliver_looks_for_the_device_and_passes_it_on() -> None:
    """P5 (c): the device moved while the frame was under way."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        session, _ = await world.online(bob, other)
        world.bus.held = []
        one.accept(RecordingOrigin(), alice, [send(alice, bob)])
        await until(lambda: bool(world.bus.held))
        world.store.page_gate = asyncio.Event()  # the new connection looked before the row was there, as far as it knows
        session.on_lost()
        _, wire = world.connect(bob, one)
        held, world.bus.held = world.bus.held, None
        rows = dict(world.store.mailbox)
        other.relay.received(held[0][1])
        world.store.page_gate.set()
        await until(lambda: wire.deliveries)
        assert len(rows) == len(wire.deliveries) == 1


async def test_items_are_passed_on_a_bounded_number_of_times() -> None:
    async with two() as (world, one, other):
        [bob] = world.account()
        world.presence.here[bob.device_id] = Location("two", "1", 1)  # a lie: it is on neither
        other.relay.received([Item(ItemKind.DOORBELL, bob.device_id, 7)])
        await until(lambda: one._context.counters.passed_on + other._context.counters.passed_on >= 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(world.bus.published) <= 2


async def test_a_session_that_ends_with_unacknowledged_rows_has_its_device_looked_for() -> None:
    """P5 (d)."""
    async with two() as (world, one, _):
        [alice], [bob] = world.account(), world.account()
        session, wire = await world.online(bob, one)
        one.accept(RecordingOrigin(), alice, [send(alice, bob)])
        await until(lambda: wire.deliveries)
        session.on_lost()
        await until(lambda: world.wakeups.pushes == {bob.device_id: 1})


async def test_a_session_that_ends_with_everything_acknowledged_owes_nothing() -> None:
    async with two() as (world, one, _):
        [alice], [bob] = world.account(), world.account()
        session, wire = await world.online(bob, one)
        one.accept(RecordingOrigin(), alice, [send(alice, bob)])
        await until(lambda: wire.deliveries)
        session.on_inbound(inbound(up_to=1))
        await until(lambda: one._context.counters.removed == 1)
        session.on_lost()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not world.wakeups.pushes


async def test_a_lost_frame_is_made_good_by_looking_into_every_mailbox_after_an_interruption() -> None:
    """P5 (e)."""
    async with two() as (world, one, other):
        [alice], [bob], [carol] = world.account(), world.account(), world.account()
        _, wire = await world.online(bob, other)
        _, idle = await world.online(carol, other)
        world.bus.lossy = True
        origin = RecordingOrigin()
        one.accept(origin, alice, [send(alice, bob)])
        await until(lambda: origin.replies)
        assert not wire.deliveries
        other.relay.interrupted()
        await until(lambda: wire.deliveries)
        assert other._context.counters.doorbells == 1  # nobody rings at empty mailboxes
        assert not idle.deliveries


async def test_rows_that_come_before_the_probe_has_ended_do_not_overtake_the_lost_one() -> None:
    """P4: they are rings until then, so the mailbox gives both in order."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        origin = RecordingOrigin()
        world.bus.lossy = True
        first, second = send(alice, bob, b"first"), send(alice, bob, b"second")
        one.accept(origin, alice, [first])
        await until(lambda: len(origin.replies) == 1)
        world.bus.lossy, world.bus.held = False, []
        one.accept(origin, alice, [second])
        await until(lambda: bool(world.bus.held))
        other.relay.interrupted()  # the hole is told of before the frame that showed it
        world.bus.let_go()
        await until(lambda: len(wire.deliveries) == 2)
        assert [envelope for _, envelope, _ in wire.deliveries] == [first.envelopes[0], second.envelopes[0]]
        third = send(alice, bob, b"third")
        one.accept(origin, alice, [third])
        await until(lambda: len(wire.deliveries) == 3)
        assert other._context.counters.interruptions == 1


async def test_a_probe_that_fails_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veredus.core.messaging.relay.RETRY_SECONDS", 0)
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        world.bus.lossy = True
        origin = RecordingOrigin()
        one.accept(origin, alice, [send(alice, bob)])
        await until(lambda: origin.replies)
        world.store.available = False
        other.relay.interrupted()
        for _ in range(20):
            await asyncio.sleep(0)
        world.store.available = True
        await until(lambda: wire.deliveries)


async def test_the_sweep_finds_who_was_forgotten() -> None:
    """P5 (f)."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        world.bus.lossy = True
        one.accept(RecordingOrigin(), alice, [send(alice, bob)])
        await until(lambda: world.store.mailbox)
        world.bus.lossy = False
        world.wakeups.late = [(bob.device_id, 1)]
        await one.relay._sweep()
        await until(lambda: wire.deliveries)
        assert one._context.counters.swept == 1


async def test_a_repeat_rings_the_recipient_on_another_worker() -> None:
    """P5 (g)."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        world.bus.lossy = True
        origin = RecordingOrigin()
        one.accept(origin, alice, [send(alice, bob, client_id=b"k" * 16)])
        await until(lambda: origin.replies)
        world.bus.lossy = False
        one.accept(origin, alice, [send(alice, bob, client_id=b"k" * 16)])
        await until(lambda: wire.deliveries)


async def test_a_device_that_connects_elsewhere_closes_its_older_connection_and_loses_nothing() -> None:
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, older = await world.online(bob, other)
        origin = RecordingOrigin()
        one.accept(origin, alice, [send(alice, bob, b"%d" % number) for number in range(20)])
        _, newer = world.connect(bob, one)
        await until(lambda: older.closed is Code.REPLACED and len(newer.deliveries) == 20)


async def test_a_replacement_told_late_does_not_close_the_connection_that_came_back() -> None:
    async with two() as (world, one, other):
        [bob] = world.account()
        world.bus.held = []
        await world.online(bob, other)
        session, _ = await world.online(bob, one)
        session.on_lost()
        _, back = await world.online(bob, other)
        world.bus.let_go()
        for _ in range(50):
            await asyncio.sleep(0)
        assert back.closed is None


async def test_a_connected_device_that_does_not_acknowledge_gets_a_push() -> None:
    async with two() as (world, one, _):
        [alice], [bob] = world.account(), world.account()
        session, wire = await world.online(bob, one)
        one.accept(RecordingOrigin(), alice, [send(alice, bob)])
        await until(lambda: wire.deliveries)
        await one.relay._look_at_silent()
        assert not world.wakeups.pushes  # it had no time yet
        await one.relay._look_at_silent()
        assert world.wakeups.pushes == {bob.device_id: 1}
        session.on_inbound(inbound(up_to=1))
        world.wakeups.pushes.clear()
        await one.relay._look_at_silent()
        assert not world.wakeups.pushes


async def test_an_ephemeral_send_reaches_a_device_on_another_worker() -> None:
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        one.accept(RecordingOrigin(), alice, [send(alice, bob, ephemeral=True)])
        await until(lambda: wire.deliveries)
        assert not world.store.mailbox


async def test_a_device_that_woke_while_the_store_was_away_is_told_of_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veredus.core.messaging.relay.RETRY_SECONDS", 0)
    async with two() as (world, one, _):
        [bob] = world.account()
        told: list[int] = []

        async def awake(devices: Sequence[int]) -> None:
            if not world.store.available:
                raise StoreUnavailable
            told.extend(devices)

        world.wakeups.awake = awake  # type: ignore[method-assign]
        world.store.available = False
        one.relay.woke(bob.device_id)
        for _ in range(20):
            await asyncio.sleep(0)
        world.store.available = True
        await until(lambda: told == [bob.device_id])
