"""What all connections of a worker share."""

import asyncio

from veredus.core.clock import Clock
from veredus.core.limits import Limits
from veredus.ext.partial import Budget

class Station:
    """Read buffer, budget of half-received messages, flusher, sweep and counters of one event loop. Made by wiring.

    `closings`: catalogue number to close code and reason in UTF-8; `endings`: the numbers that close a connection by themselves.
    """

    loop: asyncio.AbstractEventLoop
    budget: Budget
    refused: dict[int, int]  # catalogue number: connections and upgrades it ended

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        clock: Clock,
        closings: dict[int, tuple[int, bytes]],
        endings: frozenset[int],
    ) -> None: ...
    @property
    def open(self) -> int:
        """Connections now, those that are closing included."""
    @property
    def now(self) -> float:
        """The clock at the last sweep."""
    def start(self, interval: float = 1.0) -> None:
        """Sweep every `interval` seconds from now on."""
    def stop(self) -> None:
        """Sweep no more."""
    def sweep(self) -> None:
        """Look at every connection once: heartbeat (CON-19), messages begun and not ended, closing handshakes that do not end."""
    def close_all(self, code: int, reconnect_within_ms: int = 0) -> None:
        """Give notice on every connection, each with another delay, and close it by the catalogue."""
    def abort_all(self) -> None:
        """Drop every connection now."""
    def count_refusal(self, code: int) -> None:
        """Count an upgrade that got another answer."""
    def counters(self) -> dict[str, int]:
        """Totals since the start by name: open, opened, messages, reads, writes, pongs_dropped, faults, partial_bytes, partial_refused."""
