"""The stored envelope, shown as JSON or sent on as it is stored."""

from __future__ import annotations

from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from veredus.core.errors import Code, VeredusError
from veredus.core.model import Row
from veredus.ext.frames import parse_envelope

SERVER_TIMESTAMP_TAG = b"\x79"  # field 15, fixed64: the last field of `veredus.v1.Envelope`
MESSAGE_TAG, MORE_FIELD = b"\x0a", b"\x10\x01"  # `veredus.v1.StoredPage`: field 1 length-delimited, field 2 true


class StoredMessage(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A stored message. `source` and `source_device` are absent when the sender is sealed; `content` is base64."""

    guid: UUID
    type: int
    source: UUID | UnsetType = UNSET
    source_device: int | UnsetType = UNSET
    timestamp: int
    server_timestamp: int
    content: bytes
    urgent: bool


def stored_message(row: Row) -> StoredMessage:
    """The message of a mailbox row. Raises `VeredusError(INTERNAL)` when the row is no envelope."""
    envelope = parse_envelope(row.envelope)
    if envelope is None:
        raise VeredusError(Code.INTERNAL)
    return StoredMessage(
        guid=UUID(bytes=row.guid),
        type=envelope.type,
        source=UUID(bytes=envelope.source_account) if envelope.source_account else UNSET,
        source_device=envelope.source_device or UNSET,
        timestamp=envelope.client_timestamp,
        server_timestamp=row.server_timestamp,
        content=envelope.content,
        urgent=envelope.urgent,
    )


def stored_page(rows: list[Row], more: bool) -> bytes:
    """`veredus.v1.StoredPage`: envelopes as they are stored, each closed with its server timestamp."""
    parts: list[bytes] = []
    for row in rows:
        size = len(row.envelope) + len(SERVER_TIMESTAMP_TAG) + 8
        parts += (MESSAGE_TAG, varint(size), row.envelope, SERVER_TIMESTAMP_TAG, row.server_timestamp.to_bytes(8, "little"))
    return b"".join([*parts, MORE_FIELD] if more else parts)


def varint(value: int) -> bytes:
    """A length as protobuf writes it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
