"""`core.ports.Bus` on Redis Pub/Sub: a channel per worker. Owns transport of hints, at most once; never the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from veredus.core.clock import Clock
from veredus.core.model import Item
from veredus.core.ports import BusEvents
from veredus.server.cluster.bus_frames import Channels, Frame, parcels
from veredus.server.cluster.bus_timing import BusTiming

AWAY = (RedisError, OSError, TimeoutError)


class BusCounters(msgspec.Struct):
    """What the bus did."""

    published_items: int = 0
    published_frames: int = 0
    failed_frames: int = 0  # not handed over: their receivers notice
    unheard_frames: int = 0  # nobody listened
    received_items: int = 0
    received_frames: int = 0
    malformed: int = 0  # not frames of ours
    interruptions: int = 0  # told
    faults: int = 0  # our own


class RedisBus:
    """The bus as one worker sees it: `listen`, `start`, then `publish`; `close` last."""

    def __init__(self, client: Redis, worker: str, incarnation: str, clock: Clock, timing: BusTiming | None = None) -> None:
        self.counters = BusCounters()
        self._client = client
        self._worker = worker
        self._incarnation = incarnation
        self._clock = clock
        self._timing = timing or BusTiming()
        self._channels = Channels(f"veredus:{client.connection_pool.connection_kwargs.get('db', 0)}")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Frame).decode
        self._last: dict[str, int] = {}
        self._events: BusEvents
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def listen(self, events: BusEvents) -> None:
        """Whom to tell, before `start`."""
        self._events = events

    async def start(self) -> None:
        """Subscribe, or go on trying beside the rest."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._subscribe(ready))
        await ready.wait()

    async def close(self) -> None:
        self._closing = True
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def publish(self, items: Mapping[str, Sequence[Item]]) -> set[str]:
        """See `core.ports.Bus`."""
        workers = []
        pipe = self._client.pipeline(transaction=False)
        for worker, every in items.items():
            for parcel in parcels(every, self._timing.envelope_bytes, self._timing.frame_bytes):
                number = self._last[worker] = self._last.get(worker, 0) + 1
                pipe.publish(self._channels.of(worker), self._encode([self._worker, self._incarnation, number, parcel]))
                workers.append(worker)
        try:
            async with asyncio.timeout(self._timing.publish):
                heard = await pipe.execute()
        except AWAY:
            self.counters.failed_frames += len(workers)
            return set()
        return {worker for worker, count in zip(workers, heard, strict=True) if not count}

    async def _subscribe(self, ready: asyncio.Event) -> None:
        again = False
        while not self._closing:
            kwargs = {**self._client.connection_pool.connection_kwargs, "decode_responses": False, "protocol": 2}
            connection: Any = self._client.connection_pool.connection_class(**kwargs)
            try:
                await connection.connect()
                await connection.send_command("SUBSCRIBE", self._channels.of(self._worker))
                await connection.read_response()
                ready.set()
                if again:
                    self._interrupt()
                again = True
                while True:
                    self._received(await connection.read_response(timeout=float("inf")))
            except AWAY:
                ready.set()
                await asyncio.sleep(self._timing.retry)
            finally:
                await connection.disconnect(nowait=True)

    def _received(self, message: Sequence[bytes]) -> None:
        try:
            frame = self._decode(message[2])
            self._events.received(frame.items)
        except msgspec.MsgspecError:
            self.counters.malformed += 1
            self._interrupt()
        except Exception as error:
            self.counters.faults += 1
            structlog.get_logger().error("bus_fault", error=type(error).__name__)
            self._interrupt()

    def _interrupt(self) -> None:
        self.counters.interruptions += 1
        self._events.interrupted()
