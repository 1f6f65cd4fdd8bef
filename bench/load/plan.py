"""What a load test is to do, and what its two kinds of processes say to each other. Plain values; no behaviour.

The leading process gives each generator process an `Order` as one JSON line on its standard input, then `start`, `begin`, `end` and
`finish` as lines of their own; the generator answers with `Report` lines. `progress` comes between `begun` and `ended`, which a workload
with an end of its own says unasked. Credentials travel there, and never in arguments, which other users can read.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Workload = Literal["identified", "sealed", "drain", "connect", "idle"]
WORKLOADS: tuple[Workload, ...] = ("identified", "sealed", "drain", "connect", "idle")


class Account(msgspec.Struct, frozen=True):
    """Who a simulated device is: device 1 of an account."""

    uuid: str
    password: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One load test. Sizes in bytes, times in seconds."""

    workload: Workload
    pairs: int = 100
    window: int = 16  # sends without an answer, per sender
    payload: int = 300
    seconds: float = 10.0  # measured, after `warmup`
    warmup: float = 2.0
    rate: float = 0.0  # sends a second over all pairs, whatever comes back (open loop); 0: as fast as the window allows
    connections: int = 1000  # drain: devices; connect, idle: connections
    stored: int = 100  # drain: messages stored for each device
    at_once: int = 64  # upgrades under way at a time
    generators: int = 1  # processes

    def accounts(self) -> int:
        """How many accounts it takes."""
        if self.workload in ("identified", "sealed"):
            return 2 * self.pairs
        return self.connections + (min(self.connections, self.pairs) if self.workload == "drain" else 0)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One generator's part of a plan."""

    plan: Plan  # with this process's share of pairs, connections and rate
    url: str
    accounts: list[Account]
    ca: str | None = None  # PEM file that vouches for the server; none: the system's
    nonce: int


class Figures(msgspec.Struct, kw_only=True):
    """What one generator, or all, counted. Latencies are histograms of nanoseconds (`veredus.ext.hist`)."""

    accepted: int = 0
    delivered: int = 0
    refused: int = 0  # retryable refusals, each sent again
    failed: int = 0  # refused for good
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    foreign: int = 0
    malformed: int = 0
    errors: int = 0
    broken: int = 0  # connections that ended by themselves
    left: int = 0  # deliveries a last reconnect brought, after everything had been acknowledged
    connected: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    sent_latency: dict[int, int] = {}
    sent_slowest: int = 0
    delivered_latency: dict[int, int] = {}
    delivered_slowest: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator says. `progress` comes between `begun` and `ended`, which a workload with an end of its own says unasked."""

    kind: Literal["ready", "started", "begun", "progress", "ended", "done", "failed"]
    figures: Figures = msgspec.field(default_factory=Figures)
    text: str = ""
