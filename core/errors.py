"""The error catalogue: every refusal a client, an operator or an engineer can meet, in one table.

Edges translate from here and invent nothing. `code` travels in protobuf frames and JSON bodies, `http_status` over HTTP, `close_code` when
the connection cannot go on (4000 + the HTTP status that fits, RFC 6455's own number where it defines one).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Code(IntEnum):
    """Numbers of the catalogue. Append only: clients know them."""

    OK = 0
    MALFORMED_FRAME = 1
    UNSUPPORTED_DATA = 2
    UNAUTHENTICATED = 3
    FORBIDDEN = 4
    INVALID_CLIENT_ID = 5
    INVALID_DESTINATION = 6
    UNKNOWN_RECIPIENT = 7
    TOO_LARGE = 8
    DEVICES_MISMATCH = 9
    DEVICES_STALE = 10
    IDEMPOTENCY_MISMATCH = 11
    BUSY = 12
    RATE_LIMITED = 13
    UNAVAILABLE = 14
    RESULT_UNKNOWN = 15
    REPLACED = 16
    SHUTTING_DOWN = 17
    UNKNOWN_DELIVERY = 18
    TIMEOUT = 19
    INTERNAL = 20
    SESSION_REVOKED = 21
    MESSAGE_TOO_BIG = 22
    INVALID_TEXT = 23
    PROTOCOL_VIOLATION = 24
    NOT_FOUND = 25
    INVALID_REQUEST = 26
    INVALID_TYPE = 27
    METHOD_NOT_ALLOWED = 28


class Entry(NamedTuple):
    """What the catalogue says of a code."""

    reason: str
    retryable: bool
    http_status: int
    close_code: int | None  # None: the connection goes on


CATALOGUE: dict[Code, Entry] = {
    Code.OK: Entry("sent: committed durably", False, 200, None),
    Code.MALFORMED_FRAME: Entry("the frame is not a valid ClientFrame", False, 400, 4400),
    Code.UNSUPPORTED_DATA: Entry("this protocol takes binary messages only", False, 415, 1003),
    Code.UNAUTHENTICATED: Entry("credentials are missing or not valid", False, 401, 4401),
    Code.FORBIDDEN: Entry("this caller or origin may not do that", False, 403, 4403),
    Code.INVALID_CLIENT_ID: Entry("client_id must be 16 bytes (a UUID)", False, 422, None),
    Code.INVALID_DESTINATION: Entry("the destination must be an account id of 16 bytes with at least one device content", False, 422, None),
    Code.UNKNOWN_RECIPIENT: Entry("there is no such account", False, 404, None),
    Code.TOO_LARGE: Entry("the content or the number of devices is over the limit", False, 413, None),
    Code.DEVICES_MISMATCH: Entry("the contents do not match the devices of the account", False, 409, None),
    Code.DEVICES_STALE: Entry("a device was registered anew since", False, 410, None),
    Code.IDEMPOTENCY_MISMATCH: Entry("this client id was used for another message", False, 422, None),
    Code.BUSY: Entry("the server has no room for more right now", True, 503, None),
    Code.RATE_LIMITED: Entry("too many requests", True, 429, None),
    Code.UNAVAILABLE: Entry("the store cannot be reached", True, 503, None),
    Code.RESULT_UNKNOWN: Entry("the result is not known: reconnect and send again with the same client id", True, 503, 4503),
    Code.REPLACED: Entry("this device connected again elsewhere", False, 409, 4409),
    Code.SHUTTING_DOWN: Entry("the server is going away: reconnect", True, 503, 1012),
    Code.UNKNOWN_DELIVERY: Entry("this connection was not sent what it acknowledged", False, 422, None),
    Code.TIMEOUT: Entry("nothing came in time", True, 408, 4408),
    Code.INTERNAL: Entry("a fault of the server", True, 500, 1011),
    Code.SESSION_REVOKED: Entry("the credentials of this connection were revoked", False, 401, 4401),
    Code.MESSAGE_TOO_BIG: Entry("the message is over the limit", False, 413, 1009),
    Code.INVALID_TEXT: Entry("text must be UTF-8", False, 400, 1007),
    Code.PROTOCOL_VIOLATION: Entry("this is not WebSocket as RFC 6455 has it", False, 400, 1002),
    Code.NOT_FOUND: Entry("there is nothing by that name", False, 404, None),
    Code.INVALID_REQUEST: Entry("the request does not have the form it should", False, 422, None),
    Code.INVALID_TYPE: Entry("clients cannot send this type of envelope, or sealed ones beside others", False, 422, None),
    Code.METHOD_NOT_ALLOWED: Entry("not a method of this resource", False, 405, None),
}


class VeredusError(Exception):
    """A refusal of the catalogue. Its text never holds content, secrets or numbers of phones.

    `detail` adds what helps the caller (field names, limits); `retry_after_ms` is set for retryable codes.
    """

    def __init__(self, code: Code, detail: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(f"{code.name}: {detail or CATALOGUE[code].reason}")
        self.code = code
        self.detail = detail or CATALOGUE[code].reason
        self.retry_after_ms = retry_after_ms

    @property
    def entry(self) -> Entry:
        return CATALOGUE[self.code]


class PeerError(VeredusError):
    """The peer's fault: never logged with a traceback."""


class StoreUnavailable(VeredusError):
    """The store refused or dropped the connection before the statement began: nothing happened."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Code.UNAVAILABLE, detail, retry_after_ms=1000)


class ResultUnknown(VeredusError):
    """The connection to the store was lost, or the deadline passed, after the statement began: it may have been committed."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(Code.RESULT_UNKNOWN, detail, retry_after_ms=1000)
