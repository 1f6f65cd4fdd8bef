"""The message path of one worker on fakes: order of commit, push and answer, repeats, refusals, unknown results."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.core.delivering import RecordingOrigin, inbound, running, send, until
from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.core.model import EnvelopeType


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


async def test_acknowledging_what_was_not_sent_is_refused_and_counted() -> None:
    async with running() as world:
        [bob] = world.account()
        session, wire = await world.online(bob)
        session.on_inbound(inbound(tags=[3], up_to=9))
        assert wire.errors == [Code.UNKNOWN_DELIVERY]
        assert world.context.counters.unknown_acknowledgements == 2
        assert wire.closed is None


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
