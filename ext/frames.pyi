"""Server frames, both ways, and the frames a client sends: the codec of `proto/veredus/v1/frames.proto` beside `ext/envelope`."""

from collections.abc import Iterable
from typing import final

@final
class FrameWriter:
    """A ServerFrame that grows item by item.

    A put either adds a whole item or raises and adds nothing: MemoryError, or TypeError, OverflowError and UnicodeEncodeError on values
    that do not fit their field. Holds no memory until the first put.
    """

    @property
    def size(self) -> int:
        """Bytes of the frame so far."""
    def put_hello(
        self,
        store_epoch: bytes,
        account: bytes,
        device: int,
        server_timestamp: int,
        max_content_bytes: int,
        max_message_bytes: int,
        max_devices: int,
        window: int,
        ping_interval_ms: int,
    ) -> int: ...
    def put_sent(self, client_id: bytes, guid: bytes, server_timestamp: int, needs_sync: bool) -> int:
        """A SendResult with code 0."""
    def put_reply(self, reply: object) -> int:
        """A SendResult from a `veredus.core.model.Reply` (or an object with its attributes)."""
    def put_delivery(self, tag: int, envelope: bytes, server_timestamp: int) -> int:
        """`envelope` is an encoded Envelope without server_timestamp, which is appended to it here."""
    def put_drained(self, tag: int) -> int: ...
    def put_error(self, code: int, reason: str, retry_after_ms: int) -> int: ...
    def put_shutdown(self, reconnect_after_ms: int) -> int: ...
    def take(self) -> bytes:
        """The frame; the writer is empty afterwards."""
    def clear(self) -> None:
        """Empty; memory above 64 KiB is given back."""
    def release(self) -> None:
        """Empty; all memory is given back."""

@final
class Envelope:
    """`veredus.v1.Envelope`; absent fields have their defaults. Immutable."""

    @property
    def type(self) -> int: ...
    @property
    def source_account(self) -> bytes: ...
    @property
    def source_device(self) -> int: ...
    @property
    def destination_account(self) -> bytes: ...
    @property
    def destination_device(self) -> int: ...
    @property
    def guid(self) -> bytes: ...
    @property
    def client_timestamp(self) -> int: ...
    @property
    def urgent(self) -> bool: ...
    @property
    def ephemeral(self) -> bool: ...
    @property
    def content(self) -> bytes: ...
    @property
    def server_timestamp(self) -> int: ...

@final
class Delivery:
    """`veredus.v1.Delivery`. Immutable."""

    @property
    def tag(self) -> int: ...
    @property
    def envelope(self) -> Envelope: ...

@final
class SendResult:
    """`veredus.v1.SendResult`: `code` 0 is SENT, else a number of the error catalogue. Immutable."""

    @property
    def client_id(self) -> bytes: ...
    @property
    def code(self) -> int: ...
    @property
    def guid(self) -> bytes: ...
    @property
    def server_timestamp(self) -> int: ...
    @property
    def needs_sync(self) -> bool: ...
    @property
    def retry_after_ms(self) -> int: ...
    @property
    def missing_devices(self) -> tuple[int, ...]: ...
    @property
    def extra_devices(self) -> tuple[int, ...]: ...
    @property
    def stale_devices(self) -> tuple[int, ...]: ...

@final
class Hello:
    """`veredus.v1.Hello`: who the client is here and which limits hold. Immutable."""

    @property
    def store_epoch(self) -> bytes: ...
    @property
    def account(self) -> bytes: ...
    @property
    def device(self) -> int: ...
    @property
    def server_timestamp(self) -> int: ...
    @property
    def max_content_bytes(self) -> int: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def max_devices(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def ping_interval_ms(self) -> int: ...

@final
class Notice:
    """`veredus.v1.Error`: a fault that belongs to no send. Immutable."""

    @property
    def code(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def retry_after_ms(self) -> int: ...

@final
class ServerInbound:
    """The items of one ServerFrame, each kind in order; to be handled in the order of these attributes."""

    @property
    def hello(self) -> Hello | None: ...
    @property
    def results(self) -> list[SendResult]: ...
    @property
    def deliveries(self) -> list[Delivery]: ...
    @property
    def drained(self) -> int | None:
        """The last delivery tag used so far; None when the frame says nothing of it."""
    @property
    def errors(self) -> list[Notice]: ...
    @property
    def shutdown(self) -> int | None:
        """Milliseconds to wait before coming back; None when the server goes on."""
    @property
    def malformed(self) -> bool:
        """The bytes are not a ServerFrame (or hold more than 65,536 items); nothing of them is here."""

def parse_server_frame(data: bytes) -> ServerInbound:
    """Parse one ServerFrame. Malformed bytes set `malformed`; raises MemoryError only."""

def parse_envelope(encoded: bytes) -> Envelope | None:
    """Parse an encoded Envelope, with or without server_timestamp. None: malformed."""

def encode_send(
    client_id: bytes,
    destination: bytes,
    type: int,
    client_timestamp: int,
    urgent: bool,
    ephemeral: bool,
    contents: Iterable[tuple[int, int, bytes] | tuple[int, int, bytes, int]],
) -> bytes:
    """A ClientFrame with one Send; `contents` are (device, registration id, content), and a type where it is not the send's.

    Checks nothing but that numbers fit their fields (OverflowError): the server judges. Frames joined with `b"".join` are one frame.
    """

def encode_ack(tags: Iterable[int] = (), guids: Iterable[bytes] = (), up_to: int = 0) -> bytes:
    """A ClientFrame with one Ack. The server takes at most 65,536 tags and guids a frame, each guid 16 bytes."""

def encode_sync() -> bytes:
    """A ClientFrame that asks for what is stored."""

def encode_resume() -> bytes:
    """A ClientFrame that opens the connection for sends again after a retryable refusal."""
