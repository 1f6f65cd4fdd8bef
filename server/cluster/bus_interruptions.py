"""Tells of interruptions: at once, and then not again for a moment. Decides nothing about what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Interruptions:
    """Many may be one, but whatever was reported is followed by a call."""

    def __init__(self, calm: float, call: Callable[[], None]) -> None:
        """At most one `call` in `calm` seconds. It may not raise."""
        self._calm = calm
        self._call = call
        self._earliest = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pending(self) -> bool:
        """Something was reported and not told yet."""
        return self._timer is not None

    def report(self) -> None:
        """Something may have been lost."""
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._earliest:
            self._tell()
        else:
            self._timer = loop.call_at(self._earliest, self._tell)

    def close(self) -> None:
        """Nobody is to be told any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        self._earliest = asyncio.get_running_loop().time() + self._calm
        self._call()
