"""One worker process as its supervisor sees it: made by a fork, watched by its beats, ended by signals. Decides nothing about restarts."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from veredus.server.process.contract import CRASHED, ProcessLimits
from veredus.server.process.heartbeat import Pulse, Reading

# The manager's address and orders are for the supervisor alone.
MANAGER_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

_log = logging.getLogger(__name__)


class Child:
    """A forked worker that has not been reaped: so long its pid is its own and signals reach nobody else. Times are monotonic seconds."""

    def __init__(self, pid: int, slot: int, generation: int, pulse: Pulse, now: float) -> None:
        self.pid = pid
        self.slot = slot
        self.generation = generation  # the rolling restart it was made by or for
        self.pulse = pulse
        self.failure: str | None = None  # its own words
        self.condemned: str | None = None  # why the supervisor ends it, when nobody asked for that
        self.started = now
        self.ready_since: float | None = None
        self._beaten = now
        self._kill_at: float | None = None

    def take(self, now: float) -> Reading:
        """Read what it said and remember it."""
        reading = self.pulse.read()
        if reading.alive:
            self._beaten = now
        if reading.ready and self.ready_since is None:
            self.ready_since = now
        if reading.failure is not None:
            self.failure = reading.failure
        return reading

    def deadline(self, limits: ProcessLimits) -> float:
        """When it must have been heard of, or will be ended for good. Infinity when nothing is left to do to it."""
        if self._kill_at is not None:
            return self._kill_at
        if self.ready_since is None:
            return self.started + limits.boot_seconds
        return self._beaten + limits.hang_seconds

    def enforce(self, now: float, limits: ProcessLimits) -> None:
        """Act on a deadline that has passed."""
        if now < self.deadline(limits):
            return
        if self._kill_at is not None:
            self.kill()
            return
        self.condemned = "not ready in time" if self.ready_since is None else "its event loop hangs"
        _log.error("worker %d (pid %d): %s; aborting it", self.slot, self.pid, self.condemned)
        self._end(signal.SIGABRT, now + limits.abort_seconds)

    def fresh(self, now: float, limits: ProcessLimits) -> bool:
        return self.condemned is None and now < self._beaten + limits.hang_seconds

    def drain(self, kill_at: float) -> None:
        """Ask it to stop; it is killed at `kill_at`."""
        if self._kill_at is None:
            self._end(signal.SIGTERM, kill_at)

    def kill(self) -> None:
        """Now. Works on a stopped process too."""
        self._end(signal.SIGKILL, float("inf"))

    def excuse(self, seconds: float) -> None:
        """The supervisor itself was not running for so long: what it did not see in that time is not the worker's fault."""
        self.started += seconds
        self._beaten += seconds
        if self._kill_at is not None:
            self._kill_at += seconds

    def reap(self) -> int | None:
        """The wait status once it has ended, without waiting."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return status if pid else None

    def _end(self, number: signal.Signals, kill_at: float) -> None:
        self._kill_at = kill_at
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def how_it_ended(status: int) -> str:
    """`exit status 3` or `signal SIGKILL`."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"signal {-code}"


def live(forget_signals: Callable[[], None], main: Callable[[], int]) -> NoReturn:
    """In a fresh child, to the end of its process: run `main` and leave with what it returns, past everything the supervisor has set up for
    its own end (`atexit`, `finally`, destructors). Called with signals held back, so that none meets the supervisor's handlers here."""
    code = CRASHED
    try:
        forget_signals()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        faulthandler.enable()  # SIGABRT says where a hung worker hangs: files and lines, no data
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for name in MANAGER_VARIABLES:
            os.environ.pop(name, None)
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else CRASHED
    except BaseException:
        _log.exception("a worker ended by an exception")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
