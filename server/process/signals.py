"""Signals as a queue to be read: the handlers do nothing but let the interpreter put the number into a pipe. Decides nothing.

For a blocking main loop that waits on file descriptors. Nothing is lost between a look at the queue and the next wait, since the pipe
stays readable.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

READ_BYTES = 4096


class SignalQueue:
    """The signals of `numbers`, from `open` to `close`. Main thread only."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._reader, self._writer = -1, -1

    def open(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)  # full: 65,536 signals are waiting already
        for number in self._numbers:
            self._before[number] = signal.signal(number, _queued)

    def fileno(self) -> int:
        return self._reader

    def read(self) -> list[int]:
        """Numbers in order of arrival, without waiting."""
        with suppress(BlockingIOError):
            return list(os.read(self._reader, READ_BYTES))
        return []

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Signals wait until the end of the block. Around a fork, so that none is taken by a child that still has these handlers."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def leave(self) -> None:
        """In a child, while signals are held back: none reaches the parent's queue any more."""
        signal.set_wakeup_fd(-1)
        for number in self._numbers:
            signal.signal(number, signal.SIG_DFL)
        os.close(self._reader)
        os.close(self._writer)

    def close(self) -> None:
        """Back to what was before."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)


def _queued(number: int, frame: FrameType | None) -> None:
    """Its being a Python function is what makes the interpreter write `number` into the pipe."""
