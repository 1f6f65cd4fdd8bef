"""Push jobs on a Redis stream with one consumer group: the adapter of `PushJobs`.

An entry holds a device's number, nothing else. The stream is cut at a length, may be wiped at any time, and an entry whose taker died waits
in the group until somebody takes it over: all of that is repaired from PostgreSQL at the latest, so nothing here is persistent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from veredus.core.model import PushJob

STREAM = "veredus:push:jobs"
GROUP = "workers"
FIELD = "device"

T = TypeVar("T")


class JobTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, unless the name says otherwise."""

    wait: float = 0.5  # for the first job: below what a client gives a command, and no longer than a worker that ends can wait
    command: float = 1.0  # nobody's message waits for it
    most: int = 100_000  # jobs on the stream, about 10 MB; more are made again from the store as the first are done
    forget: float = 3600.0  # consumers that took nothing for so long and have nothing are of workers that ended


class RedisPushJobs:
    """One worker's access to the stream. Waiting for jobs keeps one of the client's connections."""

    def __init__(self, client: Redis, consumer: str, timing: JobTiming | None = None) -> None:
        self._client: Any = client
        self._consumer = consumer
        self._timing = timing or JobTiming()

    async def add(self, devices: Sequence[int]) -> None:
        """See `core.ports.PushJobs`."""
        if devices:
            pipeline = self._client.pipeline(transaction=False)
            for device in devices:
                pipeline.xadd(STREAM, {FIELD: device}, maxlen=self._timing.most, approximate=True)
            await self._grouped(pipeline.execute)

    async def take(self, limit: int) -> list[PushJob]:
        """See `core.ports.PushJobs`."""
        wait = max(1, int(self._timing.wait * 1000))  # 0 would wait for ever
        read = await self._grouped(lambda: self._client.xreadgroup(GROUP, self._consumer, {STREAM: ">"}, count=limit, block=wait))
        return await self._jobs([entry for _, entries in read or [] for entry in entries])

    async def take_over(self, limit: int, idle: float) -> list[PushJob]:
        """See `core.ports.PushJobs`."""
        await self._grouped(self._forget)
        claim: dict[str, Any] = {"min_idle_time": int(idle * 1000), "start_id": "0-0", "count": limit, "justid": True}
        keys = await self._grouped(lambda: self._client.xautoclaim(STREAM, GROUP, self._consumer, **claim))
        if not keys:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.xrange(STREAM, key, key)
        found = await self._grouped(pipeline.execute)
        # Cut off the stream while somebody had it: before Redis 7 the group would keep such a key for ever.
        return await self._jobs([(key, entries[0][1] if entries else {}) for key, entries in zip(keys, found, strict=True)])

    async def done(self, jobs: Sequence[PushJob]) -> None:
        """See `core.ports.PushJobs`."""
        if jobs:
            await self._finish([job.key for job in jobs])

    async def close(self) -> None:
        """This worker ends: forget it, unless it leaves jobs to take over. The client stays open."""
        with suppress(ConnectionError, TimeoutError, ResponseError):
            await self._bounded(lambda: self._forget(0.0, self._consumer))

    async def _jobs(self, entries: Sequence[tuple[str, Mapping[str, str]]]) -> list[PushJob]:
        """What can be read of these; the rest is called done at once."""
        jobs: list[PushJob] = []
        useless: list[str] = []
        for key, fields in entries:
            device = fields.get(FIELD, "")
            if device.isdecimal() and len(device) < 19:  # of a bigint
                jobs.append(PushJob(key, int(device)))
            else:
                useless.append(key)
        if useless:
            await self._finish(useless)
        return jobs

    async def _finish(self, keys: Sequence[str]) -> None:
        """Off the group and off the stream, so that its length is what is still to be done."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xack(STREAM, GROUP, *keys)
        pipeline.xdel(STREAM, *keys)
        await self._grouped(pipeline.execute)

    async def _forget(self, seconds: float | None = None, name: str | None = None) -> None:
        """Remove consumers of workers that are gone. One that was only slow is made again by its next read."""
        least = 1000 * (self._timing.forget if seconds is None else seconds)
        for consumer in await self._client.xinfo_consumers(STREAM, GROUP):
            gone = consumer["name"] == name if name is not None else consumer["name"] != self._consumer
            if gone and consumer["pending"] == 0 and consumer["idle"] >= least:
                await self._client.xgroup_delconsumer(STREAM, GROUP, consumer["name"])

    async def _grouped(self, command: Callable[[], Awaitable[T]]) -> T:
        """A command that needs the group, which is made where a new or wiped Redis has none."""
        try:
            try:
                return await self._bounded(command)
            except ResponseError as error:
                if not str(error).startswith(("NOGROUP", "no such key")):
                    raise
            await self._bounded(self._make_group)
            return await self._bounded(command)
        except ResponseError as error:  # out of memory, read-only: the same to us as away
            raise ConnectionError(f"Redis refuses a command ({type(error).__name__})") from None

    async def _make_group(self) -> None:
        try:
            await self._client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # another worker was first
                raise

    async def _bounded(self, command: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timing.command):
                return await command()
        except ResponseError:
            raise
        except (RedisError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise ConnectionError(f"Redis is away ({type(error).__name__})") from None
