"""Workers with a bus on a real Redis, and a stranger who writes to it, for the tests of the bus. Not a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from redis.asyncio import Redis

from veredus.core.clock import Clock, SystemClock
from veredus.core.model import Item, ItemKind
from veredus.server.cluster.bus import RedisBus
from veredus.server.cluster.bus_frames import Channels
from veredus.server.cluster.bus_link import database
from veredus.server.cluster.bus_timing import BusTiming
from veredus.server.cluster.redis import connect
from veredus.server.cluster.shards import Shards
from veredus.server.secret import Secret

CLOCK = SystemClock()
# Nothing is silent for so long that it matters; breaks are noticed at once, every one is told.
PATIENT = BusTiming(heartbeat=0.05, silence=1000.0, look=0.01, retry=0.01, calm=0.0, publish=5.0)
# What a stranger says is all that is heard: no heartbeats but the first.
STILL = BusTiming(heartbeat=1000.0, silence=1000.0, look=0.01, retry=0.01, calm=0.0, publish=5.0)

INTERRUPTED = "interrupted"


class Told:
    """Remembers what the bus told, in order."""

    def __init__(self) -> None:
        self.log: list[Sequence[Item] | str] = []
        self.ids: list[int] = []
        self.something = asyncio.Event()

    def received(self, items: Sequence[Item]) -> None:
        self.ids += [item.id for item in items]
        self._note(items)

    def interrupted(self) -> None:
        self._note(INTERRUPTED)

    def _note(self, what: Sequence[Item] | str) -> None:
        self.log.append(what)
        self.something.set()

    @property
    def items(self) -> list[Item]:
        return [item for items in self.log if not isinstance(items, str) for item in items]

    @property
    def interruptions(self) -> int:
        return self.log.count(INTERRUPTED)

    def interrupted_more_than(self, times: int) -> bool:
        return self.interruptions > times

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.something.clear()
            await self.something.wait()


Make = Callable[..., Awaitable[tuple[RedisBus, Told]]]


@asynccontextmanager
async def workers(redis_url: str) -> AsyncIterator[Make]:
    """A function that starts workers on this Redis; they end with the context."""
    async with AsyncExitStack() as stack:

        async def make(
            name: str, timing: BusTiming = PATIENT, *, incarnation: str = "1", clock: Clock = CLOCK, told: Told | None = None
        ) -> tuple[RedisBus, Told]:
            client = connect(Secret(redis_url), seconds=5.0)
            stack.push_async_callback(client.aclose)
            told = told or Told()
            bus = RedisBus(Shards([client]), name, incarnation, clock, timing)
            bus.listen(told)
            await bus.start()
            stack.push_async_callback(bus.close)
            return bus, told

        yield make


class Stranger:
    """Writes to the bus whatever he likes, and reads all of it."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.channels = Channels(f"veredus:{database(client)}")

    async def raw(self, worker: str, payload: bytes) -> None:
        await self.client.publish(self.channels.of(worker), payload)

    async def frame(self, worker: str, number: int, *items: Item, source: str = "ghost", incarnation: str = "1") -> None:
        await self.raw(worker, msgspec.msgpack.encode([source, incarnation, number, items]))

    async def heartbeat(self, last: dict[str, int], *, leaving: bool = False, source: str = "ghost", incarnation: str = "1") -> None:
        await self.client.publish(self.channels.heartbeats, msgspec.msgpack.encode([source, incarnation, last, leaving]))

    @asynccontextmanager
    async def listening(self, *channels: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """A function that waits for the next message there."""
        async with self.client.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(*channels)
            await heard.get_message(timeout=5.0)

            async def following() -> Any:
                while True:
                    message = await heard.get_message(timeout=5.0)
                    if message is not None:
                        return msgspec.msgpack.decode(message["data"])

            yield following


@asynccontextmanager
async def stranger_on(redis_url: str) -> AsyncIterator[Stranger]:
    async with Redis.from_url(redis_url) as client:
        yield Stranger(client)


def row(number: int, envelope: bytes = b"x" * 100, device: int = 7) -> Item:
    return Item(ItemKind.ROW, device, number, b"g" * 16, 1_700_000_000_000, envelope)


async def until(holds: Callable[[], bool]) -> None:
    """Look again until it holds; the test's timeout bounds it."""
    while not holds():
        await asyncio.sleep(0)
