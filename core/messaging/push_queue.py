"""Makes jobs of pushes as they become due. Stands before the store's wake-ups; whoever makes pushes due never waits for the transport.

What is kept here is a convenience: a job that is lost with this worker, or because too many came at once, is made again from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from veredus.core.messaging.push import PushCounters
from veredus.core.ports import PushJobs, Wakeups

MOST_WAITING = 100_000  # devices, some megabytes; the rest are made again from the store (counted)
BATCH = 1000  # jobs sent with one round trip


class PushQueue:
    """`Wakeups` whose dues go on the stream."""

    def __init__(self, wakeups: Wakeups, jobs: PushJobs, counters: PushCounters) -> None:
        self._wakeups = wakeups
        self._jobs = jobs
        self._counters = counters
        self._waiting: set[int] = set()
        self._work = asyncio.Event()

    async def due(self, devices: Mapping[int, int]) -> list[int]:
        """See `Wakeups`."""
        now = await self._wakeups.due(devices)
        room = MOST_WAITING - len(self._waiting)
        self._waiting.update(now[:room])
        self._counters.queue_dropped += max(0, len(now) - room)
        self._work.set()
        return now

    async def awake(self, devices: Sequence[int]) -> None:
        """See `Wakeups`."""
        self._waiting.difference_update(devices)
        await self._wakeups.awake(devices)

    async def occupied(self, devices: Sequence[int]) -> set[int]:
        """See `Wakeups`."""
        return await self._wakeups.occupied(devices)

    async def overdue(self, seconds: float) -> list[tuple[int, int]]:
        """See `Wakeups`."""
        return await self._wakeups.overdue(seconds)

    async def run(self) -> None:
        """Hands jobs on until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                await self.flush()

    async def flush(self) -> None:
        """Put one batch on the stream. One that cannot be put there is dropped: the store knows."""
        batch = [self._waiting.pop() for _ in range(min(BATCH, len(self._waiting)))]
        try:
            await self._jobs.add(batch)
            self._counters.queued += len(batch)
        except (ConnectionError, TimeoutError):
            self._counters.queue_dropped += len(batch)
