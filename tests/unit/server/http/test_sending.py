"""Bodies of sends: any bytes are a send or a refusal, JSON and protobuf mean the same."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proto import frames
from veredus.core.errors import Code, PeerError
from veredus.core.limits import Limits
from veredus.core.model import Principal
from veredus.ext.envelope import Send
from veredus.server.http.sending import json_send, parse_uuid, protobuf_send

ALICE = Principal(account=uuid4().bytes, device=1, account_id=1, device_id=101)
BOB = uuid4().bytes
LIMITS = Limits()

device_contents = st.tuples(st.integers(1, 2**31 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=50))
contents = st.lists(device_contents, min_size=1, max_size=5, unique_by=lambda one: one[0])
types = st.just([6] * 5) | st.lists(st.sampled_from([1, 3, 8]), min_size=5, max_size=5)
FIELDS = ("code", "client_id", "destination", "sealed", "client_timestamp", "urgent", "ephemeral", "digest", "devices", "registration_ids")


@given(contents, types, st.integers(0, 2**63 - 1), st.booleans(), st.booleans(), st.none() | st.uuids())
def test_json_and_protobuf_make_the_same_send(
    wanted: list[tuple[int, int, bytes]], kinds: list[int], timestamp: int, urgent: bool, online: bool, key: UUID | None
) -> None:
    messages = [
        {"type": kind, "destinationDeviceId": device, "destinationRegistrationId": registration, "content": b64encode(content).decode()}
        for (device, registration, content), kind in zip(wanted, kinds, strict=False)
    ]
    text = json.dumps({"messages": messages, "timestamp": timestamp, "urgent": urgent, "online": online}).encode()
    frame = frames.Send(destination_account=BOB, type=kinds[0], client_timestamp=timestamp, urgent=urgent, ephemeral=online)
    for (device, registration, content), kind in zip(wanted, kinds, strict=False):
        frame.contents.add(device=device, registration_id=registration, content=content, type=0 if kind == kinds[0] else kind)
    given_key = None if key is None else key.bytes
    one = json_send(text, BOB, given_key, ALICE, LIMITS)
    other = protobuf_send(frame.SerializeToString(), BOB, given_key, ALICE, LIMITS)
    for name in FIELDS:
        assert getattr(one, name) == getattr(other, name), name
    assert one.code == 0
    assert len(one.client_id) == 16
    if key is not None:
        assert one.client_id == key.bytes


def judged(read: Callable[..., Send], data: bytes) -> Code:
    """What becomes of a body: OK, or the code it is refused with."""
    try:
        return Code(read(data, BOB, None, ALICE, LIMITS).code)
    except PeerError as refused:
        return refused.code


@given(st.binary())
def test_any_bytes_are_refused_and_never_an_exception(data: bytes) -> None:
    assert judged(json_send, data) in (Code.INVALID_REQUEST, Code.INVALID_TEXT)
    assert judged(protobuf_send, data) in (Code.MALFORMED_FRAME, Code.INVALID_DESTINATION, Code.INVALID_CLIENT_ID)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["messages", "timestamp", "urgent", "type", "content"]), inner),
)


@given(json_values)
def test_any_json_is_refused_unless_it_is_a_send(value: object) -> None:
    assert judged(json_send, json.dumps(value).encode()) in (Code.INVALID_REQUEST, Code.INVALID_DESTINATION)


@given(st.uuids())
def test_a_uuid_has_one_spelling(uuid: UUID) -> None:
    assert parse_uuid(str(uuid), Code.NOT_FOUND) == parse_uuid(str(uuid).upper(), Code.NOT_FOUND) == uuid.bytes
    for other in (uuid.hex, f"{{{uuid}}}", uuid.urn, f" {uuid}", str(uuid).replace("-", "", 1) + "-", str(uuid)[:-1]):
        with pytest.raises(PeerError):
            parse_uuid(other, Code.NOT_FOUND)
