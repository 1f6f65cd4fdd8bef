"""From the body of a send request to `ext.envelope.Send`: JSON as existing clients write it, or `veredus.v1.Send`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from veredus.core.errors import Code, PeerError
from veredus.core.limits import Limits
from veredus.core.messaging.client_ids import derived_client_id
from veredus.core.model import EnvelopeType, Principal
from veredus.ext.envelope import Send, parse_client_frame
from veredus.server.http.envelope import varint

PROTOBUF = "application/x-protobuf"
UUID_CHARACTERS = 36
SENDS_TAG = b"\x12"  # `ClientFrame.sends`: field 2, length-delimited
CLIENT_ID_FIELD = b"\x0a\x10"  # `Send.client_id`: field 1, 16 bytes; in protobuf the last one stands

Int32 = Annotated[int, Meta(ge=0, le=2**31 - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=2**63 - 1, description="Milliseconds since 1970.")]


class DeviceMessage(msgspec.Struct, rename="camel"):
    """The content for one device. Types may differ from device to device, except that a send is sealed wholly or not at all."""

    type: Annotated[Int32, Meta(description="1 ciphertext, 3 first message of a session, 6 sealed sender, 8 plaintext.")]
    destination_device_id: UInt32
    content: Annotated[bytes, Meta(description="Base64. At most 262,144 bytes when decoded.")]
    destination_registration_id: Annotated[UInt32, Meta(description="The registration it was encrypted for; 0: not checked.")] = 0


class SendMessages(msgspec.Struct, rename="camel"):
    """One message for all devices of an account. Fields this server does not know are skipped."""

    messages: list[DeviceMessage]
    timestamp: Milliseconds
    urgent: bool = True
    online: Annotated[bool, Meta(description="Only for devices that are connected now; stored nowhere.")] = False


def parse_uuid(text: str, code: Code) -> bytes:
    """The 16 bytes of a UUID in its usual form, else `PeerError(code)`: one name has one spelling (but for the case of its letters)."""
    try:
        if len(text) == UUID_CHARACTERS and text.isascii():
            found = UUID(text)
            if str(found) == text.lower():
                return found.bytes
    except ValueError:
        pass
    raise PeerError(code)


def json_send(body: bytes, destination: bytes, key: bytes | None, principal: Principal, limits: Limits) -> Send:
    """The send of a JSON body. Raises PeerError: INVALID_REQUEST or INVALID_TEXT for the form; the rest is `send.code`."""
    wanted = _decode(body)
    contents = [(each.destination_device_id, each.destination_registration_id, each.content, each.type) for each in wanted.messages]

    def build(client_id: bytes) -> Send:
        return Send.build(
            principal.account,
            principal.device,
            client_id,
            destination,
            EnvelopeType.UNKNOWN,  # each content names its own
            wanted.timestamp,
            wanted.urgent,
            wanted.online,
            contents,
            limits.content_bytes,
            limits.devices_per_send,
        )

    if key is not None:
        return build(key)
    draft = build(bytes(16))
    return draft if draft.code else build(derived_client_id(destination, wanted.timestamp, draft.digest))


def protobuf_send(body: bytes, destination: bytes, key: bytes | None, principal: Principal, limits: Limits) -> Send:
    """The send of a `veredus.v1.Send` body. Its own client_id is the key; without one the header's is, else a derived one.

    Raises PeerError: MALFORMED_FRAME when it is no Send, INVALID_DESTINATION when it is for somebody else than the path says,
    INVALID_CLIENT_ID when body and header name different keys.
    """
    send = _parse(body, principal, limits)
    if send.code == Code.INVALID_CLIENT_ID and not send.client_id:
        if key is None:
            draft = _parse(body + CLIENT_ID_FIELD + bytes(16), principal, limits)
            key = derived_client_id(draft.destination, draft.client_timestamp, draft.digest) if not draft.code else bytes(16)
        send = _parse(body + CLIENT_ID_FIELD + key, principal, limits)
    elif key is not None and not send.code and send.client_id != key:
        raise PeerError(Code.INVALID_CLIENT_ID, "the body and Idempotency-Key name different keys")
    if not send.code and send.destination != destination:
        raise PeerError(Code.INVALID_DESTINATION, "the body and the path name different accounts")
    return send


def _decode(body: bytes) -> SendMessages:
    if not body.isascii():  # as good as never: contents are base64
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise PeerError(Code.INVALID_TEXT) from None
    try:
        return msgspec.json.decode(body, type=SendMessages)
    except msgspec.ValidationError as error:
        raise PeerError(Code.INVALID_REQUEST, _where(error)) from None
    except (msgspec.DecodeError, RecursionError):  # the second: nested deeper than any body of ours
        raise PeerError(Code.INVALID_REQUEST, "the body is not JSON") from None


def _where(error: msgspec.ValidationError) -> str:
    """The place of a fault, `$.messages[0].type`, without what stood there: exceptions hold no content."""
    _, found, place = str(error).rpartition(" - at `")
    return f"the body does not have the form it should at {place.rstrip('`')}" if found else "the body does not have the form it should"


def _parse(body: bytes, principal: Principal, limits: Limits) -> Send:
    frame = SENDS_TAG + varint(len(body)) + body
    inbound = parse_client_frame(frame, principal.account, principal.device, limits.content_bytes, limits.devices_per_send)
    if inbound.malformed or len(inbound.sends) != 1:
        raise PeerError(Code.MALFORMED_FRAME, "the body is not a veredus.v1.Send")
    return inbound.sends[0]
