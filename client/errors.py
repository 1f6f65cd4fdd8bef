"""What the SDK raises, typed by the code of the catalogue.

    VeredusError
    ├── SendRefused              a final refusal of one message; nothing of it was stored
    │   ├── DevicesMismatch      .missing, .extra: encrypt for these, leave those out, send again
    │   ├── DevicesStale         .stale: these registered anew, build new sessions, send again
    │   ├── IdempotencyMismatch  this client id was used for another message
    │   ├── UnknownRecipient
    │   └── TooLarge
    └── ConnectionRefused        the server will not have this client; trying again would not help
    ClientClosed                 the client was closed; what it had not heard of may or may not have been sent

Refusals that are worth a repeat never come this far: the SDK waits and sends again in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veredus.core.errors import CATALOGUE, Code, PeerError

if TYPE_CHECKING:
    from veredus.ext.frames import SendResult


class SendRefused(PeerError):
    """The server refused a message for good, or the SDK knew that it would."""


class DevicesMismatch(SendRefused):
    """The contents do not match the recipient's devices: `missing` have none, `extra` do not exist."""

    def __init__(self, missing: tuple[int, ...], extra: tuple[int, ...]) -> None:
        super().__init__(Code.DEVICES_MISMATCH)
        self.missing = missing
        self.extra = extra


class DevicesStale(SendRefused):
    """The contents for the devices in `stale` were made for an earlier registration of them."""

    def __init__(self, stale: tuple[int, ...]) -> None:
        super().__init__(Code.DEVICES_STALE)
        self.stale = stale


class IdempotencyMismatch(SendRefused):
    """The client id names another message already."""


class UnknownRecipient(SendRefused):
    """There is no such account."""


class TooLarge(SendRefused):
    """A content is over the limit of the server (`Hello`), or a text over the limit of the SDK."""


class ConnectionRefused(PeerError):
    """The server ended the connection, or did not begin it, for a reason that a reconnect would meet again."""


class ClientClosed(Exception):
    """The client was closed."""


_REFUSALS: dict[Code, type[SendRefused]] = {
    Code.IDEMPOTENCY_MISMATCH: IdempotencyMismatch,
    Code.UNKNOWN_RECIPIENT: UnknownRecipient,
    Code.TOO_LARGE: TooLarge,
}


def code_of(number: int) -> Code:
    """A number from the wire; one that this version does not know counts as INTERNAL."""
    return Code(number) if number in CATALOGUE else Code.INTERNAL


def refusal(result: SendResult) -> SendRefused:
    """The error for a result that is final."""
    code = code_of(result.code)
    if code is Code.DEVICES_MISMATCH:
        return DevicesMismatch(result.missing_devices, result.extra_devices)
    if code is Code.DEVICES_STALE:
        return DevicesStale(result.stale_devices)
    return _REFUSALS.get(code, SendRefused)(code)
