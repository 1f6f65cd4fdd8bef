"""Keeps a client connected and moves its sends and messages. Owns the connection and its timers, not what goes over it.

Theory of operation. One task (`run`) connects, waits for the end of the connection and connects again. Everything else happens in
callbacks of the connection and in `_flush`, which runs at most once per loop iteration and writes all that is due as one frame.
`Pipeline` owns the order of sends, `Inbox` what was seen and acknowledged; both outlive connections. The observer sees a step before it
is taken.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from veredus.client.backoff import Backoff
from veredus.client.connection import Connection, Ending, NotNow
from veredus.client.errors import ConnectionRefused, code_of
from veredus.client.inbox import Inbox
from veredus.client.model import Config, Message
from veredus.client.observer import Observer
from veredus.client.pipeline import Pipeline
from veredus.core.errors import CATALOGUE
from veredus.ext.frames import Hello, ServerInbound, encode_ack, encode_resume, encode_send, encode_sync

log = logging.getLogger("veredus.client")

RESUME_SPREAD = 1.25  # clients refused together come back over a quarter more than they were asked to wait
CLOSE_SECONDS = 2.0  # a server that does not answer a close by then is left

Connector = Callable[["Session", int], Awaitable[Connection]]
Deliver = Callable[[Message], None]


class Session:
    """The life of one client over all its connections, from `run` to `close`."""

    def __init__(self, connector: Connector, pipeline: Pipeline, deliver: Deliver, observer: Observer, config: Config) -> None:
        self.hello: Hello | None = None  # the last one
        self.connected = asyncio.Event()
        self.drained = asyncio.Event()
        self._connector = connector
        self._pipeline = pipeline
        self._inbox = Inbox(config.remembered_guids, self.wake)
        self._deliver = deliver
        self._observer = observer
        self._config = config
        self._backoff = Backoff(config.backoff_first_seconds, config.backoff_most_seconds)
        self._connection: Connection | None = None
        self._made = 0
        self._seq = 0
        self._leaving_ms: int | None = None  # the server goes; come back after so long
        self._flush_due = False
        self._resume_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Stay connected until cancelled. Raises `ConnectionRefused` when a reconnect would not help."""
        while True:
            try:
                ending = await self._live()
            except NotNow as error:
                reason, asked = str(error), error.retry_after_ms
            else:
                if ending.code is not None and not CATALOGUE[ending.code].retryable:
                    raise ConnectionRefused(ending.code)
                reason = "the connection was lost" if ending.code is None else CATALOGUE[ending.code].reason
                asked = self._leaving_ms or ending.retry_after_ms
            seconds = self._backoff.delay(asked)
            log.info("not connected, trying again in %.1f s: %s", seconds, reason)
            self._observer.waiting(reason, seconds)
            await asyncio.sleep(seconds)

    def wake(self) -> None:
        """Something may be due to leave: look once in this loop iteration."""
        if not self._flush_due and self._connection is not None:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def sync(self) -> None:
        """Ask for what is stored, now; `drained` follows. Not connected, the next connection does so by itself."""
        self.drained.clear()
        if self._connection is not None:
            self._connection.send(encode_sync())

    def reconnect(self) -> None:
        """Break the connection without a word; `run` makes the next one."""
        if self._connection is not None:
            self._connection.close(graceful=False)

    async def close(self) -> None:
        """Tell what is acknowledged and close the connection."""
        if self._connection is not None:
            connection = self._connection
            self._flush()
            connection.close()
            await asyncio.wait({connection.ended}, timeout=CLOSE_SECONDS)
            connection.close(graceful=False)

    def on_writable(self) -> None:
        self.wake()

    def on_frame(self, connection: Connection, inbound: ServerInbound) -> None:
        if inbound.hello is not None:
            self._begin(connection, inbound.hello)
        if connection is not self._connection:
            return  # nothing counts before Hello
        for result in inbound.results:
            self._observer.answered(connection.number, result)
            self._pipeline.answer(result)
        for delivery in inbound.deliveries:
            self._observer.delivered(connection.number, delivery)
            message = self._inbox.deliver(delivery)
            if message is not None:
                self._deliver(message)
        if inbound.drained is not None:
            self._observer.drained(connection.number, inbound.drained)
            self._backoff.succeeded()
            self.drained.set()
        for notice in inbound.errors:
            code = code_of(notice.code)
            log.warning("the server says %s", code.name)
            connection.note(code, notice.retry_after_ms)
        if inbound.shutdown is not None:
            self._leaving_ms = inbound.shutdown
        self._plan_resume()
        self.wake()

    async def _live(self) -> Ending:
        """One connection from its beginning to its end."""
        self._made += 1
        self._leaving_ms = None
        connection: Connection | None = None
        try:
            try:
                async with asyncio.timeout(self._config.connect_seconds):
                    connection = await self._connector(self, self._made)
                    await connection.greeted
            except TimeoutError:
                raise NotNow("no Hello in time") from None
            await asyncio.wait({connection.ended})
            return connection.ended.result()
        finally:
            if connection is not None:
                connection.close(graceful=False)
            self._end()

    def _begin(self, connection: Connection, hello: Hello) -> None:
        self.hello = hello
        self._connection = connection
        self._seq = 0
        self._inbox.connected()
        self._observer.connected(connection.number, hello)
        self._beat(connection, min(self._config.ping_seconds, hello.ping_interval_ms / 1000 or self._config.ping_seconds))
        if not connection.greeted.done():
            connection.greeted.set_result(None)
        self.connected.set()

    def _end(self) -> None:
        self.connected.clear()
        self.drained.clear()
        for timer in (self._resume_timer, self._ping_timer):
            if timer is not None:
                timer.cancel()
        self._resume_timer = self._ping_timer = None
        if self._connection is not None:
            self._observer.disconnected(self._connection.number)
            self._connection = None
        self._pipeline.disconnected()

    def _flush(self) -> None:
        self._flush_due = False
        connection = self._connection
        if connection is None or self.hello is None:
            return
        parts = []
        acknowledgement = self._inbox.take()
        if acknowledgement is not None:
            self._observer.acknowledging(connection.number, acknowledgement.tags, acknowledgement.up_to)
            parts.append(encode_ack(tags=acknowledgement.tags, up_to=acknowledgement.up_to))
        if connection.writable and self._leaving_ms is None:
            parts += self._encoded_sends(connection, self.hello.max_message_bytes - sum(map(len, parts)))
        if parts:
            connection.send(b"".join(parts))
        if self._leaving_ms is not None and not self._pipeline.flying:
            connection.close()
        elif connection.writable and self._pipeline.ready and self._leaving_ms is None:
            self.wake()

    def _encoded_sends(self, connection: Connection, room: int) -> list[bytes]:
        encoded = []
        for draft in self._pipeline.take(room):
            self._seq += 1
            self._observer.sending(connection.number, self._seq, draft)
            encoded.append(
                encode_send(
                    draft.client_id,
                    draft.destination,
                    draft.type,
                    draft.client_timestamp,
                    draft.urgent,
                    draft.ephemeral,
                    draft.contents,
                )
            )
        return encoded

    def _plan_resume(self) -> None:
        delay_ms = self._pipeline.resume_delay_ms()
        if delay_ms is not None and self._resume_timer is None:
            seconds = delay_ms / 1000 * random.uniform(1, RESUME_SPREAD)
            self._resume_timer = asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._resume_timer = None
        if self._connection is not None and self._pipeline.resume():
            self._observer.resuming(self._connection.number)
            self._connection.send(encode_resume())
            self.wake()

    def _beat(self, connection: Connection, seconds: float) -> None:
        """One timer: ping, and drop a connection that has been silent since the ping before."""
        if not connection.heard:
            log.info("the connection is dead: nothing came for %g s", seconds)
            connection.close(graceful=False)
            return
        connection.heard = False
        connection.ping()
        self._ping_timer = asyncio.get_running_loop().call_later(seconds, self._beat, connection, seconds)
