"""Our codec against the official protobuf runtime on one input: the same judgement and the same values, or an AssertionError.

Deliberate differences, and no others: we also refuse a frame with a guid that is not 16 bytes, with more than 4,096 sends, or with more
than 65,536 acknowledged tags and guids (server frames: 65,536 results, deliveries, errors and device numbers); and a Delivery without an
envelope is one with an empty envelope.

The official runtime means upb of protobuf 7.36. Older ones (seen: 6.31) refuse field number 0 also in groups and in messages without
fields, and take lengths of more than five bytes.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from tests.proto import envelope as envelope_pb2
from tests.proto import frames as frames_pb2
from tests.reference.sends import SEALED, digest, judge, types_of
from veredus.ext.envelope import Inbound, Send, parse_client_frame
from veredus.ext.frames import Envelope, parse_envelope, parse_server_frame

ACCOUNT = bytes(range(16))
DEVICE = 300
MAX_CONTENT = 48
MAX_DEVICES = 3
MAX_SENDS = 4096
MAX_ACKS = 65536

HELLO = [field.name for field in frames_pb2.Hello.DESCRIPTOR.fields]
RESULT = [field.name for field in frames_pb2.SendResult.DESCRIPTOR.fields]
NOTICE = [field.name for field in frames_pb2.Error.DESCRIPTOR.fields]
ENVELOPE = [field.name for field in envelope_pb2.Envelope.DESCRIPTOR.fields]


def official(kind: Any, data: bytes) -> Any:
    """The official runtime's message, or None where it refuses."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def values(item: object, names: list[str]) -> list[object]:
    plain = [getattr(item, name) for name in names]
    return [value if isinstance(value, bytes | str | int) else list(value) for value in plain]


def expect(condition: bool, data: bytes) -> None:
    assert condition, data.hex()


def client_frame(data: bytes) -> bool:
    """Compare on a ClientFrame; says whether it was accepted."""
    ours = parse_client_frame(data, ACCOUNT, DEVICE, MAX_CONTENT, MAX_DEVICES)
    theirs = official(frames_pb2.ClientFrame, data)
    if theirs is None or _over_our_bounds(theirs):
        expect(ours.malformed and _is_empty(ours), data)
        return False
    expect(not ours.malformed, data)
    expect((ours.resume, ours.sync) == (theirs.HasField("resume"), theirs.HasField("sync")), data)
    expect(ours.ack_tags == [tag for ack in theirs.acks for tag in ack.tags], data)
    expect(ours.ack_guids == [guid for ack in theirs.acks for guid in ack.guids], data)
    expect(ours.ack_up_to == max((ack.up_to for ack in theirs.acks), default=0), data)
    expect(len(ours.sends) == len(theirs.sends), data)
    for our, their in zip(ours.sends, theirs.sends, strict=True):
        _send(our, their, data)
    return True


def server_frame(data: bytes) -> bool:
    """Compare on a ServerFrame; says whether it was accepted."""
    ours = parse_server_frame(data)
    theirs = official(frames_pb2.ServerFrame, data)
    expect(ours.malformed == (theirs is None), data)
    if theirs is None:
        expect(not (ours.hello or ours.results or ours.deliveries or ours.errors), data)
        expect(ours.drained is ours.shutdown is None, data)
        return False
    expect((ours.hello is not None) == theirs.HasField("hello"), data)
    expect(ours.hello is None or values(ours.hello, HELLO) == values(theirs.hello, HELLO), data)
    expect([values(item, RESULT) for item in ours.results] == [values(item, RESULT) for item in theirs.results], data)
    expect([item.tag for item in ours.deliveries] == [item.tag for item in theirs.deliveries], data)
    for our, their in zip(ours.deliveries, theirs.deliveries, strict=True):
        _envelope(our.envelope, their.envelope, data)
    expect(ours.drained == (theirs.drained.tag if theirs.HasField("drained") else None), data)
    expect([values(item, NOTICE) for item in ours.errors] == [values(item, NOTICE) for item in theirs.errors], data)
    expect(ours.shutdown == (theirs.shutdown.reconnect_after_ms if theirs.HasField("shutdown") else None), data)
    return True


def envelope(data: bytes) -> bool:
    """Compare on an Envelope; says whether it was accepted."""
    ours = parse_envelope(data)
    theirs = official(envelope_pb2.Envelope, data)
    expect((ours is None) == (theirs is None), data)
    if ours is not None:
        _envelope(ours, theirs, data)
    return ours is not None


def _over_our_bounds(frame: Any) -> bool:
    acked = sum(len(ack.tags) + len(ack.guids) for ack in frame.acks)
    return len(frame.sends) > MAX_SENDS or acked > MAX_ACKS or any(len(guid) != 16 for ack in frame.acks for guid in ack.guids)


def _is_empty(inbound: Inbound) -> bool:
    return not (inbound.sends or inbound.ack_tags or inbound.ack_guids or inbound.ack_up_to or inbound.resume or inbound.sync)


def _send(ours: Send, theirs: Any, data: bytes) -> None:
    contents = [(item.device, item.registration_id, item.content, item.type) for item in theirs.contents]
    code = judge(theirs.client_id, theirs.destination_account, theirs.type, contents, MAX_CONTENT, MAX_DEVICES)
    expect(ours.code == code, data)
    expect((ours.client_id, ours.destination) == (theirs.client_id[:64], theirs.destination_account[:64]), data)
    expect((ours.type, ours.client_timestamp) == (theirs.type, theirs.client_timestamp), data)
    expect((ours.urgent, ours.ephemeral) == (theirs.urgent, theirs.ephemeral), data)
    if code != 0:
        expect((ours.digest, ours.guid, ours.devices, ours.registration_ids, ours.envelopes) == (b"", b"", (), (), ()), data)
        expect(not ours.sealed, data)
        return
    types = types_of(theirs.type, contents)
    expect(ours.sealed == (SEALED in types), data)
    expect(ours.digest == digest(theirs.destination_account, theirs.type, theirs.urgent, theirs.ephemeral, contents), data)
    expect(ours.devices == tuple(device for device, _, _, _ in contents), data)
    expect(ours.registration_ids == tuple(registration_id for _, registration_id, _, _ in contents), data)
    expect(ours.envelopes == tuple(encoded_envelope(theirs, item, ours.guid) for item in theirs.contents), data)


def encoded_envelope(send: Any, item: Any, guid: bytes) -> bytes:
    """What the official runtime makes of a send for the device of one of its contents."""
    sealed = (item.type or send.type) == SEALED
    message = envelope_pb2.Envelope(
        type=item.type or send.type,
        source_account=b"" if sealed else ACCOUNT,
        source_device=0 if sealed else DEVICE,
        destination_account=send.destination_account,
        destination_device=item.device,
        guid=guid,
        client_timestamp=send.client_timestamp,
        urgent=send.urgent,
        ephemeral=send.ephemeral,
        content=item.content,
    )
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def _envelope(ours: Envelope, theirs: Any, data: bytes) -> None:
    expect(values(ours, ENVELOPE) == values(theirs, ENVELOPE), data)
