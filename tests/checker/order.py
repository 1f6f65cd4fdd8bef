"""P4 for one receiving device: what arrived first for the first time, against the order in which it was sent. Constant time per message."""

from __future__ import annotations

from tests.checker.history import Device
from tests.checker.sends import Attempt, Body
from tests.checker.violation import Violation


class Order:
    """Takes first deliveries of one device in their order and finds those that came too late.

    Relies on clients that repeat unanswered sends in their order before anything new, as the SDK does: a message's place is its first
    attempt.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._last_of_connection: dict[str, Attempt] = {}
        self._last_begun: dict[Device, Attempt] = {}

    def first_delivery(self, body: Body) -> Violation | None:
        """Judge the next message that this device sees for the first time."""
        origin = body.origin
        if origin is None or body.ephemeral:
            return None
        sender, connection = body.message.sender, origin.event.connection
        before = self._last_of_connection.get(connection)
        if before is not None and origin.event.seq < before.event.seq:
            return self._late(origin, before, "was sent before it on the same connection")
        self._last_of_connection[connection] = origin
        before = self._last_begun.get(sender)
        sent = body.message.sent
        if before is not None and sent is not None and sent[0] < before.position:
            return self._late(origin, before, "had its SENT before the other was sent")
        if before is None or origin.position > before.position:
            self._last_begun[sender] = origin
        return None

    def _late(self, late: Attempt, before: Attempt, why: str) -> Violation:
        text = f"{self._device} got {before.body.message} first, but {late.body.message} {why}"
        return Violation("P4", text, (late[:2], before[:2]))
