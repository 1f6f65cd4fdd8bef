"""Workers with presence on a real Redis, for the tests of presence. Not a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from veredus.core.clock import Clock, SystemClock
from veredus.core.model import Location
from veredus.server.cluster.presence import RedisPresence
from veredus.server.cluster.redis import connect
from veredus.server.cluster.timing import Timing
from veredus.server.secret import Secret

CLOCK = SystemClock()
LONG = Timing(retry=0.01, locate=5.0, command=5.0)  # leases outlive the test, nothing renews by itself
SHORT = Timing(lease=0.3, renew=0.05, retry=0.01, locate=5.0, command=5.0)


class Told:
    """Remembers what presence told."""

    def __init__(self) -> None:
        self.claims: dict[int, Location | None] = {}
        self.superseded_devices: list[int] = []
        self.something = asyncio.Event()

    def claiming(self, devices: Sequence[int]) -> None:
        pass

    def claimed(self, displaced: Mapping[int, Location | None]) -> None:
        self.claims |= displaced
        self.something.set()

    def superseded(self, devices: Sequence[int]) -> None:
        self.superseded_devices += devices
        self.something.set()

    async def until(self, seen: Callable[[], bool]) -> None:
        while not seen():
            self.something.clear()
            await self.something.wait()


Make = Callable[..., Awaitable[tuple[RedisPresence, Told]]]


@asynccontextmanager
async def workers(redis_url: str) -> AsyncIterator[Make]:
    """A function that starts workers on this Redis; they end with the context."""
    async with AsyncExitStack() as stack:

        async def make(name: str, timing: Timing = LONG, url: str = redis_url, clock: Clock = CLOCK) -> tuple[RedisPresence, Told]:
            client = connect(Secret(url), seconds=5.0)
            stack.push_async_callback(client.aclose)
            told = Told()
            presence = RedisPresence(client, name, told, clock, timing)
            await presence.start()
            stack.push_async_callback(presence.close)
            return presence, told

        yield make


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again until it holds; the test's timeout bounds it."""
    while True:
        if await holds():
            return
        await asyncio.sleep(0)  # everything else has its turn
