"""When messages of an open loop are to leave: evenly, whatever comes back.

Owns a kernel timer; loops' own timers are rounded to milliseconds. Sends nothing itself.

Latency of an open loop counts from the intended time, so a late wake-up shows up as latency instead of hiding it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

NANOSECONDS = 1_000_000_000
SHORTEST = 200_000  # nanoseconds between wake-ups: five thousand a second cost a few hundredths of a CPU
CLOCK_MONOTONIC = 1  # timerfd_create(2)
TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Spec(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (("every_s", ctypes.c_long), ("every_ns", ctypes.c_long), ("first_s", ctypes.c_long), ("first_ns", ctypes.c_long))


class Pace:
    """Calls `due(number, intended)` for message 0, 1, 2 … at `rate` a second, from `start` to `stop`."""

    def __init__(self, rate: float, clock: Callable[[], int], due: Callable[[int, int], None]) -> None:
        self._gap = NANOSECONDS / rate
        self._clock = clock
        self._due = due
        self._timer = -1
        self._begun = 0
        self._number = 0

    def start(self) -> None:
        """Raises OSError when the kernel has no timer for us."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._timer = libc.timerfd_create(CLOCK_MONOTONIC, TFD_FLAGS)
        every = int(max(self._gap, SHORTEST))
        spec = _Spec(every // NANOSECONDS, every % NANOSECONDS, every // NANOSECONDS, every % NANOSECONDS)
        if self._timer < 0 or libc.timerfd_settime(self._timer, 0, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "no timer")
        self._begun = self._clock()
        asyncio.get_running_loop().add_reader(self._timer, self._wake)

    def stop(self) -> None:
        """Safe to repeat."""
        if self._timer >= 0:
            asyncio.get_running_loop().remove_reader(self._timer)
            os.close(self._timer)
            self._timer = -1

    def _wake(self) -> None:
        os.read(self._timer, 8)
        now = self._clock()
        while True:
            intended = self._begun + int((self._number + 1) * self._gap)
            if intended > now:
                return
            self._due(self._number, intended)
            self._number += 1
