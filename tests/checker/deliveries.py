"""Second pass of the checker: what every device got and acknowledged, judged against what was sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.checker.history import Ack, AnyEvent, Confirmed, Connect, Deliver, Device, Disconnect, Drained, Quiescent
from tests.checker.order import Order
from tests.checker.sends import Body, Sends
from tests.checker.violation import Violation, short


class Held(NamedTuple):
    """A message still in a mailbox at the end."""

    guid: bytes
    digest: bytes


@dataclass(slots=True)
class Connection:
    """What one connection was sent and what it acknowledged."""

    device: Device
    last_tag: int = 0
    up_to: int = 0
    guid_of_tag: dict[int, bytes] = field(default_factory=dict)
    position_of_guid: dict[bytes, int] = field(default_factory=dict)
    acknowledged: list[bytes] = field(default_factory=list)  # since the last confirmation


class Rest(NamedTuple):
    """A moment at which nothing was in flight: the connection each online device had."""

    position: int
    online: dict[Device, Connection]


class Deliveries:
    """Everything delivered, with the first time and the acknowledgement of each (device, guid)."""

    def __init__(self, sends: Sends) -> None:
        self.first: dict[tuple[Device, bytes], tuple[int, Deliver]] = {}
        self.acknowledged: dict[tuple[Device, bytes], int] = {}
        self.rests: list[Rest] = []
        self.violations: list[Violation] = []
        self._sends = sends
        self._connections: dict[str, Connection] = {}
        self._online: dict[Device, Connection] = {}
        self._confirmed: dict[tuple[Device, bytes], int] = {}
        self._orders: dict[Device, Order] = {}

    def read(self, events: Iterable[AnyEvent]) -> None:
        """Take in a whole history after `Sends` has."""
        for position, event in enumerate(events):
            match event:
                case Connect():
                    self._connections[event.connection] = self._online[event.device] = Connection(event.device)
                case Disconnect():
                    connection = self._connections[event.connection]
                    if self._online.get(connection.device) is connection:
                        del self._online[connection.device]
                case Deliver():
                    self._deliver(position, event)
                case Ack():
                    self._ack(position, event)
                case Confirmed():
                    connection = self._connections[event.connection]
                    self._confirmed.update(((connection.device, guid), position) for guid in connection.acknowledged)
                    connection.acknowledged.clear()
                case Drained():
                    self._drained(position, event)
                case Quiescent():
                    self.rests.append(Rest(position, dict(self._online)))

    def held_at_the_end(self, device: Device, held: Held) -> None:
        """Take in one message found in a mailbox at the end, in the mailbox's order."""
        if (device, held.guid) in self._confirmed:
            self._broken("P2", f"{short(held.guid)} is still held for {device}, which had acknowledged it and was told so")
        body = self._identify(device, held.guid, held.digest, ())
        if body is not None and (device, held.guid) not in self.first:
            self._in_order(device, body)

    def _deliver(self, position: int, event: Deliver) -> None:
        connection = self._connections[event.connection]
        device, here = connection.device, (position, event)
        if event.tag:
            if event.tag != connection.last_tag + 1:
                self._broken("P4", f"tag {event.tag} on {event.connection} after tag {connection.last_tag}", here)
            connection.last_tag = event.tag
            connection.guid_of_tag[event.tag] = event.guid
        if event.guid in connection.position_of_guid:
            self._broken("P3", f"{short(event.guid)} came twice on one connection of {device}", here)
        connection.position_of_guid[event.guid] = position
        if (device, event.guid) in self._confirmed:
            self._broken("P3", f"{short(event.guid)} came again to {device}, which had acknowledged it and was told so", here)
        body = self._identify(device, event.guid, event.digest, (here,))
        if body is not None:
            self._compare(body, event, here)
            if (device, event.guid) not in self.first:
                self._in_order(device, body)
        self.first.setdefault((device, event.guid), here)

    def _ack(self, position: int, event: Ack) -> None:
        connection = self._connections[event.connection]
        named = [connection.guid_of_tag[tag] for tag in event.tags if tag in connection.guid_of_tag]
        named += [guid for guid in event.guids if guid in connection.position_of_guid]
        last = min(event.up_to, connection.last_tag)
        named += [connection.guid_of_tag[tag] for tag in range(connection.up_to + 1, last + 1) if tag in connection.guid_of_tag]
        connection.up_to = max(connection.up_to, last)
        connection.acknowledged += named
        for guid in named:
            self.acknowledged.setdefault((connection.device, guid), position)

    def _drained(self, position: int, event: Drained) -> None:
        last = self._connections[event.connection].last_tag
        if event.tag > last:
            self._broken("P4", f"drained names tag {event.tag}, but tag {last} was the last that came", (position, event))

    def _identify(self, device: Device, guid: bytes, digest: bytes, here: tuple[tuple[int, AnyEvent], ...]) -> Body | None:
        """The body this is, or None after telling what is wrong with it."""
        message = self._sends.by_guid.get(guid)
        if message is None or message.body is None:
            return self._identify_by_content(device, guid, digest, here)
        if not message.body.addresses(device):
            self._broken("P2", f"{device} got {message}, which was not for it", *here)
            return None
        if message.body.contents[device.number] != digest:
            self._broken("P2", f"{message} reached {device} with another content", *here)
            return None
        return message.body

    def _identify_by_content(self, device: Device, guid: bytes, digest: bytes, here: tuple[tuple[int, AnyEvent], ...]) -> Body | None:
        """The same for a guid that no SENT named: its answer was lost, or something is wrong."""
        candidates = self._sends.by_content.get((device, digest), [])
        for body in candidates:
            if body.message.guid == guid:
                return body
        for body in candidates:
            if body.message.guid is None and body.may_exist():
                body.message.guid = guid
                return body
        known = candidates[0] if candidates else self._sends.digests.get(digest)
        if known is None:
            self._broken("P2", f"{device} got what nobody sent", *here)
        elif not candidates:
            self._broken("P2", f"{device} got {known.message}, which was not for it", *here)
        elif known.message.guid is not None:
            self._broken("P3", f"{device} got {known.message} under two guids", *here)
        else:
            refusal = (known.refused,) if known.refused else ()
            self._broken("P2", f"{device} got {known.message}, which was refused", *refusal, *here)
        return None

    def _compare(self, body: Body, event: Deliver, here: tuple[int, Deliver]) -> None:
        message = body.message
        if event.source is not None and event.source != message.sender:
            self._broken("P2", f"{message} came as if from {event.source}", here)
        if event.destination is not None and not body.addresses(event.destination):
            self._broken("P2", f"{message} came as if for {event.destination}", here)
        if event.server_timestamp and message.sent is not None and message.sent[1].server_timestamp not in (0, event.server_timestamp):
            self._broken("P3", f"{message} has another time than its SENT", message.sent, here)

    def _in_order(self, device: Device, body: Body) -> None:
        violation = self._orders.setdefault(device, Order(device)).first_delivery(body)
        if violation is not None:
            self.violations.append(violation)

    def _broken(self, promise: str, text: str, *events: tuple[int, AnyEvent]) -> None:
        self.violations.append(Violation(promise, text, events))
