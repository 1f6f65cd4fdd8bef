"""Nothing overtakes a message that somebody was not told of (P4 under P5): rows are rung for, not pushed, until everybody has looked."""

from __future__ import annotations

import asyncio

from tests.unit.core.delivering import RecordingOrigin, inbound, send, until
from tests.unit.core.test_wakeups import two
from veredus.core.model import Item, ItemKind


async def test_a_sender_that_comes_to_its_recipients_worker_does_not_overtake_what_it_sent_elsewhere() -> None:
    """A wiped presence hid the recipient from the worker that stored the first message."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        await world.online(alice, one)
        other.relay.received([])  # it has heard of others
        world.presence.here.clear()
        first, second = send(alice, bob, b"first"), send(alice, bob, b"second")
        origin = RecordingOrigin()
        one.accept(origin, alice, [first])
        await until(lambda: origin.replies)
        session, answered = await world.online(alice, other)
        session.on_inbound(inbound(second))
        await until(lambda: answered.replies and len(wire.deliveries) == 2)
        assert [envelope for _, envelope, _ in wire.deliveries] == [first.envelopes[0], second.envelopes[0]]


async def test_after_an_interruption_nothing_is_pushed_until_all_devices_were_looked_into() -> None:
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        world.bus.held = []
        first, second = send(alice, bob, b"first"), send(alice, bob, b"second")
        origin = RecordingOrigin()
        one.accept(origin, alice, [first])
        await until(lambda: len(origin.replies) == 1)
        one.accept(origin, alice, [second])
        await until(lambda: len(origin.replies) == 2)
        [_, (_, later)] = world.bus.held  # the first frame is lost, the second shows the gap
        other.relay.interrupted()
        other.relay.received(later)
        await until(lambda: len(wire.deliveries) == 2)
        assert [envelope for _, envelope, _ in wire.deliveries] == [first.envelopes[0], second.envelopes[0]]


async def test_while_a_device_is_claimed_again_nothing_is_pushed_to_it() -> None:
    """Others may find it again before its own worker knows that they may."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        world.presence.here.clear()
        first, second = send(alice, bob, b"first"), send(alice, bob, b"second")
        origin = RecordingOrigin()
        one.accept(origin, alice, [first])
        await until(lambda: origin.replies)
        other.routing.claiming([bob.device_id])
        await other._presence.claim([bob.device_id])  # made, its answer on the way
        one.accept(origin, alice, [second])
        await until(lambda: len(origin.replies) == 2)
        other.routing.claimed({bob.device_id: None})
        await until(lambda: len(wire.deliveries) == 2)
        assert [envelope for _, envelope, _ in wire.deliveries] == [first.envelopes[0], second.envelopes[0]]
        assert not other.routing.unsure(bob.device_id)


async def test_whom_presence_could_not_find_while_it_was_away_is_looked_for_again() -> None:
    """The device was connected all the time: neither its push nor the sweep is waited for, and no later row comes before."""
    async with two() as (world, one, other):
        [alice], [bob] = world.account(), world.account()
        _, wire = await world.online(bob, other)
        here = dict(world.presence.here)
        world.presence.here.clear()
        world.presence.settled = False
        first, second = send(alice, bob, b"first"), send(alice, bob, b"second")
        origin = RecordingOrigin()
        one.accept(origin, alice, [first])
        await until(lambda: one.relay._adrift)
        world.presence.here.update(here)
        one.accept(origin, alice, [second])
        await until(lambda: len(origin.replies) == 2)
        world.presence.settled = True
        async with asyncio.timeout(10):
            await until(lambda: len(wire.deliveries) == 2)
        assert [envelope for _, envelope, _ in wire.deliveries] == [first.envelopes[0], second.envelopes[0]]
        assert all(item.kind is not ItemKind.ROW for _, items in world.bus.published for item in items if isinstance(item, Item))
