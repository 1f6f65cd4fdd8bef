"""Server frames and the client's frames, written by us and read by the official runtime, and the other way round."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import oracle
from tests.proto import envelope as envelope_pb2
from tests.proto import frames as pb
from veredus.core.errors import Code
from veredus.core.model import Reply
from veredus.ext.envelope import parse_client_frame
from veredus.ext.frames import (
    FrameWriter,
    encode_ack,
    encode_resume,
    encode_send,
    encode_sync,
    parse_envelope,
    parse_server_frame,
)

ID = bytes(range(16))
unhurried = settings(deadline=None)  # the machine may be busy; pytest bounds the whole test
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
ids = st.binary(max_size=20)
texts = st.text(alphabet="a b\0é☂\U0001f40e", max_size=200)
numbers = st.lists(u32, max_size=6).map(tuple)
hellos = st.tuples(ids, ids, u32, u64, u32, u32, u32, u32, u32)
replies = st.builds(Reply, ids, st.sampled_from(Code), ids, u64, st.booleans(), u32, numbers, numbers, numbers)
envelopes = st.builds(
    envelope_pb2.Envelope,
    type=st.sampled_from([0, 1, 3, 5, 6, 8]),
    source_account=ids,
    source_device=u32,
    destination_account=ids,
    destination_device=u32,
    guid=ids,
    client_timestamp=u64,
    urgent=st.booleans(),
    ephemeral=st.booleans(),
    content=st.binary(max_size=300),
)


def encoded(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def result_of(reply: Reply) -> Any:
    """What the contract says of a reply: refusal's fields only when refused."""
    result = pb.SendResult(client_id=reply.client_id, code=reply.code, guid=reply.guid)
    result.server_timestamp = reply.server_timestamp
    result.needs_sync = reply.needs_sync
    if reply.code:
        result.retry_after_ms = reply.retry_after_ms
        result.missing_devices.extend(reply.missing_devices)
        result.extra_devices.extend(reply.extra_devices)
        result.stale_devices.extend(reply.stale_devices)
    return result


# ----------------------------------------------------------------------------------------------------------------------------- writing


@given(hello=hellos)
@unhurried
def test_hello_is_what_the_official_runtime_writes(hello: tuple[Any, ...]) -> None:
    writer = FrameWriter()
    writer.put_hello(*hello)
    names = [field.name for field in pb.Hello.DESCRIPTOR.fields]
    assert writer.take() == encoded(pb.ServerFrame(hello=pb.Hello(**dict(zip(names, hello, strict=True)))))


@given(items=st.lists(replies, max_size=5))
@unhurried
def test_results_are_what_the_official_runtime_writes(items: list[Reply]) -> None:
    writer = FrameWriter()
    for reply in items:
        writer.put_reply(reply)
    assert writer.take() == encoded(pb.ServerFrame(results=[result_of(reply) for reply in items]))


@given(client_id=ids, guid=ids, timestamp=u64, needs_sync=st.booleans())
@unhurried
def test_sent_is_a_reply_that_is_ok(client_id: bytes, guid: bytes, timestamp: int, needs_sync: bool) -> None:
    short, long = FrameWriter(), FrameWriter()
    short.put_sent(client_id, guid, timestamp, needs_sync)
    long.put_reply(Reply(client_id, Code.OK, guid, timestamp, needs_sync))
    assert short.take() == long.take()


@given(items=st.lists(st.tuples(u64, envelopes, u64), max_size=5))
@unhurried
def test_deliveries_are_read_by_the_official_runtime_with_the_server_timestamp_last(items: list[tuple[int, Any, int]]) -> None:
    writer = FrameWriter()
    expected = pb.ServerFrame()
    for tag, envelope, timestamp in items:
        writer.put_delivery(tag, encoded(envelope), timestamp)
        delivery = expected.deliveries.add(tag=tag, envelope=envelope)
        delivery.envelope.server_timestamp = timestamp
    frame = writer.take()
    assert pb.ServerFrame.FromString(frame) == expected
    assert oracle.server_frame(frame)


@given(tag=u64, code=u32, reason=texts, retry=u32, delay=u32)
@unhurried
def test_the_rest_is_what_the_official_runtime_writes(tag: int, code: int, reason: str, retry: int, delay: int) -> None:
    writer = FrameWriter()
    writer.put_drained(tag)
    writer.put_error(code, reason, retry)
    writer.put_shutdown(delay)
    error = pb.Error(code=code, reason=reason, retry_after_ms=retry)
    frame = pb.ServerFrame(drained=pb.Drained(tag=tag), errors=[error], shutdown=pb.ShutdownNotice(reconnect_after_ms=delay))
    assert writer.take() == encoded(frame)


def test_a_put_that_fails_adds_nothing() -> None:
    writer = FrameWriter()
    writer.put_drained(1)
    before = writer.size
    wrong: list[tuple[type[Exception], Any]] = [
        (OverflowError, lambda: writer.put_drained(-1)),
        (OverflowError, lambda: writer.put_reply(Reply(ID, Code.DEVICES_MISMATCH, missing_devices=(1, -1)))),
        (TypeError, lambda: writer.put_reply(Reply(ID, Code.DEVICES_MISMATCH, stale_devices=("one",)))),  # type: ignore[arg-type]
        (TypeError, lambda: writer.put_delivery(1, None, 2)),  # type: ignore[arg-type]
        (TypeError, lambda: writer.put_sent(None, ID, 2, False)),  # type: ignore[arg-type]
        (TypeError, lambda: writer.put_error(1, None, 2)),  # type: ignore[arg-type]
        (UnicodeEncodeError, lambda: writer.put_error(1, "\ud800", 2)),
        (AttributeError, lambda: writer.put_reply(object())),
    ]
    for error, put in wrong:
        with pytest.raises(error):
            put()
        assert writer.size == before
    assert parse_server_frame(writer.take()).drained == 1


def test_a_writer_grows_to_any_size_and_starts_again_after_take() -> None:
    writer = FrameWriter()
    content = bytes(range(256)) * 40
    for tag in range(100):
        writer.put_delivery(tag, b"\x52" + b"\x80\x50" + content, tag)
    frame = parse_server_frame(writer.take())
    assert [delivery.tag for delivery in frame.deliveries] == list(range(100))
    assert all(delivery.envelope.content == content for delivery in frame.deliveries)
    assert (writer.size, writer.take()) == (0, b"")
    writer.put_drained(3)
    assert writer.take() == b"\x22\x02\x08\x03"
    writer.release()
    assert writer.take() == b""


# ------------------------------------------------------------------------------------------------------------------------------ reading


@given(hello=hellos, items=st.lists(replies, max_size=4), deliveries=st.lists(st.tuples(u64, envelopes), max_size=4), tag=u64, reason=texts)
@unhurried
def test_what_the_official_runtime_writes_is_read_as_it_was_meant(
    hello: tuple[Any, ...], items: list[Reply], deliveries: list[tuple[int, Any]], tag: int, reason: str
) -> None:
    names = [field.name for field in pb.Hello.DESCRIPTOR.fields]
    frame = pb.ServerFrame(
        hello=pb.Hello(**dict(zip(names, hello, strict=True))),
        results=[result_of(reply) for reply in items],
        deliveries=[pb.Delivery(tag=number, envelope=envelope) for number, envelope in deliveries],
        drained=pb.Drained(tag=tag),
        errors=[pb.Error(code=3, reason=reason)],
        shutdown=pb.ShutdownNotice(reconnect_after_ms=7),
    )
    assert oracle.server_frame(encoded(frame))


def test_halves_of_a_message_are_put_together() -> None:
    first = pb.ServerFrame(
        hello=pb.Hello(store_epoch=ID, window=5), drained=pb.Drained(tag=4), shutdown=pb.ShutdownNotice(reconnect_after_ms=9)
    )
    second = pb.ServerFrame(hello=pb.Hello(window=6, device=2), drained=pb.Drained(), shutdown=pb.ShutdownNotice())
    data = encoded(first) + encoded(second)
    assert oracle.server_frame(data)
    frame = parse_server_frame(data)
    assert frame.hello is not None
    assert (frame.hello.store_epoch, frame.hello.window, frame.hello.device) == (ID, 6, 2)
    assert (frame.drained, frame.shutdown) == (4, 9)


def test_an_empty_frame_says_nothing() -> None:
    frame = parse_server_frame(b"")
    assert (frame.hello, frame.results, frame.deliveries, frame.drained, frame.errors, frame.shutdown) == (None, [], [], None, [], None)
    assert not frame.malformed


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_a_reason_that_is_not_utf8_is_malformed_even_when_another_follows(text: bytes) -> None:
    wrong = b"\x12" + bytes([len(text)]) + text
    assert not oracle.server_frame(b"\x2a" + bytes([len(wrong)]) + wrong)
    assert not oracle.server_frame(b"\x2a" + bytes([len(wrong) + 3]) + wrong + b"\x12\x01a")


@pytest.mark.parametrize("item", [b"\x12\x00", b"\x1a\x00", b"\x2a\x00", b"\x12\x02\x38\x01"])
def test_the_items_of_a_server_frame_are_bounded(item: bytes) -> None:
    most = 65_536 // (2 if len(item) == 4 else 1)  # a result and a device number of its own are two items
    assert not parse_server_frame(item * most).malformed
    assert parse_server_frame(item * (most + 1)).malformed


def test_an_envelope_is_read_alone_with_and_without_its_server_timestamp() -> None:
    stored = encoded(envelope_pb2.Envelope(type=1, guid=ID, content=b"x"))
    for data, timestamp in ((stored, 0), (stored + b"\x79" + (5).to_bytes(8, "little"), 5)):
        envelope = parse_envelope(data)
        assert envelope is not None
        assert (envelope.guid, envelope.content, envelope.server_timestamp) == (ID, b"x", timestamp)
    assert parse_envelope(stored[:-1]) is None


# ------------------------------------------------------------------------------------------------------------------------- client frames


@given(
    client_id=ids,
    destination=ids,
    type=st.integers(-(2**31), 2**31 - 1),
    timestamp=u64,
    urgent=st.booleans(),
    ephemeral=st.booleans(),
    contents=st.lists(
        st.tuples(u32, u32, st.binary(max_size=200)) | st.tuples(u32, u32, st.binary(max_size=200), st.integers(-(2**31), 2**31 - 1)),
        max_size=5,
    ),
)
def test_a_send_is_what_the_official_runtime_writes(
    client_id: bytes,
    destination: bytes,
    type: int,
    timestamp: int,
    urgent: bool,
    ephemeral: bool,
    contents: list[tuple[int, int, bytes] | tuple[int, int, bytes, int]],
) -> None:
    send = pb.Send(client_id=client_id, destination_account=destination, type=type, client_timestamp=timestamp, urgent=urgent)
    send.ephemeral = ephemeral
    for device, registration_id, content, *own in contents:
        send.contents.add(device=device, registration_id=registration_id, content=content, type=own[0] if own else 0)
    frame = encode_send(client_id, destination, type, timestamp, urgent, ephemeral, contents)
    assert frame == encoded(pb.ClientFrame(sends=[send]))
    assert oracle.client_frame(frame)


@given(tags=st.lists(u64, max_size=9), guids=st.lists(st.binary(min_size=16, max_size=16), max_size=5), up_to=u64)
@unhurried
def test_an_ack_is_what_the_official_runtime_writes(tags: list[int], guids: list[bytes], up_to: int) -> None:
    frame = encode_ack(tags, guids, up_to)
    assert frame == encoded(pb.ClientFrame(acks=[pb.Ack(tags=tags, guids=guids, up_to=up_to)]))
    assert oracle.client_frame(frame)


def test_frames_joined_are_one_frame() -> None:
    send = encode_send(ID, ID, 1, 2, False, False, [(1, 2, b"x")])
    data = b"".join([encode_resume(), send, send, encode_ack(up_to=3), encode_sync()])
    assert oracle.client_frame(data)
    inbound = parse_client_frame(data, ID, 1, 100, 10)
    assert (len(inbound.sends), inbound.ack_up_to, inbound.resume, inbound.sync) == (2, 3, True, True)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: encode_send(ID, ID, 2**31, 0, False, False, []),
        lambda: encode_send(ID, ID, 1, -1, False, False, []),
        lambda: encode_send(ID, ID, 1, 0, False, False, [(2**32, 0, b"")]),
        lambda: encode_send(ID, ID, 1, 0, False, False, [(1, 0, b"", 2**31)]),
        lambda: encode_ack([2**64]),
        lambda: encode_ack([-1]),
    ],
)
def test_numbers_that_do_not_fit_their_fields_raise(wrong: Any) -> None:
    with pytest.raises(OverflowError):
        wrong()
