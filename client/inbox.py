"""Messages that came: which were seen before, which are acknowledged, and the fewest words that say so. No I/O.

A repeat after a reconnect is never shown twice: if the message was acknowledged, the repeat is acknowledged at once; if it is still with
the application, its acknowledgement goes to the new connection. Memory is bounded: unacknowledged messages by the server's window,
acknowledged guids by `remembered`; a repeat of something older than that would be shown again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from veredus.client.model import Message
from veredus.ext.frames import Delivery


class Acknowledgement(NamedTuple):
    """Everything up to `up_to`, and the single `tags` beyond it."""

    tags: tuple[int, ...]
    up_to: int


class Inbox:
    """Deliveries of one client over all its connections. Calls `changed` when there is something to `take`."""

    def __init__(self, remembered: int, changed: Callable[[], None]) -> None:
        self._remembered = remembered
        self._changed = changed
        self._waiting: dict[bytes, Message] = {}
        self._done: dict[bytes, None] = {}
        self._tags: dict[bytes, int] = {}
        self._low = 0  # every tag up to it is acknowledged
        self._low_told = 0
        self._beyond: set[int] = set()  # acknowledged tags above it
        self._fresh: list[int] = []  # those not told yet

    def connected(self) -> None:
        """Tags begin anew; what was not told is told again when it is delivered again."""
        self._tags.clear()
        self._beyond.clear()
        self._fresh.clear()
        self._low = self._low_told = 0

    def deliver(self, delivery: Delivery) -> Message | None:
        """Take in a delivery. None: the application has seen it already."""
        envelope = delivery.envelope
        if delivery.tag == 0:
            return Message(envelope, _nothing_to_acknowledge)
        if envelope.guid in self._done:
            self._mark(delivery.tag)
            return None
        self._tags[envelope.guid] = delivery.tag
        if envelope.guid in self._waiting:
            return None
        message = self._waiting[envelope.guid] = Message(envelope, self._acknowledge)
        return message

    def take(self) -> Acknowledgement | None:
        """What to tell the server now; None when it knows everything."""
        tags = tuple(tag for tag in self._fresh if tag > self._low)
        up_to = self._low if self._low > self._low_told else 0
        self._fresh.clear()
        self._low_told = self._low
        return Acknowledgement(tags, up_to) if tags or up_to else None

    def _acknowledge(self, message: Message) -> None:
        guid = message.guid.bytes
        if self._waiting.pop(guid, None) is None:
            return
        self._done[guid] = None
        if len(self._done) > self._remembered:
            del self._done[next(iter(self._done))]
        tag = self._tags.pop(guid, None)
        if tag is not None:
            self._mark(tag)

    def _mark(self, tag: int) -> None:
        self._beyond.add(tag)
        self._fresh.append(tag)
        while self._low + 1 in self._beyond:
            self._low += 1
            self._beyond.remove(self._low)
        self._changed()


def _nothing_to_acknowledge(message: Message) -> None:
    """Ephemeral messages are stored nowhere."""
