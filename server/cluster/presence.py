"""`core.ports.Presence` on Redis: a lease per worker, an entry per device (design section 5). Owns hints, never the truth.

Theory of operation. A device is online when its entry names a worker whose lease lives under the incarnation the entry was made in, so an
idle device costs nothing and a dead worker's devices are absent as soon as its lease runs out. Two tasks work beside the message path:
one keeps the lease, and one writes claims and releases, as batches, until Redis has them. When the lease turns out to be gone, the store
to be another (the marker in it changed), or this process to have stood still, everything is claimed again, paced, under the old tokens;
each such claim is told to `events`, whose mailboxes must be looked into. While Redis is away nothing waits for it: `locate` answers
that nobody is there, `claim` answers at once, and both are counted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from veredus.core.clock import Clock
from veredus.core.model import Account, Location
from veredus.server.cluster import keys
from veredus.server.cluster.claims import Claim, Claims
from veredus.server.cluster.timing import Timing

AWAY = (RedisError, OSError, TimeoutError)


class Events(Protocol):
    """What presence tells of devices connected here. Must not raise, must not block."""

    def claiming(self, devices: Sequence[int]) -> None:
        """These are about to be claimed so: others may find them before `claimed` is told."""
        ...

    def claimed(self, displaced: Mapping[int, Location | None]) -> None:
        """These devices were claimed without anybody waiting for it (again, or late): look into their mailboxes."""
        ...

    def superseded(self, devices: Sequence[int]) -> None:
        """Newer connections of these devices live elsewhere: theirs here are to close (REPLACED)."""
        ...


class Counters(msgspec.Struct):
    """What went otherwise than hoped."""

    failures: int = 0  # commands that Redis did not answer, or refused
    unanswered_locates: int = 0  # answered «nobody is there» because Redis was away
    rebuilds: int = 0  # times everything was claimed again
    superseded: int = 0
    lost_leases: int = 0  # another process runs under this worker's name
    swept: int = 0  # entries of dead workers that were removed
    faults: int = 0  # our own: a task failed in a way it should not


def new_incarnation() -> str:
    """A word for one life of a worker, unlike all others."""
    return secrets.token_hex(8)


class RedisPresence:
    """Presence of one worker on one Redis."""

    def __init__(
        self, client: Redis, worker: str, events: Events, clock: Clock, timing: Timing | None = None, incarnation: str = ""
    ) -> None:
        """`worker` names this process among all that run, without spaces; a new process under an old name takes over from it.

        `incarnation` is this life of it, a new one if none is given.
        """
        if not worker or " " in worker:
            raise ValueError("a worker's name is one word")
        self.worker = worker
        self.incarnation = incarnation or new_incarnation()
        self.counters = Counters()
        self._client = client
        self._events = events
        self._clock = clock
        self._timing = timing or Timing()
        self._scripts = keys.load_scripts(client)
        self._claims = Claims(self._timing.kept_releases)
        self._marker = ""
        self._sweep_cursor = 0
        self._away = True  # until the first lease
        self._look = asyncio.Event()  # something failed: look at Redis now
        self._work = asyncio.Event()  # claims or releases are due and Redis is there
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    @property
    def settled(self) -> bool:
        """Redis is there and knows everything. Until then nobody's absence means anything."""
        return not self._away and self._claims.settled

    # ------------------------------------------------------------------------------------------------------------------- lifetime

    async def start(self) -> None:
        """Take the lease, or go on trying beside the rest."""
        await self._renew("take")
        self._tasks = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._write())]

    async def close(self) -> None:
        """Give the lease up: every device claimed here is absent at once."""
        # Python 3.11's wait_for, inside redis-py, can swallow a cancellation: the loops look at the flag as well.
        self._closing = True
        for task in self._tasks:
            task.cancel()
        self._work.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._claims.answer_all()
        with suppress(*AWAY):
            await self._bounded(self._scripts["yield"](keys=[keys.LEASE + self.worker], args=[self.incarnation]))

    # ------------------------------------------------------------------------------------------------------------------- the port

    async def claim(self, devices: Sequence[int]) -> list[Location | None]:
        """See `core.ports.Presence`. Never raises for Redis' sake: what cannot be claimed now is claimed later and told to `events`."""
        loop = asyncio.get_running_loop()
        waiters: list[asyncio.Future[Location | None]] = []
        for device in devices:
            waiters.append(loop.create_future())
            self._claims.want(device, waiters[-1])
        if self._away:
            self._claims.answer_all()
        else:
            self._work.set()
        return list(await asyncio.gather(*waiters))

    async def release(self, devices: Sequence[int]) -> None:
        """See `core.ports.Presence`. Returns at once; it is written with the next batch."""
        for device in devices:
            self._claims.drop(device)
        if not self._away:
            self._work.set()

    async def locate(self, devices: Sequence[int]) -> Mapping[int, Location]:
        """See `core.ports.Presence`. Two reads whatever the number of devices; empty, at once, while Redis is away."""
        if not devices:
            return {}
        if self._away:
            self.counters.unanswered_locates += 1
            return {}
        try:
            async with asyncio.timeout(self._timing.locate):
                entries = await _awaited(self._client.hmget(keys.DEVICES, [str(device) for device in devices]))
                found = {device: location for device, entry in zip(devices, entries, strict=True) if (location := keys.parse(entry))}
                return await self._living(found)
        except AWAY:
            self.counters.unanswered_locates += 1
            self._failed()
            return {}

    async def is_online(self, account: Account, number: int) -> bool:
        """Whether a device of an account is connected anywhere (PRE-1). No while Redis is away."""
        device = account.devices.get(number)
        return device is not None and device.id in await self.locate([device.id])

    # ------------------------------------------------------------------------------------------------------------------- the lease

    async def _keep_lease(self) -> None:
        looked = -self._timing.retry
        while not self._closing:
            pause = self._timing.retry if self._away else self._timing.renew
            before = self._clock.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()
            # A failure is looked into at once, but a Redis that answers looks and fails the rest must not keep us busy.
            await asyncio.sleep(looked + self._timing.retry - self._clock.monotonic())
            looked = self._clock.monotonic()
            self._look.clear()
            try:
                if looked - before > pause + self._timing.retry + self._timing.stall:
                    self._rebuild()
                if await self._renew("renew"):
                    await self._sweep()
            except Exception as error:
                self._fault("keep lease", error)

    async def _renew(self, mode: str) -> bool:
        """Whether Redis is there and the lease is ours."""
        arguments = [self.incarnation, int(self._timing.lease * 1000), secrets.token_hex(8), mode]
        try:
            state, marker = await self._bounded(self._scripts["renew"](keys=[keys.LEASE + self.worker, keys.DEVICES], args=arguments))
        except AWAY:
            self.counters.failures += 1
            self._away = True
            return False
        if state == "lost":
            self.counters.lost_leases += 1
            self._away = True
            return False
        self._away = False
        if self._marker and (state == "taken" or marker != self._marker):
            self._rebuild()
        self._marker = marker
        self._work.set()
        return True

    def _rebuild(self) -> None:
        self.counters.rebuilds += 1
        self._claims.repeat_all()
        self._work.set()

    async def _sweep(self) -> None:
        """Remove some of what dead workers left, and what this one could not release."""
        try:
            self._sweep_cursor, entries = await self._bounded(
                self._client.hscan(keys.DEVICES, self._sweep_cursor, count=self._timing.swept_entries)
            )
            named = ((device, keys.parse(entry)) for device, entry in entries.items() if device.isdecimal())  # not the marker
            found = {int(device): location for device, location in named if location}
            alive = await self._bounded(self._living(found))
            dead = {device: found[device] for device in found if device not in alive or self._left_over(device, found[device])}
            if dead:
                pairs = [word for device, location in dead.items() for word in (device, keys.entry(location))]
                self.counters.swept += await self._bounded(self._scripts["release"](keys=[keys.DEVICES], args=pairs))
        except AWAY:
            self._failed()

    def _left_over(self, device: int, location: Location) -> bool:
        return location.incarnation == self.incarnation and device not in self._claims

    async def _living(self, found: Mapping[int, Location]) -> dict[int, Location]:
        """Those whose worker's lease lives under the incarnation they name."""
        workers = sorted({location.worker for location in found.values()})
        if not workers:
            return {}
        leases = dict(zip(workers, await _awaited(self._client.mget([keys.LEASE + worker for worker in workers])), strict=True))
        return {device: location for device, location in found.items() if leases[location.worker] == location.incarnation}

    # ----------------------------------------------------------------------------------------------------------------- the writing

    async def _write(self) -> None:
        while not self._closing:
            await self._work.wait()
            self._work.clear()
            try:
                while not (self._closing or self._away or self._claims.settled):
                    await self._write_batch()
            except AWAY:
                self._claims.answer_all()
                self._failed()
            except Exception as error:
                self._fault("write claims", error)
                await asyncio.sleep(self._timing.retry)
                self._work.set()

    async def _write_batch(self) -> None:
        claims, releases = self._claims.next(self._timing.batch_devices)
        if claims:
            await self._write_claims(claims)
        if releases:
            prefix = f"{self.worker} {self.incarnation} "
            pairs = [word for device, token in releases for word in (device, prefix + token)]
            await self._bounded(self._scripts["release"](keys=[keys.DEVICES], args=pairs))
            self._claims.released(releases)
        if max(len(claims), len(releases)) == self._timing.batch_devices:
            await asyncio.sleep(self._timing.pause)

    async def _write_claims(self, claims: Sequence[tuple[int, Claim]]) -> None:
        arguments: list[Any] = [self.worker, self.incarnation, self._claims.newest_token + 1]
        for device, claim in claims:
            arguments += (device, claim.token)
        self._events.claiming([device for device, claim in claims if not claim.awaited])
        answer = await self._bounded(self._scripts["claim"](keys=[keys.DEVICES, keys.LEASE], args=arguments))
        made = self._claims.made(claims, list(zip(answer[::2], map(keys.parse, answer[1::2]), strict=True)))
        if made.claimed:
            self._events.claimed(made.claimed)
        if made.superseded:
            self.counters.superseded += len(made.superseded)
            self._events.superseded(made.superseded)

    # -------------------------------------------------------------------------------------------------------------------- failures

    async def _bounded(self, command: Awaitable[Any]) -> Any:
        async with asyncio.timeout(self._timing.command):
            return await command

    def _failed(self) -> None:
        """Redis did not answer: nothing waits for it until it was seen again."""
        self.counters.failures += 1
        self._away = True
        self._look.set()

    def _fault(self, what: str, error: Exception) -> None:
        self.counters.faults += 1
        structlog.get_logger().error("presence_fault", task=what, error=type(error).__name__)


async def _awaited(command: Any) -> Any:
    """redis-py types its commands as maybe-awaitable."""
    return await command
