"""When to try again: exponential, jittered, never sooner than the server asked for. Draws numbers, reads no clock."""

from __future__ import annotations

import random


class Backoff:
    """Delays before reconnects. Jitter takes up to half away, so that clients that were cut off together do not come back together."""

    def __init__(self, first_seconds: float, most_seconds: float) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._attempt = 0

    def succeeded(self) -> None:
        """The connection proved itself: begin anew."""
        self._attempt = 0

    def delay(self, asked_ms: int = 0) -> float:
        """Seconds until the next attempt. `asked_ms` is what the server named; it differs from client to client already."""
        most = min(self._most, self._first * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return max(random.uniform(most / 2, most), asked_ms / 1000)
