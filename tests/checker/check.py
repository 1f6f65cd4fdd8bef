"""`check`: proves P1 to P5 on a recorded history, or says where they were broken. Linear time in the events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from tests.checker.deliveries import Deliveries, Held, Rest
from tests.checker.history import AnyEvent, Device, Sent
from tests.checker.sends import Message, Sends
from tests.checker.violation import Violation

__all__ = ["Held", "Violation", "check"]


def check(history: Iterable[AnyEvent], final: Mapping[Device, Sequence[Held]]) -> list[Violation]:
    """Every broken promise of a history, none when all were kept.

    `final` is what each mailbox still held at the end, in its order; a device that is not in it held nothing. What a final drain
    delivered and acknowledged belongs into the history instead. One client id may have several bodies, but on one connection no two
    of them may wait for an answer at once.
    """
    events = list(history)
    sends = Sends()
    sends.read(events)
    deliveries = Deliveries(sends)
    deliveries.read(events)
    for device, mailbox in final.items():
        for held in mailbox:
            deliveries.held_at_the_end(device, held)
    kept = {(device, held.guid) for device, mailbox in final.items() for held in mailbox}
    lost: list[Violation] = []
    for message in sends.messages.values():
        if message.sent is not None and message.body is not None and not message.body.ephemeral:
            for number in message.body.contents:
                device = Device(message.body.destination, number)
                lost += _judge(message, message.sent, device, deliveries, (device, message.sent[1].guid) in kept)
    return sends.violations + deliveries.violations + lost


def _judge(message: Message, sent: tuple[int, Sent], device: Device, deliveries: Deliveries, kept: bool) -> list[Violation]:
    """P2 and P5 for one acknowledged message and one of its devices."""
    key = (device, sent[1].guid)
    found: list[Violation] = []
    first = deliveries.first.get(key)
    if not kept and key not in deliveries.acknowledged:
        if first is None:
            found.append(Violation("P2", f"{message} was acknowledged to its sender, but {device} never got it and it is gone", (sent,)))
        else:
            found.append(Violation("P2", f"{message} is gone, but {device} had not acknowledged it", (sent, first)))
    rest = _first_rest_after(deliveries.rests, sent[0])
    if rest is not None and not _had(rest, key, deliveries):
        found.append(Violation("P5", f"{device} was online and idle at #{rest.position} without having got {message}", (sent,)))
    return found


def _first_rest_after(rests: Sequence[Rest], position: int) -> Rest | None:
    index = bisect_left(rests, position, key=attrgetter("position"))
    return rests[index] if index < len(rests) else None


def _had(rest: Rest, key: tuple[Device, bytes], deliveries: Deliveries) -> bool:
    """At a rest an online device has acknowledged a message, or was sent it on the connection it has."""
    connection = rest.online.get(key[0])
    if connection is None or deliveries.acknowledged.get(key, rest.position) < rest.position:
        return True
    return connection.position_of_guid.get(key[1], rest.position) < rest.position
