"""One frame of every kind and shape, short enough to damage every byte of it."""

from __future__ import annotations

from tests.proto import envelope as envelope_pb2
from tests.proto import frames as pb

ID = bytes(range(16, 32))
PEER = bytes(range(32, 48))
NOW = 1_780_000_000_000


def _send(type: int = 1, devices: tuple[int, ...] = (1,), content: bytes = b"hello \x00\xff") -> pb.Send:
    contents = [pb.DeviceContent(device=device, registration_id=device * 77, content=content) for device in devices]
    return pb.Send(client_id=ID, destination_account=PEER, type=type, client_timestamp=NOW, urgent=True, contents=contents)


def _mixed(type: int, *own: int) -> pb.Send:
    """A send with a content for each of `own` types."""
    send = _send(type, tuple(range(1, len(own) + 1)))
    for content, each in zip(send.contents, own, strict=True):
        content.type = each
    return send


def client_frames() -> dict[str, bytes]:
    ack = pb.Ack(tags=[1, 2, 300, 2**64 - 1], guids=[ID, PEER], up_to=2**40)
    frames = {
        "empty": pb.ClientFrame(),
        "send": pb.ClientFrame(sends=[_send()]),
        "sealed to three devices": pb.ClientFrame(sends=[_send(6, (1, 2, 3000))]),
        "types by device": pb.ClientFrame(sends=[_mixed(1, 3, 0, 8), _mixed(0, 6, 6)]),
        "sealed beside another": pb.ClientFrame(sends=[_mixed(6, 0, 1), _mixed(0, 1, 0), _mixed(1, -1, 5)]),
        "ephemeral without content": pb.ClientFrame(sends=[pb.Send(client_id=ID, type=8, ephemeral=True, contents=[pb.DeviceContent()])]),
        "content over the limit": pb.ClientFrame(sends=[_send(content=bytes(200))]),
        "ack": pb.ClientFrame(acks=[ack, pb.Ack(up_to=5)]),
        "everything": pb.ClientFrame(resume=pb.Resume(), sends=[_send(3), _send(devices=(1, 2))], acks=[ack], sync=pb.Sync()),
    }
    return {name: frame.SerializeToString() for name, frame in frames.items()}


def envelopes() -> dict[str, bytes]:
    full = envelope_pb2.Envelope(
        type=1,
        source_account=ID,
        source_device=2,
        destination_account=PEER,
        destination_device=200,
        guid=ID,
        client_timestamp=NOW,
        urgent=True,
        ephemeral=True,
        content=b"hello \x00\xff",
        server_timestamp=NOW,
    )
    return {"full": full.SerializeToString(), "receipt": envelope_pb2.Envelope(type=5, server_timestamp=NOW).SerializeToString()}


def server_frames() -> dict[str, bytes]:
    full = envelope_pb2.Envelope.FromString(envelopes()["full"])
    hello = pb.Hello(
        store_epoch=ID,
        account=PEER,
        device=1,
        server_timestamp=NOW,
        max_content_bytes=262_144,
        max_message_bytes=2_097_152,
        max_devices=16,
        window=1000,
        ping_interval_ms=25_000,
    )
    sent = pb.SendResult(client_id=ID, guid=PEER, server_timestamp=NOW, needs_sync=True)
    refused = pb.SendResult(
        client_id=ID, code=9, missing_devices=[2, 300], extra_devices=[5], stale_devices=[2**32 - 1], retry_after_ms=1000
    )
    error = pb.Error(code=12, reason="später ☂ \U0001f40e", retry_after_ms=1000)
    frames = {
        "hello": pb.ServerFrame(hello=hello),
        "results": pb.ServerFrame(results=[sent, refused]),
        "deliveries": pb.ServerFrame(deliveries=[pb.Delivery(tag=1, envelope=full), pb.Delivery(tag=2)]),
        "the rest": pb.ServerFrame(drained=pb.Drained(tag=2), errors=[error], shutdown=pb.ShutdownNotice(reconnect_after_ms=500)),
    }
    return {name: frame.SerializeToString() for name, frame in frames.items()}
