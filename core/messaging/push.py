"""Carries out pushes that are due: when one is sent, when again, when never again (MSG-12, MSG-23, PSH-6).

Theory of operation. The store says whose push is due; that is the only truth. A job, a device's number on a stream, says «look at this one
now» to whichever worker takes it: it may be lost, doubled or late. Whoever takes a job looks where the device is, and asks the store to
begin: that answers only what nobody else is sending, for devices that may be told something, and holds others off for `lease` seconds. The
provider is called, and what came of it is recorded together with when the next push may leave. A worker that dies in between has its jobs
taken over by another after `idle` seconds, when its leases have run out; jobs that nobody has are made again from the store.

So a device is told once, and again after an interval that doubles, until it connects. A worker that dies between the provider's answer and
its record makes that twice: told twice is better than not at all.

A push says «connect», nothing more: no account, no sender and no content come anywhere near it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from veredus.core import faults
from veredus.core.errors import StoreUnavailable
from veredus.core.model import Push, PushJob, PushOutcome, PushRecord, PushVerdict
from veredus.core.ports import Presence, PushJobs, PushProvider, PushStore

_log = logging.getLogger(__name__)


class PushTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, unless the name says otherwise."""

    send: float = 10.0  # a provider that has not answered by then has failed
    lease: float = 20.0  # nobody else sends meanwhile: longer than `send`, shorter than `idle`
    idle: float = 30.0  # a job taken so long ago and not done belongs to a dead worker
    hold: float = 20.0  # a device that is connected has so long to look into its mailbox (as long as the relay waits for silent ones)
    remake: float = 5.0  # between looks for jobs that are missing
    retry: float = 0.5  # while Redis or PostgreSQL is away
    failure: float = 5.0  # after a provider's failure, doubling …
    failure_most: float = 3600.0  # … to this: a provider that is down for a day is asked 24 times a device and day
    repeat: float = 3600.0  # after a push that did not bring the device here, doubling …
    repeat_most: float = 86400.0  # … to this: phones are switched off at night
    most_sent: int = 6  # told at 0, 1, 3, 7, 15 and 31 hours; who does not come then is not waiting for us
    most_failed: int = 40  # about 30 hours of failures in a row
    per_minute: int = 100  # RL-2, of one device
    batch: int = 100  # jobs taken, and providers' answers awaited, at a time


class PushCounters(msgspec.Struct):
    """What became of jobs and pushes."""

    queued: int = 0
    queue_dropped: int = 0  # left to be made again from the store: too many at once, or Redis away
    remade: int = 0
    taken: int = 0
    taken_over: int = 0  # from workers that did not finish them
    begun: int = 0
    sent: int = 0
    failed: int = 0
    unreachable: int = 0  # the provider knows no way to this device
    given_up: int = 0  # told or tried as often as may be
    record_retries: int = 0
    transport_failures: int = 0


class Pushes:
    """One worker's share of all pushes."""

    def __init__(
        self, store: PushStore, jobs: PushJobs, presence: Presence, provider: PushProvider, timing: PushTiming | None = None
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._presence = presence
        self._provider = provider
        self.timing = timing or PushTiming()
        self.counters = PushCounters()

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._always(0.0, self.turn))
            group.create_task(self._always(self.timing.idle, self.take_over))
            group.create_task(self._always(self.timing.remake, self.remake))

    async def turn(self) -> None:
        """Take jobs, waiting for them if need be, and carry them out. Raises `StoreUnavailable`: they are still to be done."""
        await self._carry_out(await self._jobs.take(self.timing.batch))

    async def take_over(self) -> None:
        """Carry out what others took and did not finish. Raises as `turn`."""
        while jobs := await self._jobs.take_over(self.timing.batch, self.timing.idle):
            self.counters.taken_over += len(jobs)
            await self._carry_out(jobs)

    async def remake(self) -> None:
        """Make the jobs again that should be there; one worker is given each. Raises `StoreUnavailable`."""
        # What is made now and lost again is found after another `idle`: by then whoever had it would have been given up.
        while devices := await self._store.unqueued(self.timing.batch, self.timing.idle):
            await self._jobs.add(devices)
            self.counters.remade += len(devices)

    async def _carry_out(self, jobs: Sequence[PushJob]) -> None:
        if not jobs:
            return
        self.counters.taken += len(jobs)
        devices = sorted({job.device for job in jobs})
        online = await self._presence.locate(devices)
        pushes = await self._store.begin(devices, online, self.timing.lease, self.timing.hold, self.timing.per_minute)
        self.counters.begun += len(pushes)
        if pushes:
            await self._record(await asyncio.gather(*(self._send(push) for push in pushes)))
        await self._jobs.done(jobs)

    async def _send(self, push: Push) -> PushRecord:
        try:
            async with asyncio.timeout(self.timing.send):
                outcome = await self._provider.send(push.device, push.urgent)
        except Exception as error:
            # Its kind alone: a provider's words may hold what it was told.
            _log.warning("a push failed: %s", faults.describe(error))
            outcome = PushOutcome(PushVerdict.FAILED)
        return self._judge(push, outcome)

    def _judge(self, push: Push, outcome: PushOutcome) -> PushRecord:
        """When this device may be told again."""
        timing, counters = self.timing, self.counters
        wait: float | None = None
        if outcome.verdict == PushVerdict.SENT:
            counters.sent += 1
            if push.sent + 1 < timing.most_sent:
                wait = min(timing.repeat * 2**push.sent, timing.repeat_most)
        elif outcome.verdict == PushVerdict.FAILED:
            counters.failed += 1
            if push.failed + 1 < timing.most_failed:
                # A provider may ask for more patience than ours, not for endless one.
                wait = max(min(timing.failure * 2**push.failed, timing.failure_most), min(outcome.retry_after, timing.repeat_most))
        else:
            counters.unreachable += 1
        if wait is None and outcome.verdict != PushVerdict.UNREACHABLE:
            counters.given_up += 1
        return PushRecord(push.device, push.due, outcome.verdict == PushVerdict.SENT, wait)

    async def _record(self, records: Sequence[PushRecord]) -> None:
        """What was sent is written down however long that takes: forgotten, it would be sent again."""
        while True:
            try:
                return await self._store.record(records)
            except StoreUnavailable:
                self.counters.record_retries += 1
                await asyncio.sleep(self.timing.retry)

    async def _always(self, pause: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(pause)
            try:
                await work()
            except Exception as error:
                self.counters.transport_failures += 1
                if not isinstance(error, (StoreUnavailable, ConnectionError, TimeoutError)):
                    _log.error("push work failed: %s", faults.describe(error))
                await asyncio.sleep(self.timing.retry)
