"""What the supervisor and the body of a worker promise each other. Owns the shapes and the numbers; forks and serves nothing.

The body runs in a child after the fork. It gets a `WorkerContext`, calls `ready()` once it accepts connections, and returns its exit code
after SIGTERM, when it has drained. `worker.run` does all of this for a body that is a coroutine.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from veredus.server.process.heartbeat import Heartbeat
from veredus.server.process.sockets import Address, Listener

DONE = 0
CRASHED = 1  # ended by an exception, or without being asked to, after it was ready
# Ended before it was ready: repeating it at once would only fail again. 3 has no meaning of its own to shells, Python or sysexits.h.
BOOT_FAILED = 3


class ProcessLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Times in seconds."""

    boot_seconds: float = 60.0  # from the fork to `ready()`: includes waiting for a database that is starting
    beat_seconds: float = 1.0
    hang_seconds: float = 15.0  # without a heartbeat; half of the 30 s in which the rest must carry on without help (P7)
    abort_seconds: float = 2.0  # between SIGABRT, which prints where it hangs, and SIGKILL
    drain_seconds: float = 25.0  # from SIGTERM to SIGKILL: the body's own 20 s and room to close; orchestrators kill after 30
    orphan_seconds: float = 10.0  # a worker whose supervisor was killed drains faster: its successor wants memory and connections
    steady_seconds: float = 10.0  # a worker that served this long is replaced at once when it dies
    restart_seconds: float = 0.5  # pause before the second replacement in a row; it doubles
    restart_seconds_max: float = 10.0  # so that 30 s hold at least two attempts (P7)
    boot_failures: int = 5  # of one slot in a row, with 3.5 s of pauses: then the cause is not going away
    address_seconds: float = 5.0  # for workers of a killed supervisor to let go of the address


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker is born with. `lifeline` is a pipe that ends when the supervisor does."""

    index: int  # 0 to N-1; its successor has it too
    incarnation: str  # 16 hex digits, never used twice
    listeners: tuple[Listener, ...]  # listening already; `backlog` must be repeated by what listens again: sockets.BACKLOG
    heartbeat: Heartbeat
    lifeline: int
    limits: ProcessLimits

    @property
    def sockets(self) -> list[socket.socket]:
        return [listener.socket for listener in self.listeners]

    def ready(self) -> None:
        """Say that connections are accepted from now on. The predecessor is drained after this."""
        self.heartbeat.ready()


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSpec:
    """What to run. `worker_main` runs in each child and returns its exit code; `on_ready` runs once in the supervisor, when all are ready,
    with the bound addresses. Neither may keep anything open in the supervisor: it would be shared by every later worker."""

    worker_main: Callable[[WorkerContext], int]
    addresses: tuple[Address, ...]
    workers: int = 1
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    on_ready: Callable[[tuple[Address, ...]], None] | None = None
