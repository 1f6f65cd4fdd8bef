"""What is refused, alone or with everything behind it, and how a full lane behaves (P4, P6)."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.core.delivering import RecordingOrigin, inbound, running, send, until
from veredus.core.errors import Code
from veredus.core.limits import Limits


async def test_acknowledging_what_was_not_sent_is_refused_and_counted() -> None:
    async with running() as world:
        [bob] = world.account()
        session, wire = await world.online(bob)
        session.on_inbound(inbound(tags=[3], up_to=9))
        assert wire.errors == [Code.UNKNOWN_DELIVERY]
        assert world.context.counters.unknown_acknowledgements == 2
        assert wire.closed is None


async def test_devices_must_match_and_the_answer_names_the_difference() -> None:
    async with running() as world:
        [alice], bobs = world.account(), world.account(devices=3)
        origin = RecordingOrigin()
        bob = bobs[0]
        world.delivery.accept(
            origin,
            alice,
            [
                send(alice, bob, devices=(1, 2)),
                send(alice, bob, devices=(1, 2, 3, 4)),
                send(alice, bob, devices=(1, 2, 3), registrations=(1001, 9, 0)),
                send(alice, bob, devices=(3, 2, 1)),
            ],
        )
        await until(lambda: len(origin.replies) == 4)
        missing, extra, stale, right = origin.replies
        assert (missing.code, missing.missing_devices) == (Code.DEVICES_MISMATCH, (3,))
        assert (extra.code, extra.extra_devices) == (Code.DEVICES_MISMATCH, (4,))
        assert (stale.code, stale.stale_devices) == (Code.DEVICES_STALE, (2,))
        assert right.code is Code.OK
        assert len(world.store.mailbox) == 3


async def test_sending_to_oneself_leaves_out_the_sending_device() -> None:
    async with running() as world:
        alices = world.account(devices=2)
        origin = RecordingOrigin()
        world.delivery.accept(origin, alices[0], [send(alices[0], alices[0], devices=(2,)), send(alices[0], alices[0], devices=(1, 2))])
        await until(lambda: len(origin.replies) == 2)
        assert [reply.code for reply in origin.replies] == [Code.OK, Code.DEVICES_MISMATCH]
        assert origin.replies[1].extra_devices == (1,)


@pytest.mark.requirement("MSG-16")
async def test_needs_sync_is_true_when_the_sender_has_other_devices() -> None:
    async with running() as world:
        alices, [bob] = world.account(devices=2), world.account()
        origin = RecordingOrigin()
        world.delivery.accept(origin, alices[0], [send(alices[0], bob)])
        world.delivery.accept(origin, bob, [send(bob, alices[0], devices=(1, 2))])
        await until(lambda: len(origin.replies) == 2)
        assert {reply.needs_sync for reply in origin.replies} == {True, False}


async def test_changed_devices_are_noticed_by_the_commit_and_read_again() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob)])
        await until(lambda: origin.replies)
        world.change_devices(bob.account, [1, 2])
        world.delivery.accept(origin, alice, [send(alice, bob), send(alice, bob, devices=(1, 2))])
        await until(lambda: len(origin.replies) == 3)
        assert [reply.code for reply in origin.replies] == [Code.OK, Code.DEVICES_MISMATCH, Code.OK]
        assert origin.replies[1].missing_devices == (2,)


async def test_an_unknown_recipient_is_refused_and_costs_nobody_else_his_message() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        [ghost] = world.account()
        del world.store.accounts[ghost.account]
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, ghost), send(alice, bob)])
        await until(lambda: len(origin.replies) == 2)
        assert [reply.code for reply in origin.replies] == [Code.UNKNOWN_RECIPIENT, Code.OK]


async def test_after_a_retryable_refusal_everything_is_refused_until_resume() -> None:
    """P4: a window of sends cannot be reordered by a refusal in its middle."""
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        session, wire = await world.online(alice)
        world.store.available = False
        session.on_inbound(inbound(*[send(alice, bob, client_id=bytes([number]) * 16) for number in range(3)]))
        await until(lambda: len(wire.replies) == 3)
        world.store.available = True
        session.on_inbound(inbound(send(alice, bob, client_id=b"x" * 16)))
        assert [reply.code for reply in wire.replies] == [Code.UNAVAILABLE] * 4
        assert not world.store.mailbox
        again = [send(alice, bob, client_id=bytes([number]) * 16) for number in range(3)]
        session.on_inbound(inbound(*again, resume=True))
        await until(lambda: len(wire.replies) == 7)
        assert [row.envelope for row in world.store.of(bob.device_id)] == [message.envelopes[0] for message in again]


async def test_sends_that_wait_behind_a_refused_batch_are_refused_with_it() -> None:
    """P4: they would overtake what the client sends again."""
    async with running(Limits(lanes=1)) as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.store.before_commit = asyncio.Event()
        world.store.lose_answer = []
        world.delivery.accept(origin, alice, [send(alice, bob)])
        await world.store.began.wait()
        world.delivery.accept(origin, alice, [send(alice, bob)])
        original = world.store._store
        world.store._store = lambda submission: (_ for _ in ()).throw(world_error())  # type: ignore[method-assign]
        world.store.before_commit.set()
        await until(lambda: len(origin.replies) == 2)
        assert [reply.code for reply in origin.replies] == [Code.UNAVAILABLE, Code.UNAVAILABLE]
        world.store._store = original  # type: ignore[method-assign]


def world_error() -> Exception:
    from veredus.core.errors import StoreUnavailable

    return StoreUnavailable()


async def test_one_bad_message_is_refused_alone() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.store.refuse = lambda submission: submission.send.client_id == b"b" * 16
        ids = [b"a" * 16, b"b" * 16, b"c" * 16]
        world.delivery.accept(origin, alice, [send(alice, bob, client_id=client_id) for client_id in ids])
        await until(lambda: len(origin.replies) == 3)
        assert [reply.code for reply in origin.replies] == [Code.OK, Code.INVALID_REQUEST, Code.OK]


async def test_a_fault_of_ours_refuses_the_batch_and_the_lane_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        broken, fine = RecordingOrigin(), RecordingOrigin()
        original = world.store._store
        world.store._store = lambda submission: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        world.delivery.accept(broken, alice, [send(alice, bob, b"secret")])
        await until(lambda: broken.replies)
        world.store._store = original  # type: ignore[method-assign]
        world.delivery.accept(fine, alice, [send(alice, bob)])
        await until(lambda: fine.replies)
        assert (broken.replies[0].code, fine.replies[0].code) == (Code.INTERNAL, Code.OK)
        assert "a batch failed: ZeroDivisionError" in caplog.text
        assert "secret" not in caplog.text


async def test_a_lane_that_fills_up_pauses_its_readers_then_says_busy() -> None:
    """P6."""
    limits = Limits(lanes=1, lane_bytes=4000, lane_pause_bytes=2000)
    async with running(limits) as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.store.before_commit = asyncio.Event()
        world.delivery.accept(origin, alice, [send(alice, bob)])
        await world.store.began.wait()
        world.delivery.accept(origin, alice, [send(alice, bob, b"x" * 900) for _ in range(8)])
        assert not origin.reading
        codes = {reply.code for reply in origin.replies}
        assert codes == {Code.BUSY}
        refused = len(origin.replies)
        world.store.before_commit.set()
        await until(lambda: len(origin.replies) == 9)
        assert origin.reading
        assert [reply.code for reply in origin.replies[refused:]] == [Code.OK] * (9 - refused)


async def test_a_full_batch_is_shared_fairly_between_connections() -> None:
    async with running(Limits(lanes=1, batch_rows=4)) as world:
        [alice], [bob] = world.account(), world.account()
        gate, greedy, modest = RecordingOrigin(), RecordingOrigin(), RecordingOrigin()
        world.store.before_commit = asyncio.Event()
        world.delivery.accept(gate, alice, [send(alice, bob)])
        await world.store.began.wait()
        world.delivery.accept(greedy, alice, [send(alice, bob) for _ in range(40)])
        world.delivery.accept(modest, bob, [send(bob, alice)])
        order: list[str] = []
        greedy.answer = lambda replies: order.append("greedy")  # type: ignore[method-assign]
        modest.answer = lambda replies: order.append("modest")  # type: ignore[method-assign]
        world.store.before_commit.set()
        await until(lambda: len(order) == 12)
        assert "modest" in order[:2]


async def test_closing_finishes_what_was_taken_and_refuses_the_rest() -> None:
    async with running() as world:
        [alice], [bob] = world.account(), world.account()
        taken, late = RecordingOrigin(), RecordingOrigin()
        world.delivery.accept(taken, alice, [send(alice, bob) for _ in range(3)])
        closing = asyncio.ensure_future(world.delivery.close())
        await asyncio.sleep(0)
        world.delivery.accept(late, alice, [send(alice, bob)])
        await closing
        assert [reply.code for reply in taken.replies] == [Code.OK] * 3
        assert [reply.code for reply in late.replies] == [Code.SHUTTING_DOWN]
