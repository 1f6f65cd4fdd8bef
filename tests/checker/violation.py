"""A broken promise, in words and with the events that show it."""

from __future__ import annotations

from typing import NamedTuple

from tests.checker.history import AnyEvent


class Violation(NamedTuple):
    """`promise` is P1 to P5 of the design; `text` says what happened; `events` are (position in the history, event)."""

    promise: str
    text: str
    events: tuple[tuple[int, AnyEvent], ...] = ()

    def __str__(self) -> str:
        shown = "".join(f"\n    #{position} {event!r}" for position, event in self.events)
        return f"{self.promise}: {self.text}{shown}"


def short(identifier: bytes) -> str:
    """An id as shown in a violation."""
    return identifier.hex()[:8]
