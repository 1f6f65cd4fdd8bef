"""The SDK's nouns: credentials, what goes out, what comes in. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

import msgspec

from veredus.core.limits import Limits
from veredus.core.model import EnvelopeType
from veredus.ext.frames import Envelope


class Credentials(NamedTuple):
    """Who connects. The password does not show in `repr`."""

    account: UUID
    device: int
    password: str

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """From `UUID.DEVICE:PASSWORD`, as `veredus account create` prints it; without `.DEVICE` it is device 1. Raises ValueError."""
        name, colon, password = text.partition(":")
        account, _, device = name.partition(".")
        if not colon or not password:
            raise ValueError("credentials have the form UUID.DEVICE:PASSWORD")
        return cls(UUID(account), int(device or "1"), password)

    def authorization(self) -> str:
        """The value of the Authorization header."""
        pair = f"{self.account}.{self.device}:{self.password}"
        return "Basic " + base64.b64encode(pair.encode()).decode("ascii")

    def __repr__(self) -> str:
        return f"Credentials({self.account}.{self.device})"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What may be tuned. Seconds, bytes, counts."""

    window: int = 16  # sends without an answer: 16 keep a commit of the server filling while another runs
    text_bytes: int = 65_535  # MSG-6, CON-18
    ping_seconds: float = 25.0  # CON-19; a shorter wish of the server is followed
    message_bytes: int = Limits().message_bytes  # of one send, until a Hello names the server's limit
    connect_seconds: float = 10.0  # upgrade and Hello together; a server under load answers the upgrade within 5 s or not at all
    backoff_first_seconds: float = 1.0  # SDK-7
    backoff_most_seconds: float = 5.0  # SDK-7
    remembered_guids: int = 65_536  # acknowledged messages whose repeat is dropped: 65 full windows of the server


class Sent(NamedTuple):
    """The message is stored durably. `needs_sync`: the sender has other devices to tell."""

    guid: UUID
    server_timestamp: int
    needs_sync: bool
    client_id: UUID


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A message as it goes on the wire, the same at every attempt.

    `contents` are (device, registration id, content, type), where type 0 stands for the message's.
    """

    client_id: bytes
    destination: bytes
    type: int
    client_timestamp: int
    urgent: bool
    ephemeral: bool
    contents: tuple[tuple[int, int, bytes, int], ...]

    def size(self) -> int:
        """About the bytes it takes in a frame, never less: field headers and numbers are below 64 bytes a content, 128 a message."""
        return 128 + sum(64 + len(content) for _, _, content, _ in self.contents)

    def same_message(self, other: Draft) -> bool:
        """What the server compares for a repeat: everything but the timestamp."""
        return msgspec.structs.replace(other, client_timestamp=self.client_timestamp) == self


class Message:
    """A message that came. Hand `ack` back once it is safe with you; until then the server keeps it."""

    __slots__ = ("_acknowledge", "_envelope")

    def __init__(self, envelope: Envelope, acknowledge: Callable[[Message], None]) -> None:
        self._envelope = envelope
        self._acknowledge = acknowledge

    @property
    def guid(self) -> UUID:
        """The server's name for the message, the same at every delivery."""
        return UUID(bytes=self._envelope.guid)

    @property
    def source(self) -> UUID | None:
        """The sender; None for a sealed message, whose sender is inside the ciphertext."""
        account = self._envelope.source_account
        return UUID(bytes=account) if account else None

    @property
    def source_device(self) -> int:
        """The sender's device; 0 for a sealed message."""
        return self._envelope.source_device

    @property
    def type(self) -> EnvelopeType:
        """UNKNOWN for a type that this version does not know."""
        number = self._envelope.type
        return EnvelopeType(number) if number in EnvelopeType._value2member_map_ else EnvelopeType.UNKNOWN

    @property
    def content(self) -> bytes:
        return self._envelope.content

    @property
    def text(self) -> str:
        """The content as text; bytes that are not UTF-8 show as U+FFFD."""
        return self._envelope.content.decode("utf-8", "replace")

    @property
    def client_timestamp(self) -> int:
        """ms since 1970 as the sender wrote it: to show, not to order by."""
        return self._envelope.client_timestamp

    @property
    def server_timestamp(self) -> int:
        """ms since 1970 when the server stored it."""
        return self._envelope.server_timestamp

    @property
    def urgent(self) -> bool:
        return self._envelope.urgent

    @property
    def ephemeral(self) -> bool:
        return self._envelope.ephemeral

    async def ack(self) -> None:
        """Tell the server that it may forget the message. Leaves with the next write; lost with a connection, it is told again at the
        repeat that follows, which you do not see. Safe to call twice."""
        self._acknowledge(self)

    def __repr__(self) -> str:
        return f"Message({self.guid})"
