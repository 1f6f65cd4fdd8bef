"""Client frames to sends: what is refused with which code, what a send holds, what a frame may hold."""

from __future__ import annotations

import gc
import subprocess
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.proto import envelope as envelope_pb2
from tests.proto import frames as pb
from tests.reference.sends import digest, types_of
from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.core.model import EnvelopeType
from veredus.ext.envelope import REFUSALS, Identity, Inbound, Send, parse_client_frame
from veredus.ext.frames import FrameWriter, parse_server_frame

ME = uuid.UUID(int=1).bytes
PEER = uuid.UUID(int=2).bytes
KEY = uuid.UUID(int=3).bytes
LIMITS = Limits()
unhurried = settings(deadline=None)  # the machine may be busy; pytest bounds the whole test


def parse(data: bytes) -> Inbound:
    return parse_client_frame(data, ME, 7, LIMITS.content_bytes, LIMITS.devices_per_send)


def send_message(**changed: Any) -> Any:
    fields: dict[str, Any] = {"client_id": KEY, "destination_account": PEER, "type": 1, "client_timestamp": 1_780_000_000_000}
    fields["contents"] = [pb.DeviceContent(device=1, registration_id=11, content=b"one")]
    return pb.Send(**fields | changed)


def parse_send(**changed: Any) -> Send:
    inbound = parse(pb.ClientFrame(sends=[send_message(**changed)]).SerializeToString())
    assert not inbound.malformed
    (send,) = inbound.sends
    return send


def typed(*types: int) -> list[Any]:
    """A content for each of these types."""
    return [pb.DeviceContent(device=device, content=b"x", type=type) for device, type in enumerate(types, 1)]


def contents(*devices: int, content: bytes = b"x") -> list[Any]:
    return [pb.DeviceContent(device=device, content=content) for device in devices]


# ---------------------------------------------------------------------------------------------------------------------------- refusals


def test_the_codes_are_those_of_the_catalogue() -> None:
    assert {name: Code[name].value for name in REFUSALS} == dict(REFUSALS)


@pytest.mark.requirement("MSG-4")
@pytest.mark.parametrize(
    ("code", "changed"),
    [
        (Code.INVALID_CLIENT_ID, {"client_id": b""}),
        (Code.INVALID_CLIENT_ID, {"client_id": KEY[:15]}),
        (Code.INVALID_CLIENT_ID, {"client_id": KEY + b"\0"}),
        (Code.INVALID_DESTINATION, {"destination_account": b""}),
        (Code.INVALID_DESTINATION, {"destination_account": PEER + b"\0"}),
        (Code.INVALID_DESTINATION, {"contents": []}),
        (Code.INVALID_DESTINATION, {"contents": contents(0)}),
        (Code.INVALID_DESTINATION, {"contents": contents(1, 2**31)}),
        (Code.INVALID_DESTINATION, {"contents": contents(1, 2, 3, 2)}),
        (Code.INVALID_TYPE, {"type": EnvelopeType.UNKNOWN}),
        (Code.INVALID_TYPE, {"type": EnvelopeType.RECEIPT}),
        (Code.INVALID_TYPE, {"type": 2}),
        (Code.INVALID_TYPE, {"type": 99}),
        (Code.INVALID_TYPE, {"type": -1}),
        (Code.INVALID_TYPE, {"contents": typed(1, EnvelopeType.RECEIPT)}),
        (Code.INVALID_TYPE, {"contents": typed(2, 1)}),
        (Code.INVALID_TYPE, {"contents": typed(1, -1)}),
        (Code.INVALID_TYPE, {"contents": typed(EnvelopeType.SEALED, EnvelopeType.CIPHERTEXT)}),
        (Code.INVALID_TYPE, {"contents": typed(0, 0, EnvelopeType.SEALED)}),
        (Code.INVALID_TYPE, {"type": EnvelopeType.SEALED, "contents": typed(0, EnvelopeType.PREKEY_BUNDLE)}),
        (Code.INVALID_TYPE, {"type": EnvelopeType.UNKNOWN, "contents": typed(1, 0)}),
        (Code.INVALID_TYPE, {"type": EnvelopeType.RECEIPT, "contents": typed(1, 1)}),
        (Code.TOO_LARGE, {"contents": contents(*range(1, LIMITS.devices_per_send + 2))}),
        (Code.TOO_LARGE, {"contents": contents(*range(1, 2000))}),
    ],
)
def test_a_send_of_the_wrong_form_is_refused_with_its_code(code: Code, changed: dict[str, Any]) -> None:
    send = parse_send(**changed)
    assert send.code == code
    assert (send.digest, send.guid, send.devices, send.registration_ids, send.envelopes) == (b"", b"", (), (), ())
    assert not send.sealed


@pytest.mark.parametrize("type", [EnvelopeType.CIPHERTEXT, EnvelopeType.PREKEY_BUNDLE, EnvelopeType.SEALED, EnvelopeType.PLAINTEXT])
def test_what_clients_may_send_is_taken(type: EnvelopeType) -> None:
    assert parse_send(type=type).code == Code.OK


@pytest.mark.requirement("MSG-5")
def test_content_above_256_kib_is_refused_and_not_copied() -> None:
    at_the_limit = parse_send(contents=contents(1, content=bytes(256 * 1024)))
    assert at_the_limit.code == Code.OK
    above = parse_send(contents=[*contents(1), *contents(2, content=bytes(256 * 1024 + 1))])
    assert above.code == Code.TOO_LARGE
    assert above.envelopes == ()
    assert above.size < 1024 < 256 * 1024 < at_the_limit.size


def test_a_refusal_does_not_spread_to_other_sends() -> None:
    frame = pb.ClientFrame(sends=[send_message(), send_message(type=0), send_message(client_id=PEER)])
    assert [send.code for send in parse(frame.SerializeToString()).sends] == [Code.OK, Code.INVALID_TYPE, Code.OK]


@pytest.mark.parametrize("field", ["client_id", "destination_account"])
def test_an_id_of_any_size_is_kept_short(field: str) -> None:
    send = parse_send(**{field: bytes(100_000)})
    assert len({"client_id": send.client_id, "destination_account": send.destination}[field]) == 64


# ----------------------------------------------------------------------------------------------------------------------- what is in it


@pytest.mark.requirement("MSG-7")
@given(timestamp=st.integers(0, 2**64 - 1), urgent=st.booleans(), ephemeral=st.booleans())
@unhurried
def test_timestamp_and_urgency_are_taken_from_the_send_into_every_envelope(timestamp: int, urgent: bool, ephemeral: bool) -> None:
    send = parse_send(client_timestamp=timestamp, urgent=urgent, ephemeral=ephemeral, contents=contents(1, 2))
    assert (send.client_timestamp, send.urgent, send.ephemeral) == (timestamp, urgent, ephemeral)
    for encoded in send.envelopes:
        envelope = envelope_pb2.Envelope.FromString(encoded)
        assert (envelope.client_timestamp, envelope.urgent, envelope.ephemeral) == (timestamp, urgent, ephemeral)


@pytest.mark.requirement("MSG-2")
@given(content=st.binary(max_size=600))
@unhurried
def test_content_reaches_the_recipient_byte_for_byte_whatever_it_is(content: bytes) -> None:
    send = parse_send(type=EnvelopeType.SEALED, contents=contents(1, content=content))
    writer = FrameWriter()
    writer.put_delivery(1, send.envelopes[0], 5)
    (delivery,) = parse_server_frame(writer.take()).deliveries
    assert delivery.envelope.content == content
    assert (delivery.envelope.type, delivery.envelope.guid) == (EnvelopeType.SEALED, send.guid)


def test_a_sealed_envelope_says_nothing_of_its_source() -> None:
    (encoded,) = parse_send(type=EnvelopeType.SEALED).envelopes
    envelope = envelope_pb2.Envelope.FromString(encoded)
    assert (envelope.source_account, envelope.source_device) == (b"", 0)
    assert ME not in encoded


def test_an_identified_envelope_names_the_connection_not_what_the_client_says() -> None:
    (encoded,) = parse_send().envelopes
    envelope = envelope_pb2.Envelope.FromString(encoded)
    assert (envelope.source_account, envelope.source_device) == (ME, 7)


def test_each_device_gets_its_own_content_under_one_guid() -> None:
    send = parse_send(contents=[pb.DeviceContent(device=n, registration_id=n * 10, content=bytes([n])) for n in (3, 1, 2)])
    assert (send.devices, send.registration_ids) == ((3, 1, 2), (30, 10, 20))
    parsed = [envelope_pb2.Envelope.FromString(encoded) for encoded in send.envelopes]
    assert [(envelope.destination_device, envelope.content) for envelope in parsed] == [(3, b"\3"), (1, b"\1"), (2, b"\2")]
    assert {envelope.guid for envelope in parsed} == {send.guid}


@pytest.mark.parametrize(
    ("type", "own"),
    [
        (EnvelopeType.CIPHERTEXT, (EnvelopeType.PREKEY_BUNDLE, 0, EnvelopeType.PLAINTEXT)),
        (EnvelopeType.UNKNOWN, (EnvelopeType.CIPHERTEXT, EnvelopeType.PREKEY_BUNDLE)),
        (EnvelopeType.SEALED, (EnvelopeType.CIPHERTEXT, EnvelopeType.PREKEY_BUNDLE)),
        (EnvelopeType.SEALED, (0, EnvelopeType.SEALED)),
        (EnvelopeType.UNKNOWN, (EnvelopeType.SEALED, EnvelopeType.SEALED)),
        (EnvelopeType.CIPHERTEXT, (EnvelopeType.SEALED,)),
    ],
)
def test_each_device_gets_its_own_type_or_else_the_send_s(type: int, own: tuple[int, ...]) -> None:
    send = parse_send(type=type, contents=typed(*own))
    assert (send.code, send.type) == (Code.OK, type)
    wanted = types_of(type, [(1, 0, b"", each) for each in own])
    parsed = [envelope_pb2.Envelope.FromString(encoded) for encoded in send.envelopes]
    assert [envelope.type for envelope in parsed] == wanted
    assert send.sealed == (EnvelopeType.SEALED in wanted)
    source = (b"", 0) if send.sealed else (ME, 7)
    assert {(envelope.source_account, envelope.source_device) for envelope in parsed} == {source}


def test_build_takes_types_of_contents_as_parsing_does() -> None:
    parsed = parse_send(type=EnvelopeType.CIPHERTEXT, contents=typed(3, 0, 1))
    items: list[tuple[int, int, bytes] | tuple[int, int, bytes, int]] = [(1, 0, b"x", 3), (2, 0, b"x"), (3, 0, b"x", 1)]
    built = Send.build(ME, 7, KEY, PEER, EnvelopeType.CIPHERTEXT, 1_780_000_000_000, False, False, items, 100, 16)
    assert (built.code, built.digest, built.sealed) == (0, parsed.digest, False)
    assert [encoded.replace(built.guid, parsed.guid) for encoded in built.envelopes] == list(parsed.envelopes)
    sealed = Send.build(ME, 7, KEY, PEER, 0, 0, False, False, [(1, 0, b"", EnvelopeType.SEALED)], 100, 16)
    assert (sealed.code, sealed.type, sealed.sealed) == (0, 0, True)
    for wrong in ((1, 0), (1, 0, b"", 1, 1)):
        with pytest.raises(ValueError, match="unpack"):
            Send.build(ME, 7, KEY, PEER, 1, 0, False, False, [wrong], 100, 16)  # type: ignore[list-item]


def test_build_makes_what_parsing_makes() -> None:
    parsed = parse_send(urgent=True, contents=contents(1, 2))
    built = Send.build(ME, 7, KEY, PEER, 1, 1_780_000_000_000, True, False, [(1, 0, b"x"), (2, 0, b"x")], 100, 16)
    for name in ("client_id", "destination", "type", "client_timestamp", "urgent", "ephemeral", "devices", "registration_ids"):
        assert getattr(built, name) == getattr(parsed, name)
    assert (built.digest, built.size, built.code) == (parsed.digest, parsed.size, 0)
    assert [encoded.replace(built.guid, parsed.guid) for encoded in built.envelopes] == list(parsed.envelopes)


@pytest.mark.parametrize(
    ("code", "key", "items"),
    [
        (Code.INVALID_CLIENT_ID, b"", [(1, 0, b"")]),
        (Code.INVALID_DESTINATION, KEY, []),
        (Code.INVALID_DESTINATION, KEY, [(1, 0, b""), (1, 0, b"")]),
        (Code.TOO_LARGE, KEY, [(1, 0, bytes(101))]),
        (Code.TOO_LARGE, KEY, [(device, 0, b"") for device in range(1, 500)]),
    ],
)
def test_build_refuses_as_parsing_does(code: Code, key: bytes, items: list[tuple[int, int, bytes]]) -> None:
    assert Send.build(ME, 7, key, PEER, 1, 0, False, False, items, 100, 16).code == code


@pytest.mark.parametrize("item", [(-1, 0, b""), (2**32, 0, b""), (1, 2**32, b""), (1, 0, b"", 2**31)])
def test_build_raises_on_numbers_that_no_frame_can_carry(item: tuple[int, int, bytes]) -> None:
    with pytest.raises(OverflowError):
        Send.build(ME, 7, KEY, PEER, 1, 0, False, False, [item], 100, 16)


@pytest.mark.parametrize("max_devices", [0, -1, 129])
def test_an_identity_needs_limits_the_parser_can_hold(max_devices: int) -> None:
    assert Identity(ME, 1, 0, LIMITS.devices_per_send).max_devices == LIMITS.devices_per_send
    with pytest.raises(ValueError, match="max_devices"):
        Identity(ME, 1, 0, max_devices)


# ------------------------------------------------------------------------------------------------------------------ digests and guids


def test_the_digest_is_that_of_the_model() -> None:
    send = parse_send(urgent=True, contents=[pb.DeviceContent(device=n, registration_id=5, content=b"y" * n) for n in (1, 8, 9)])
    assert send.digest == digest(PEER, 1, True, False, [(n, 5, b"y" * n, 0) for n in (1, 8, 9)])


def test_the_digest_counts_the_type_of_each_content_and_not_where_it_stood() -> None:
    alike: list[dict[str, Any]] = [
        {"type": 1, "contents": typed(0, 3)},
        {"type": 3, "contents": typed(1, 0)},
        {"type": 0, "contents": typed(1, 3)},
        {"type": 8, "contents": typed(1, 3)},
    ]
    assert len({parse_send(**fields).digest for fields in alike}) == 1
    others = [typed(3, 1), typed(1, 1), typed(3, 3), typed(1, 8), typed(6, 6)]
    assert len({parse_send(contents=each).digest for each in [typed(1, 3), *others]}) == 1 + len(others)
    assert parse_send(type=1, contents=typed(1, 3)).digest == digest(PEER, 1, False, False, [(1, 0, b"x", 0), (2, 0, b"x", 3)])


def test_the_digest_moves_with_everything_but_the_timestamp_and_the_client_id() -> None:
    first = parse_send().digest
    assert parse_send(client_timestamp=1, client_id=PEER).digest == first
    changes: list[dict[str, Any]] = [
        {"destination_account": KEY},
        {"type": 3},
        {"urgent": True},
        {"ephemeral": True},
        {"contents": [pb.DeviceContent(device=2, registration_id=11, content=b"one")]},
        {"contents": [pb.DeviceContent(device=1, registration_id=12, content=b"one")]},
        {"contents": [pb.DeviceContent(device=1, registration_id=11, content=b"one\0")]},
        {"contents": [pb.DeviceContent(device=1, registration_id=11, content=b"onf")]},
    ]
    digests = {parse_send(**change).digest for change in changes}
    assert len(digests) == len(changes)
    assert first not in digests


def test_guids_are_random_uuids_of_version_4() -> None:
    guids = {parse_send().guid for _ in range(2000)}  # several blocks of the pool
    assert len(guids) == 2000
    for guid in guids:
        named = uuid.UUID(bytes=guid)
        assert (named.version, named.variant) == (4, uuid.RFC_4122)


def test_a_forked_process_draws_other_guids() -> None:
    program = """
import os
from veredus.ext.envelope import Send
draw = lambda: Send.build(bytes(16), 1, bytes(16), bytes(16), 1, 0, False, False, [(1, 0, b"")], 9, 9).guid
draw()
ours, theirs = os.pipe()
if os.fork() == 0:
    os.write(theirs, draw())
    os._exit(0)
assert os.read(ours, 16) != draw()
os.wait()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# ------------------------------------------------------------------------------------------------------------------------------- frames


def test_acknowledgements_of_all_acks_come_together() -> None:
    acks = [pb.Ack(tags=[3, 1], guids=[KEY], up_to=9), pb.Ack(up_to=4), pb.Ack(tags=[2**64 - 1], guids=[PEER])]
    inbound = parse(pb.ClientFrame(acks=acks).SerializeToString())
    assert (inbound.ack_tags, inbound.ack_guids, inbound.ack_up_to) == ([3, 1, 2**64 - 1], [KEY, PEER], 9)


@pytest.mark.parametrize("guid", [b"", KEY[:15], KEY + b"\0"])
def test_a_guid_of_another_size_makes_the_frame_malformed(guid: bytes) -> None:
    assert parse(pb.ClientFrame(acks=[pb.Ack(guids=[KEY, guid])]).SerializeToString()).malformed


def test_nothing_of_a_malformed_frame_counts() -> None:
    frame = pb.ClientFrame(resume=pb.Resume(), sends=[send_message()], acks=[pb.Ack(tags=[1], guids=[KEY], up_to=5)], sync=pb.Sync())
    inbound = parse(frame.SerializeToString() + b"\x00")
    assert inbound.malformed
    assert (inbound.sends, inbound.ack_tags, inbound.ack_guids, inbound.ack_up_to) == ([], [], [], 0)
    assert not inbound.resume
    assert not inbound.sync


@pytest.mark.parametrize(
    ("item", "most"),
    [
        (b"\x12\x00", 4096),  # an empty Send
        (b"\x1a\x02\x08\x01", 65_536),  # an Ack with one tag
        (b"\x1a\x12\x12\x10" + KEY, 65_536),  # an Ack with one guid
    ],
)
def test_the_items_of_a_frame_are_bounded(item: bytes, most: int) -> None:
    fits = parse(item * most)
    assert not fits.malformed
    assert max(len(fits.sends), len(fits.ack_tags), len(fits.ack_guids)) == most
    assert parse(item * (most + 1)).malformed


def test_packed_tags_are_bounded_too() -> None:
    assert not parse(pb.ClientFrame(acks=[pb.Ack(tags=[1] * 65_536)]).SerializeToString()).malformed
    assert parse(pb.ClientFrame(acks=[pb.Ack(tags=[1] * 65_537)]).SerializeToString()).malformed


def test_contents_beyond_what_the_parser_keeps_are_counted_only() -> None:
    data = pb.ClientFrame(sends=[send_message(contents=contents(*range(1, 5000)))]).SerializeToString()
    assert parse_client_frame(data, ME, 7, 100, 128).sends[0].code == Code.TOO_LARGE


# ------------------------------------------------------------------------------------------------------------------------------ objects


def test_the_garbage_collector_has_nothing_to_look_at() -> None:
    send = parse_send()
    assert not any(gc.is_tracked(item) for item in (send, send.devices, send.registration_ids, send.envelopes))


def test_a_send_is_made_by_the_parser_only_and_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Send()
    with pytest.raises(AttributeError):
        parse_send().guid = b""  # type: ignore[misc]
