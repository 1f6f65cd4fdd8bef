"""First pass of the checker: what was sent and how it was answered. Judges P3 as far as answers show it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.checker.history import AnyEvent, Connect, Device, Refused, Send, Sent
from tests.checker.violation import Violation, short
from veredus.core.errors import CATALOGUE, Code

# Refusals after which the message may exist all the same: the fault can lie behind the commit.
UNCERTAIN = frozenset({Code.RESULT_UNKNOWN, Code.INTERNAL, Code.TIMEOUT, Code.SHUTTING_DOWN})


class Attempt(NamedTuple):
    """One Send on one connection."""

    position: int
    event: Send
    body: Body


@dataclass(slots=True, eq=False)
class Body:
    """One content of one client id. `origin`, the first attempt that no final refusal ended, says where the message stands in order."""

    message: Message
    destination: bytes
    contents: dict[int, bytes]
    form: str
    ephemeral: bool
    origin: Attempt | None = None
    open_attempts: int = 0
    uncertain: bool = False
    refused: tuple[int, Refused] | None = None

    def addresses(self, device: Device) -> bool:
        return device.account == self.destination and device.number in self.contents

    def may_exist(self) -> bool:
        return self.message.body is self or self.uncertain or self.open_attempts > 0


@dataclass(slots=True, eq=False)
class Message:
    """What one sender called by one client id. `sent` is the first SENT and `body` what it was for."""

    sender: Device
    client_id: bytes
    bodies: list[Body] = field(default_factory=list)
    sent: tuple[int, Sent] | None = None
    body: Body | None = None
    guid: bytes | None = None

    def __str__(self) -> str:
        return f"message {short(self.client_id)} of {self.sender}"

    def body_of(self, event: Send) -> Body:
        contents = dict(event.contents)
        for body in self.bodies:
            if (body.contents, body.destination, body.form) == (contents, event.destination, event.form):
                return body
        body = Body(self, event.destination, contents, event.form, event.ephemeral)
        self.bodies.append(body)
        return body


class Sends:
    """Everything sent, indexed for the second pass by guid and by what a device could get."""

    def __init__(self) -> None:
        self.messages: dict[tuple[Device, bytes], Message] = {}
        self.by_guid: dict[bytes, Message] = {}
        self.by_content: dict[tuple[Device, bytes], list[Body]] = defaultdict(list)
        self.digests: dict[bytes, Body] = {}
        self.violations: list[Violation] = []
        self._device: dict[str, Device] = {}
        self._open: dict[tuple[str, bytes], deque[Attempt]] = defaultdict(deque)

    def read(self, events: Iterable[AnyEvent]) -> None:
        """Take in a whole history. Raises `KeyError` when an event names a connection that never connected."""
        for position, event in enumerate(events):
            if isinstance(event, Connect):
                self._device[event.connection] = event.device
            elif isinstance(event, Send):
                self._send(position, event)
            elif isinstance(event, Sent):
                self._sent(position, event)
            elif isinstance(event, Refused):
                self._refused(position, event)

    def _send(self, position: int, event: Send) -> None:
        key = (self._device[event.connection], event.client_id)
        message = self.messages.get(key)
        if message is None:
            message = self.messages[key] = Message(*key)
        known = len(message.bodies)
        body = message.body_of(event)
        if len(message.bodies) > known:
            for number, digest in event.contents:
                self.by_content[Device(event.destination, number), digest].append(body)
                self.digests[digest] = body
        attempt = Attempt(position, event, body)
        body.origin = body.origin or attempt
        body.open_attempts += 1
        self._open[event.connection, event.client_id].append(attempt)

    def _close_attempt(self, position: int, event: Sent | Refused) -> Attempt | None:
        waiting = self._open.get((event.connection, event.client_id))
        if not waiting:
            self._broken("P3", f"an answer to {short(event.client_id)}, which this connection did not send", (position, event))
            return None
        attempt = waiting.popleft()
        attempt.body.open_attempts -= 1
        return attempt

    def _sent(self, position: int, event: Sent) -> None:
        attempt = self._close_attempt(position, event)
        if attempt is None:
            return
        message = attempt.body.message
        if message.sent is None or message.body is None:
            message.sent, message.body, message.guid = (position, event), attempt.body, event.guid
            other = self.by_guid.setdefault(event.guid, message)
            if other is not message:
                self._broken("P3", f"{message} and {other} were given one guid", (position, event))
            return
        if message.body is not attempt.body:
            self._broken("P3", f"another body of {message} was accepted", message.sent, attempt[:2], (position, event))
        first = message.sent[1]
        if (first.guid, first.server_timestamp, first.needs_sync) != (event.guid, event.server_timestamp, event.needs_sync):
            self._broken("P3", f"a repeat of {message} got another answer", message.sent, (position, event))

    def _refused(self, position: int, event: Refused) -> None:
        attempt = self._close_attempt(position, event)
        if attempt is None:
            return
        body, message = attempt.body, attempt.body.message
        code = Code(event.code)
        if code in UNCERTAIN:
            body.uncertain = True
            return
        body.refused = (position, event)
        if code is Code.IDEMPOTENCY_MISMATCH and len(message.bodies) == 1:
            self._broken("P3", f"{message} was refused as another body, but it has only one", attempt[:2], (position, event))
        if CATALOGUE[code].retryable:
            return
        if message.sent is None:
            body.origin = None
        elif message.body is body:
            self._broken("P3", f"a repeat of {message} was refused after SENT", message.sent, (position, event))

    def _broken(self, promise: str, text: str, *events: tuple[int, AnyEvent]) -> None:
        self.violations.append(Violation(promise, text, events))
