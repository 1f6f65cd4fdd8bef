"""The codec's cost per frame beside the official protobuf runtime's. Not part of the test suite: `pytest bench/micro/test_codec.py`.

Owns the frames it measures and checks every result once. Never judges a time: a number without its machine says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.fuzz.oracle import encoded_envelope
from tests.proto import frames as pb
from veredus.core.errors import Code
from veredus.core.model import Reply
from veredus.ext.digest import siphash128
from veredus.ext.envelope import Inbound, parse_client_frame
from veredus.ext.frames import FrameWriter, ServerInbound, encode_send, parse_server_frame

ME = bytes(range(16))
PEER = bytes(range(16, 32))
NOW = 1_780_000_000_000
CONTENT = bytes(range(256)) + bytes(44)  # 300 bytes, the size the budgets speak of
MANY = 100


def send(devices: int = 1) -> bytes:
    return encode_send(PEER, PEER, 1, NOW, True, False, [(device, 1234, CONTENT) for device in range(1, devices + 1)])


def parse(data: bytes) -> Inbound:
    return parse_client_frame(data, ME, 1, 262_144, 16)


def deliveries() -> bytes:
    (encoded,) = parse(send()).sends[0].envelopes
    writer = FrameWriter()
    for tag in range(1, MANY + 1):
        writer.put_delivery(tag, encoded, NOW)
    return writer.take()


@pytest.mark.parametrize(("frames", "devices"), [(1, 1), (MANY, 1), (1, 3)], ids=["one", "hundred", "three devices"])
def test_parse_sends(benchmark: BenchmarkFixture, frames: int, devices: int) -> None:
    data = send(devices) * frames
    inbound = benchmark(parse, data)
    assert [len(each.envelopes) for each in inbound.sends] == [devices] * frames
    assert all(each.code == 0 for each in inbound.sends)


def official_sends(data: bytes) -> list[list[bytes]]:
    """The same work in Python on the official runtime, without digest, guid and checks: an encoded envelope per device."""
    frame = pb.ClientFrame.FromString(data)
    return [[encoded_envelope(each, item, PEER) for item in each.contents] for each in frame.sends]


@pytest.mark.parametrize(("frames", "devices"), [(1, 1), (MANY, 1), (1, 3)], ids=["one", "hundred", "three devices"])
def test_parse_sends_official(benchmark: BenchmarkFixture, frames: int, devices: int) -> None:
    sends = benchmark(official_sends, send(devices) * frames)
    assert [len(each) for each in sends] == [devices] * frames


@pytest.mark.parametrize(("frames", "devices"), [(1, 1), (MANY, 1), (1, 3)], ids=["one", "hundred", "three devices"])
def test_parse_sends_official_without_looking_inside(benchmark: BenchmarkFixture, frames: int, devices: int) -> None:
    """The parse alone: upb makes Python objects only for what is read."""
    frame = benchmark(pb.ClientFrame.FromString, send(devices) * frames)
    assert [len(each.contents) for each in frame.sends] == [devices] * frames


def write_ours(envelope: bytes, reply: Reply, writer: FrameWriter) -> bytes:
    for tag in range(1, MANY + 1):
        writer.put_delivery(tag, envelope, NOW)
        writer.put_reply(reply)
    return writer.take()


def write_official(envelope: Any, reply: Reply) -> bytes:
    frame = pb.ServerFrame()
    for tag in range(1, MANY + 1):
        delivery = frame.deliveries.add(tag=tag, envelope=envelope)
        delivery.envelope.server_timestamp = NOW
        frame.results.add(client_id=reply.client_id, guid=reply.guid, server_timestamp=reply.server_timestamp)
    written: bytes = frame.SerializeToString()
    return written


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "official"])
def test_write_a_hundred_deliveries_and_results(benchmark: BenchmarkFixture, ours: bool) -> None:
    (encoded,) = parse(send()).sends[0].envelopes
    reply = Reply(ME, Code.OK, PEER, NOW)
    envelope = pb.Delivery.FromString(b"\x12" + bytes([len(encoded) & 0x7F | 0x80, len(encoded) >> 7]) + encoded).envelope
    call: Callable[[], bytes] = (lambda: write_ours(encoded, reply, FrameWriter())) if ours else (lambda: write_official(envelope, reply))
    frame = pb.ServerFrame.FromString(benchmark(call))
    assert [delivery.tag for delivery in frame.deliveries] == list(range(1, MANY + 1))
    assert all(delivery.envelope.content == CONTENT for delivery in frame.deliveries)
    assert len(frame.results) == MANY


def read(parser: Callable[[bytes], ServerInbound], data: bytes) -> list[tuple[int, bytes, bytes, int]]:
    """What a client needs of every delivery."""
    return [
        (delivery.tag, delivery.envelope.guid, delivery.envelope.content, delivery.envelope.server_timestamp)
        for delivery in parser(data).deliveries
    ]


@pytest.mark.parametrize("parser", [parse_server_frame, pb.ServerFrame.FromString], ids=["ours", "official"])
def test_parse_and_read_a_hundred_deliveries(benchmark: BenchmarkFixture, parser: Callable[[bytes], ServerInbound]) -> None:
    items = benchmark(read, parser, deliveries())
    assert [(tag, content, timestamp) for tag, _, content, timestamp in items] == [(tag, CONTENT, NOW) for tag in range(1, MANY + 1)]


def test_digest_of_300_bytes(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(siphash128, ME, CONTENT)) == 16
