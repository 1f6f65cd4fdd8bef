"""One pipe from each worker to the supervisor: readiness, a beat each second, why it failed. Never blocks either side.

Lines, each far below PIPE_BUF, so that the kernel never mixes or splits them: `beat`, `ready`, `failed REASON`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

REASON_BYTES = 2000  # of a failure's one line; with its word below PIPE_BUF (4096)
READ_BYTES = 65_536  # the pipe's capacity


class Reading(NamedTuple):
    """What came since the last look."""

    alive: bool = False
    ready: bool = False
    failure: str | None = None
    ended: bool = False  # every writer is gone


class Heartbeat:
    """The worker's end. A line for a full pipe (the supervisor has been stopped for hours) or a broken one is lost: nobody waits for it."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self.is_ready = False

    def beat(self) -> None:
        """Say that the event loop turns. Call it from the loop and from nowhere else."""
        self._write(b"beat\n")

    def ready(self) -> None:
        """Say, once, that this worker serves."""
        if not self.is_ready:
            self.is_ready = True
            self._write(b"ready\n")

    def failed(self, reason: str) -> None:
        """Say in one line why this worker cannot start. It is logged: no secrets."""
        line = " ".join(reason.split()).encode(errors="replace")[:REASON_BYTES]
        self._write(b"failed " + line + b"\n")

    def _write(self, line: bytes) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._fd, line)


class Pulse:
    """The supervisor's end."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""

    def fileno(self) -> int:
        return self._fd

    def read(self) -> Reading:
        """Everything that is there, without waiting."""
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return Reading()
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        reasons = [line.removeprefix(b"failed ").decode(errors="replace") for line in lines if line.startswith(b"failed ")]
        return Reading(bool(lines), b"ready" in lines, reasons[-1] if reasons else None, not chunk)

    def close(self) -> None:
        os.close(self._fd)
