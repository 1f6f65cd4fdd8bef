"""A hook that sees every step of a client before the next one is taken: for histories, counters and terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veredus.client.model import Draft
    from veredus.ext.frames import Delivery, Hello, SendResult


class Observer:
    """Override what you need. Connections count 1, 2, 3… for one client. Nothing here may raise."""

    def waiting(self, reason: str, seconds: float) -> None:
        """There is no connection; the next try is in so many seconds."""

    def connected(self, connection: int, hello: Hello) -> None:
        """Hello came: nothing else of this connection was seen yet."""

    def sending(self, connection: int, seq: int, draft: Draft) -> None:
        """The draft is about to leave as number `seq` of this connection, perhaps not for the first time."""

    def resuming(self, connection: int) -> None:
        """Resume is about to leave: what was refused follows again."""

    def answered(self, connection: int, result: SendResult) -> None:
        """An answer came; whoever waits for it does not know yet."""

    def delivered(self, connection: int, delivery: Delivery) -> None:
        """A delivery came, perhaps a repeat that nobody will be shown."""

    def acknowledging(self, connection: int, tags: tuple[int, ...], up_to: int) -> None:
        """An acknowledgement is about to leave."""

    def drained(self, connection: int, tag: int) -> None:
        """Drained came."""

    def disconnected(self, connection: int) -> None:
        """The connection is over; what it had not answered stays unanswered."""
