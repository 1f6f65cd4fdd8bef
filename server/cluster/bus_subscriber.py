"""The one connection on which a worker listens. Owns its coming back; every return is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from veredus.server.cluster.bus_counters import BusCounters
from veredus.server.cluster.bus_link import AWAY, end
from veredus.server.cluster.bus_timing import BusTiming


class Listener(Protocol):
    """Whom a subscriber tells. May not raise."""

    def subscribed(self, again: bool) -> None:
        """From now on every message is heard. `again`: there was a time in which none was."""
        ...

    def message(self, channel: bytes, payload: bytes) -> None:
        """A message, in the order of Redis."""
        ...


class Subscriber:
    """Listens to channels. One task calls the listener: never two calls at once."""

    def __init__(
        self, link: Callable[[], Any], channels: Sequence[str], listener: Listener, timing: BusTiming, counters: BusCounters
    ) -> None:
        self.up = False
        self.tried = asyncio.Event()  # the first attempt is over
        self._link = link
        self._channels = channels
        self._listener = listener
        self._timing = timing
        self._counters = counters
        self._reading: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Subscribe, and keep subscribed beside the rest."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Listen no more."""
        self._closing = True
        if self._task is not None:
            await end(self._task)

    def renew(self) -> None:
        """This connection brings nothing any more: take another."""
        self.up = False
        if self._reading is not None:
            self._reading.cancel()

    async def _keep(self) -> None:
        again = False
        while not self._closing:
            connection = self._link()
            try:
                async with asyncio.timeout(self._timing.publish):
                    await self._subscribe(connection)
                self._counters.subscriber_connects += 1
                self.up = True
                self._listener.subscribed(again)
                self.tried.set()
                await self._listen(connection)
            except AWAY:
                pass  # told when it is back
            except Exception as error:
                self._counters.faults += 1
                structlog.get_logger().error("bus_fault", part="subscriber", error=type(error).__name__)
            finally:
                self.up = False
                again = True
                self.tried.set()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(self._timing.retry)

    async def _subscribe(self, connection: Any) -> None:
        await connection.connect()
        await connection.send_command("SUBSCRIBE", *self._channels, check_health=False)
        for _ in self._channels:
            await connection.read_response()

    async def _listen(self, connection: Any) -> None:
        """Until the connection fails or is given up."""
        self._reading = asyncio.create_task(self._read(connection))
        try:
            await asyncio.wait([self._reading])
        finally:
            self._reading.cancel()
            (end,) = await asyncio.gather(self._reading, return_exceptions=True)
        if isinstance(end, Exception):
            raise end

    async def _read(self, connection: Any) -> None:
        while True:
            kind, channel, payload = await connection.read_response()
            if kind == b"message":
                self._listener.message(channel, payload)
