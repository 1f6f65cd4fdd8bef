"""Every connection begins here, as HTTP: uvicorn's protocol with bounded heads, and the door to WebSocket.

Owns a connection until it becomes a WebSocket: time and size of request heads, time of bodies, the pause while the gate decides, and the
bytes that came meanwhile. Never judges a request itself, and serves the application's routes by uvicorn's own code.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.core.model import Principal
from veredus.ext.channel import Channel
from veredus.ext.link import Link
from veredus.ext.station import Station
from veredus.server.ws.echo import Echo
from veredus.server.ws.gate import Gate, Refusal, UpgradeRequest
from veredus.server.ws.upgrade import Handshake, Rules, encode

LOG = logging.getLogger("veredus.port")


class Desk(msgspec.Struct, frozen=True):
    """What every connection of a port is served with."""

    rules: Rules
    limits: Limits
    gate: Gate
    station: Station


class _Discreet(logging.LoggerAdapter[logging.Logger]):
    """uvicorn's logger, without what it would quote: the text of an exception may hold content."""

    level = logging.WARNING  # uvicorn asks for it

    def process(self, msg: Any, kwargs: Any) -> Any:
        fault = kwargs.pop("exc_info", None)
        return (f"INTERNAL: {type(fault).__name__} in the HTTP application" if fault else msg), kwargs


class HttpEdge(HttpToolsProtocol):
    """One connection that speaks HTTP so far.

    One timer guards it: a head must be whole within `upgrade_seconds`, the body after it within `partial_seconds`. Between requests
    uvicorn's keep-alive timer does. After the upgrade nothing of this object remains.
    """

    def __init__(self, desk: Desk, config: Config, state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, state, app_state)
        self.access_log = False  # it would tell who asks for whom
        self.logger = _Discreet(LOG, {})  # type: ignore[assignment]
        self._desk = desk
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # of a head not whole yet; without what came of it in one read with the request before
        self._in_head = True
        self._to_websocket = False  # the request now parsed goes to the gate, not to the application
        self._deaf = False  # an answer is under way after which the connection closes
        self._upgrading: asyncio.Task[None] | None = None
        self._kept = b""

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(self._desk.limits.upgrade_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._upgrading is not None:
            self._upgrading.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._upgrading is not None:
            self._kept += data  # one read at most can follow a pause
            return
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._in_head and self._deadline is None:
            self._arm(self._desk.limits.upgrade_seconds)
        if self._in_head:
            self._head_bytes += len(data)
        rest = b""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            self._leave_other_upgrades()
        except httptools.HttpParserError:
            self._refuse(Refusal(Code.INVALID_REQUEST, "this is not HTTP/1.1", 400))
            return
        if self._to_websocket:
            self._ask_gate(rest)
        elif self._in_head and self._head_bytes > self._desk.limits.upgrade_head_bytes:
            self._refuse_head()

    def shutdown(self) -> None:
        """Finish what is under way and close."""
        if self._deaf:
            return
        if self._upgrading is not None:
            self._upgrading.cancel()
            self._refuse(Refusal(Code.SHUTTING_DOWN, retry_after_ms=self._desk.limits.retry_after_ms))
        else:
            super().shutdown()

    # The parser's callbacks

    def on_headers_complete(self) -> None:
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._deaf or size > self._desk.limits.upgrade_head_bytes:
            self._refuse_head()
        elif self._should_upgrade() or self._desk.rules.is_websocket_path(self.url.partition(b"?")[0]):
            self._to_websocket = True
        else:
            self._arm(self._desk.limits.partial_seconds)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._to_websocket and not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._to_websocket and not self._deaf:
            self._disarm()
            self._in_head = True
            self._head_bytes = 0
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return self._get_upgrade() == b"websocket"

    def _leave_other_upgrades(self) -> None:
        """Upgrades to anything else (h2c) are answered as plain requests; the parser takes nothing after them."""
        if not self._to_websocket and self.cycle is not None:
            self._deaf = True
            self.cycle.keep_alive = False

    # Time

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        self._refuse(Refusal(Code.TIMEOUT))

    # Refusals

    def _refuse_head(self) -> None:
        self._refuse(Refusal(Code.MESSAGE_TOO_BIG, "the head of the request is over the limit", 431))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and close; where an answer is under way already, only close after it."""
        if self._deaf:
            return
        self._deaf = True
        self._disarm()
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete and (self.cycle.response_started or self._to_websocket):
            self.cycle.keep_alive = False
            return
        self._desk.station.count_refusal(int(refusal.code))
        self.transport.write(encode(refusal))
        if self.transport.can_write_eof():
            # Closing with unread bytes would reset the connection, and the answer would be lost with it: read on and drop, for a while.
            self.transport.write_eof()
            self._upgrading = None
            self.transport.resume_reading()
            self._deadline = self.loop.call_later(self._desk.limits.closing_seconds, self.transport.abort)
        else:
            self.transport.close()

    # The way to WebSocket

    def _ask_gate(self, rest: bytes) -> None:
        self._disarm()
        self._kept = rest
        request = UpgradeRequest(self.parser.get_method(), self.url, self.parser.get_http_version(), tuple(self.headers))
        verdict = self._desk.rules.judge(request)
        if isinstance(verdict, Refusal) or (self.cycle is not None and not self.cycle.response_complete):
            self._refuse(verdict if isinstance(verdict, Refusal) else Refusal(Code.INVALID_REQUEST))
        elif verdict.echo:
            self._become(Echo(self._desk.station, True), verdict)
        else:
            self.transport.pause_reading()
            self._upgrading = self.loop.create_task(self._admit(request, verdict))

    async def _admit(self, request: UpgradeRequest, handshake: Handshake) -> None:
        try:
            async with asyncio.timeout(self._desk.limits.upgrade_seconds):
                verdict = await self._desk.gate.admit(request)
        except TimeoutError:
            verdict = Refusal(Code.UNAVAILABLE, retry_after_ms=self._desk.limits.retry_after_ms)
        except Exception as fault:
            LOG.error("INTERNAL: %s in the gate", type(fault).__name__)
            verdict = Refusal(Code.INTERNAL)
        if self.transport.is_closing():
            return
        if isinstance(verdict, Refusal):
            self._refuse(verdict)
        else:
            self._connect(handshake, verdict.principal)

    def _connect(self, handshake: Handshake, principal: Principal) -> None:
        link = Link(self._desk.station, principal.account, principal.device, self._desk.limits)
        self._become(link, handshake, principal)

    def _become(self, channel: Channel, handshake: Handshake, principal: Principal | None = None) -> None:
        transport, kept = self.transport, self._kept
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]  # it points back here
        self._deaf = True
        try:
            channel.begin(transport, handshake.key, handshake.subprotocol)
        except OSError:  # it went while we decided
            transport.abort()
            return
        if principal is not None and isinstance(channel, Link):
            try:
                channel.bind(self._desk.gate.open(principal, channel))
            except Exception as fault:
                LOG.error("INTERNAL: %s behind the gate", type(fault).__name__)
                channel.close(Code.INTERNAL)
        transport.resume_reading()
        channel.data_received(kept)
