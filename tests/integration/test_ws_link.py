"""A client's connection in protobuf against a real port: what the core is told, what leaves in which write, and back-pressure."""

from __future__ import annotations

import asyncio
import logging
import struct

import pytest

from tests.integration.ws_peer import (
    ACCOUNT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    Recorder,
    Served,
    frame,
    on_uvloop,
    serving,
)
from veredus.core.errors import Code
from veredus.core.model import Reply
from veredus.ext.frames import ServerInbound, encode_ack, encode_resume, encode_send, encode_sync, parse_server_frame

PATH = "/v1/websocket"
UUID = bytes(16)


def send(content: bytes = b"hello", client_id: bytes = UUID) -> bytes:
    return encode_send(client_id, UUID, 1, 1, False, False, [(1, 0, content)])


async def linked(served: Served) -> tuple[Peer, Recorder]:
    peer = await Peer.open(served.address, PATH)
    await served.until(lambda: len(served.gate.recorders) > 0 and served.gate.recorders[-1].lost == 0)
    return peer, served.gate.recorders[-1]


async def received(peer: Peer) -> ServerInbound:
    message = await peer.frame()
    assert (message.fin, message.opcode) == (True, BINARY)
    inbound = parse_server_frame(message.payload)
    assert not inbound.malformed
    return inbound


@pytest.mark.requirement("WS-2")
@on_uvloop
async def test_everything_one_read_brought_is_told_in_one_call() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        peer.send(frame(BINARY, send(b"a") + encode_sync()), frame(BINARY, encode_ack(up_to=7)), frame(BINARY, encode_resume()))
        await core.until(lambda: len(core.inbound) > 0)
        (inbound,) = core.inbound
        assert [bytes(made.envelopes[0]).endswith(b"a") for made in inbound.sends] == [True]
        assert (inbound.sync, inbound.ack_up_to, inbound.resume, inbound.malformed) == (True, 7, True, False)
        await peer.leave()
        await core.until(lambda: core.lost == 1)


@on_uvloop
async def test_whole_messages_are_told_when_a_read_ends_within_a_frame() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        second = frame(BINARY, encode_ack(up_to=2))
        peer.send(frame(BINARY, encode_ack(up_to=1)), second[:5])
        await core.until(lambda: len(core.inbound) == 1)
        assert core.inbound[0].ack_up_to == 1
        peer.send(second[5:])
        await core.until(lambda: len(core.inbound) == 2)
        assert core.inbound[1].ack_up_to == 2
        await peer.leave()


@on_uvloop
async def test_large_and_fragmented_frames_are_parsed_whole() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        large = send(b"x" * 262_144)
        peer.send(frame(BINARY, large), frame(BINARY, large[:1000], fin=False), frame(CONTINUATION, large[1000:]))
        await core.until(lambda: sum(len(inbound.sends) for inbound in core.inbound) == 2)
        sends = [made for inbound in core.inbound for made in inbound.sends]
        assert [made.code for made in sends] == [0, 0]
        assert sends[0].digest == sends[1].digest
        assert sends[0].envelopes[0].endswith(b"x" * 262_144)
        await peer.leave()


@on_uvloop
async def test_a_malformed_frame_is_told_with_what_came_before_and_nothing_after_it_is_read() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        peer.send(frame(BINARY, encode_ack(up_to=1)), frame(BINARY, b"\xff\xff\xff"), frame(BINARY, encode_ack(up_to=3)))
        await core.until(lambda: len(core.inbound) == 1)
        assert (core.inbound[0].ack_up_to, core.inbound[0].malformed) == (1, True)
        peer.send(frame(BINARY, encode_ack(up_to=4)))
        core.wire.error(Code.MALFORMED_FRAME)
        assert [error.code for error in (await received(peer)).errors] == [Code.MALFORMED_FRAME]
        assert await peer.closed_with() == 4400
        assert len(core.inbound) == 1


@on_uvloop
async def test_text_closes_with_1003_after_what_came_before_it() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        peer.send(frame(BINARY, encode_ack(up_to=1)), frame(TEXT, b"hello?"))
        assert await peer.closed_with() == 1003
        assert [inbound.ack_up_to for inbound in core.inbound] == [1]
        assert served.station.refused == {int(Code.UNSUPPORTED_DATA): 1}


@on_uvloop
async def test_a_good_frame_is_told_and_answered_although_the_next_one_is_malformed() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        core.on_inbound_do = lambda inbound: core.wire.answer([Reply(client_id=UUID, code=Code.OK)])
        peer.send(frame(BINARY, send()), frame(BINARY, b"x", rsv=4))
        assert [result.code for result in (await received(peer)).results] == [0]
        assert await peer.closed_with() == 1002


@on_uvloop
async def test_everything_queued_in_one_iteration_leaves_as_one_frame_in_one_write() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        writes = served.station.counters()["writes"]
        core.wire.hello(UUID, 5)
        core.wire.answer([Reply(client_id=UUID, code=Code.OK, guid=UUID), Reply(client_id=UUID, code=Code.BUSY, retry_after_ms=9)])
        assert all(core.wire.deliver(tag, b"\x08\x01", 77) for tag in range(1, 101))
        core.wire.drained(100)
        core.wire.error(Code.UNKNOWN_DELIVERY, "tag 4")
        core.wire.shutdown(250)
        got = await received(peer)
        assert served.station.counters()["writes"] == writes + 1
        assert got.hello is not None
        assert (got.hello.account, got.hello.device, got.hello.max_content_bytes, got.hello.window) == (ACCOUNT, 1, 262_144, 1000)
        assert (got.hello.store_epoch, got.hello.server_timestamp, got.hello.ping_interval_ms) == (UUID, 5, 25_000)
        assert [(result.code, result.retry_after_ms) for result in got.results] == [(0, 0), (Code.BUSY, 9)]
        assert [(delivery.tag, delivery.envelope.server_timestamp) for delivery in got.deliveries] == [(tag, 77) for tag in range(1, 101)]
        assert (got.drained, got.shutdown) == (100, 250)
        assert [(error.code, error.reason) for error in got.errors] == [(Code.UNKNOWN_DELIVERY, "tag 4")]
        await peer.leave()


@on_uvloop
async def test_a_kind_queued_out_of_order_begins_the_next_frame_in_the_same_write() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        writes = served.station.counters()["writes"]
        core.wire.deliver(1, b"", 1)
        core.wire.drained(1)
        core.wire.deliver(2, b"", 1)
        core.wire.answer([Reply(client_id=UUID, code=Code.OK)])
        first, second, third = [await received(peer) for _ in range(3)]
        assert served.station.counters()["writes"] == writes + 1
        assert ([delivery.tag for delivery in first.deliveries], first.drained) == ([1], 1)
        assert [delivery.tag for delivery in second.deliveries] == [2]
        assert len(third.results) == 1
        await peer.leave()


@pytest.mark.requirement("SYN-5", "SYN-6")
@on_uvloop
async def test_a_message_holds_at_most_a_thousand_deliveries() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        assert all(core.wire.deliver(tag, b"", 1) for tag in range(1, 2502))
        counts = [len((await received(peer)).deliveries) for _ in range(3)]
        assert counts == [1000, 1000, 501]
        await peer.leave()


@pytest.mark.requirement("SYN-5")
@on_uvloop
async def test_a_message_holds_at_most_the_bytes_of_a_batch() -> None:
    async with serving(limits={"batch_delivery_bytes": 1000, "outbox_bytes": 100_000}) as served:
        peer, core = await linked(served)
        assert all(core.wire.deliver(tag, bytes([0x52, 100]) + bytes(100), 1) for tag in range(1, 31))
        tags: list[int] = []
        while len(tags) < 30:
            message = await peer.frame()
            assert len(message.payload) <= 1000
            tags += [delivery.tag for delivery in parse_server_frame(message.payload).deliveries]
        assert tags == list(range(1, 31))
        await peer.leave()


@pytest.mark.requirement("SYN-6")
@on_uvloop
async def test_a_full_outbox_takes_no_more_and_says_once_when_it_does() -> None:
    async with serving(limits={"outbox_bytes": 262_144}) as served:
        peer, core = await linked(served)
        reading: asyncio.Transport = peer.writer.transport  # type: ignore[assignment]
        reading.pause_reading()
        envelope = b"\x52\xff\x3f" + bytes(8191)
        sent = 0
        while core.writable == 0 and core.wire.deliver(sent + 1, envelope, 1):
            sent += 1
            if sent % 8 == 0:
                await asyncio.sleep(0)
        # What was refused is not queued; nothing is said until the peer reads.
        assert not core.wire.deliver(0, envelope, 1)
        assert core.writable == 0
        reading.resume_reading()
        tags: list[int] = []
        while len(tags) < sent:
            tags += [delivery.tag for delivery in (await received(peer)).deliveries]
        assert tags == list(range(1, sent + 1))
        await core.until(lambda: core.writable == 1)
        assert core.wire.deliver(sent + 1, envelope, 1)
        assert [delivery.tag for delivery in (await received(peer)).deliveries] == [sent + 1]
        await peer.leave()
        assert core.writable == 1


@on_uvloop
async def test_a_delivery_larger_than_the_outbox_goes_when_nothing_else_waits() -> None:
    async with serving(limits={"outbox_bytes": 1000}) as served:
        peer, core = await linked(served)
        envelope = b"\x52\x88\x27" + bytes(5000)
        assert core.wire.deliver(1, envelope, 1)
        assert not core.wire.deliver(2, envelope, 1)
        assert [delivery.tag for delivery in (await received(peer)).deliveries] == [1]
        await core.until(lambda: core.writable == 1)
        assert core.wire.deliver(2, envelope, 1)
        assert [delivery.tag for delivery in (await received(peer)).deliveries] == [2]
        await peer.leave()


@on_uvloop
async def test_a_peer_that_does_not_read_its_answers_is_not_read_until_it_does() -> None:
    async with serving(limits={"outbox_bytes": 65_536}) as served:
        peer, core = await linked(served)
        core.on_inbound_do = lambda inbound: core.wire.answer([Reply(client_id=UUID, code=Code.OK)] * 2000)
        reading: asyncio.Transport = peer.writer.transport  # type: ignore[assignment]
        reading.pause_reading()
        told = -1
        async with asyncio.timeout(15):
            while told != len(core.inbound):  # until the server reads no more
                told = len(core.inbound)
                for _ in range(10):
                    peer.send(frame(BINARY, encode_ack(up_to=1)) + frame(PING))
                    await asyncio.sleep(0.005)
        held = served.station.counters()["reads"]
        for _ in range(20):
            peer.send(frame(BINARY, encode_ack(up_to=1)))
            await asyncio.sleep(0)
        assert served.station.counters()["reads"] == held
        reading.resume_reading()
        await peer.leave_after_rest()


@on_uvloop
async def test_pausing_stops_reading_and_resuming_goes_on() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        core.wire.pause_reading()
        reads = served.station.counters()["reads"]
        peer.send(frame(BINARY, encode_ack(up_to=1)))
        await asyncio.sleep(0.02)
        assert served.station.counters()["reads"] == reads
        core.wire.resume_reading()
        await core.until(lambda: len(core.inbound) == 1)
        await peer.leave()


@pytest.mark.parametrize(
    ("code", "close"),
    [
        (Code.OK, 1000),
        (Code.REPLACED, 4409),
        (Code.SHUTTING_DOWN, 1012),
        (Code.SESSION_REVOKED, 4401),
        (Code.BUSY, 4503),
        (Code.INTERNAL, 1011),
    ],
)
@on_uvloop
async def test_closing_sends_what_is_queued_and_then_the_code(code: Code, close: int) -> None:
    async with serving() as served:
        peer, core = await linked(served)
        core.wire.drained(3)
        core.wire.close(code)
        core.wire.close(Code.INTERNAL)
        assert (await received(peer)).drained == 3
        assert await peer.closed_with() == close
        await core.until(lambda: core.lost == 1)
        # Calls after the end do nothing.
        core.wire.drained(4)
        core.wire.answer([Reply(client_id=UUID, code=Code.OK)])
        core.wire.error(Code.BUSY)
        core.wire.shutdown(1)
        core.wire.pause_reading()
        core.wire.resume_reading()
        core.wire.close(Code.OK)
        assert not core.wire.deliver(9, b"", 1)
        await asyncio.sleep(0)
        assert core.lost == 1


@on_uvloop
async def test_an_error_that_ends_nothing_leaves_the_connection_open() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        core.wire.error(Code.BUSY, retry_after_ms=1000)
        (error,) = (await received(peer)).errors
        assert (error.code, error.retry_after_ms, error.reason) == (Code.BUSY, 1000, "the server has no room for more right now")
        peer.send(frame(PING, b"alive?"))
        assert (await peer.frame()).opcode == PONG
        await peer.leave()


@on_uvloop
async def test_a_fault_in_the_core_closes_one_connection_and_tells_no_content(caplog: pytest.LogCaptureFixture) -> None:
    def fail(inbound: object) -> None:
        raise ValueError("the message said: top secret")

    async with serving() as served:
        peer, core = await linked(served)
        other, other_core = await linked(served)
        core.on_inbound_do = fail
        with caplog.at_level(logging.DEBUG):
            peer.send(frame(BINARY, encode_ack(up_to=1)))
            assert await peer.closed_with() == 1011
        assert "ValueError" in caplog.text
        assert "secret" not in caplog.text
        assert served.station.counters()["faults"] == 1
        other.send(frame(BINARY, encode_ack(up_to=5)))
        await other_core.until(lambda: len(other_core.inbound) == 1)
        await other.leave()


@on_uvloop
async def test_a_connection_that_breaks_is_told_lost_once() -> None:
    async with serving() as served:
        peer, core = await linked(served)
        peer.send(frame(BINARY, send(b"x" * 5000))[:2000])
        peer.drop()
        await core.until(lambda: core.lost == 1)
        assert core.inbound == []
        await served.until(lambda: served.station.open == 0)
        assert served.station.budget.used == 0


@on_uvloop
async def test_stopping_gives_notice_and_closes_with_1012() -> None:
    async with serving() as served:
        peers = [await linked(served) for _ in range(3)]
        idle = await Peer.connect(served.address)
        idle.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await idle.answer()).status == 200
        stopping = asyncio.create_task(served.port.stop(grace_seconds=5, reconnect_within_ms=60_000))
        delays = [(await received(peer)).shutdown for peer, _ in peers]
        assert all(delay is not None and 0 <= delay <= 60_000 for delay in delays)
        assert len(set(delays)) > 1
        assert await idle.rest() == b""
        for peer, _ in peers:
            assert (await peer.frame()).close_code == 1012
            peer.send(frame(CLOSE, struct.pack("!H", 1012)))
            assert await peer.rest() == b""
            peer.drop()
        await stopping
        idle.drop()
        assert served.station.open == 0
