"""The codec of `proto/veredus/v1`: parses frames from memory it does not own, copies each content once."""

from collections.abc import Iterable, Mapping
from typing import Never, Self, final

REFUSALS: Mapping[str, int]
"""The codes this module gives, by their names in the error catalogue."""

@final
class Identity:
    """Who sends on a connection, with the limits that hold for him. Immutable; `ext/link` makes one per connection.

    ValueError: `account` is not 16 bytes, or `max_devices` not 1 to 128.
    """

    def __new__(cls, account: bytes, device: int, max_content_bytes: int, max_devices: int) -> Self: ...
    @property
    def account(self) -> bytes: ...
    @property
    def device(self) -> int: ...
    @property
    def max_content_bytes(self) -> int: ...
    @property
    def max_devices(self) -> int: ...

@final
class Send:
    """One message as a client sent it, checked for form. Immutable.

    A refused send (`code` is not 0) has its ids, cut to 64 bytes when longer, and its scalar fields; the rest is empty.
    """

    def __init__(self, *args: Never, **kwargs: Never) -> None:
        """TypeError: a Send comes from a parsed frame or from `build`."""

    @property
    def client_id(self) -> bytes:
        """As sent; 16 bytes when `code` is 0."""
    @property
    def destination(self) -> bytes:
        """Account UUID, 16 bytes when `code` is 0."""
    @property
    def type(self) -> int:
        """As sent: of the contents that name none themselves; 0 when each does. What a device gets is in its envelope."""
    @property
    def sealed(self) -> bool:
        """Every content's type is SEALED (else none's is); false when `code` is not 0."""
    @property
    def client_timestamp(self) -> int: ...
    @property
    def urgent(self) -> bool: ...
    @property
    def ephemeral(self) -> bool: ...
    @property
    def digest(self) -> bytes:
        """16 bytes: what a repeat must equal (destination, flags, and by device registration, type and content; not the timestamp).

        A content's type counts, not where it stood: one type in the send is the same as that type in each content.
        """
    @property
    def guid(self) -> bytes:
        """16 bytes (a random UUID, version 4), drawn by the server when the send was parsed."""
    @property
    def devices(self) -> tuple[int, ...]:
        """Destination device numbers in the sender's order: 1 to 2^31-1, none twice."""
    @property
    def registration_ids(self) -> tuple[int, ...]:
        """Parallel to devices; 0: not checked."""
    @property
    def envelopes(self) -> tuple[bytes, ...]:
        """Parallel to devices: encoded Envelope without server_timestamp."""
    @property
    def size(self) -> int:
        """Bytes charged to budgets: the envelopes and the objects around them."""
    @property
    def code(self) -> int:
        """0, or a number of the error catalogue: this send is to be refused (the frame is fine).

        The first that applies: INVALID_CLIENT_ID; INVALID_DESTINATION (account, or no contents); TOO_LARGE (too many contents);
        INVALID_TYPE (one that clients cannot send, a content without any, or SEALED for some contents only); INVALID_DESTINATION (a
        device 0, above 2^31-1 or twice); TOO_LARGE (a content).
        """

    @staticmethod
    def build(
        source_account: bytes,
        source_device: int,
        client_id: bytes,
        destination: bytes,
        type: int,
        client_timestamp: int,
        urgent: bool,
        ephemeral: bool,
        contents: Iterable[tuple[int, int, bytes] | tuple[int, int, bytes, int]],
        max_content_bytes: int,
        max_devices: int,
    ) -> Send:
        """The same object from values, for HTTP and tests: `contents` are (device, registration id, content), and a type if they have one.

        OverflowError: a number does not fit its field (uint32 devices and registration ids, uint64 timestamp, int32 types).
        """

@final
class Inbound:
    """What one socket read brought: the items of all its client frames, in order of arrival."""

    ack_up_to: int
    """0: none; else the largest."""
    resume: bool
    sync: bool
    malformed: bool
    """A frame did not parse; nothing of it is here, frames before it stand."""

    def __init__(self) -> None: ...
    @property
    def sends(self) -> list[Send]: ...
    @property
    def ack_tags(self) -> list[int]: ...
    @property
    def ack_guids(self) -> list[bytes]:
        """16 bytes each."""

def parse_client_frame(data: bytes, source_account: bytes, source_device: int, max_content_bytes: int, max_devices: int) -> Inbound:
    """Parse one ClientFrame. Malformed bytes set `malformed`; nothing of the input raises.

    Malformed is what the official protobuf runtime refuses, and besides: a guid that is not 16 bytes, more than 4,096 sends, more than
    65,536 acknowledged tags and guids.
    """
