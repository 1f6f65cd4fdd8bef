"""The one listening port of a worker: HTTP and WebSocket, plain or TLS 1.3.

Owns the sockets, the servers on them and the order of stopping. Never touches a message: HTTP goes to the application it was given,
WebSocket connections to the gate.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState

from veredus.core.clock import Clock
from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.ext.station import Station
from veredus.server.ws.closings import closings, endings
from veredus.server.ws.edge import Desk, HttpEdge
from veredus.server.ws.gate import Gate
from veredus.server.ws.sockets import BACKLOG, listen, tls_context
from veredus.server.ws.upgrade import Rules

KEEP_ALIVE_SECONDS = 5  # an idle HTTP connection; uvicorn's own default
POLL_SECONDS = 0.02  # how often a stopping port looks whether all are gone


class PortConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen and whom to let in. With certificate and key (PEM files) the port speaks TLS only."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    origins: tuple[str, ...] = ()  # browsers' origins that may open WebSockets, as they write them: https://chat.example.org
    echo: bool = False  # serve /v1/echo: development only


class Port:
    """Serves from `start` to `stop`. One per worker; the running loop must be uvloop's."""

    def __init__(self, config: PortConfig, limits: Limits, app: Any, gate: Gate, clock: Clock) -> None:
        self._config = config
        self._limits = limits
        self._gate = gate
        self._clock = clock
        # `app` is any ASGI application; its lifespan is run here.
        self._http = Config(
            app, ws="none", interface="asgi3", log_config=None, access_log=False, server_header=False, date_header=False,
            proxy_headers=False, timeout_keep_alive=KEEP_ALIVE_SECONDS, lifespan="auto",
        )  # fmt: skip
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self.station: Station | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the port listens."""
        return [listening.getsockname()[:2] for server in self._servers for listening in server.sockets]

    async def start(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Run the application's start-up and listen, on `sockets` if given (bound by a supervisor).

        Raises OSError, ssl.SSLError (files that do not serve), ValueError (half a TLS configuration), RuntimeError (the application).
        """
        loop = asyncio.get_running_loop()
        context = tls_context(self._config.certificate, self._config.key) if self._config.certificate and self._config.key else None
        if context is None and (self._config.certificate or self._config.key):
            raise ValueError("TLS needs both a certificate and its key")
        listening = list(sockets) if sockets is not None else listen(self._config.host, self._config.port)
        self.station = Station(loop, self._limits, self._clock, closings(), endings())
        origins = frozenset(origin.lower().encode() for origin in self._config.origins)
        desk = Desk(Rules(origins, self._config.echo), self._limits, self._gate, self.station)
        self._http.load()
        self._lifespan = self._http.lifespan_class(self._http)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise RuntimeError("the HTTP application did not start")
        timeout = self._limits.upgrade_seconds if context else None
        for opened in listening:
            server = await loop.create_server(
                lambda: HttpEdge(desk, self._http, self._state, self._lifespan.state),
                sock=opened, backlog=BACKLOG, ssl=context, ssl_handshake_timeout=timeout, ssl_shutdown_timeout=timeout,
            )  # fmt: skip
            self._servers.append(server)
        self.station.start()

    def refuse(self) -> None:
        """Accept no more. Where a supervisor keeps the socket open, who comes now waits for the next worker."""
        for server in self._servers:
            server.close()

    async def stop(self, grace_seconds: float = 5.0, reconnect_within_ms: int = 0) -> None:
        """Accept no more, close idle HTTP connections, give notice on WebSockets and close them with SHUTTING_DOWN.

        Requests under way are finished. What is still there after `grace_seconds` is dropped. Each WebSocket client is told to come back
        after another delay within `reconnect_within_ms`.
        """
        station = self.station
        if station is None:
            return
        loop = asyncio.get_running_loop()
        self.refuse()
        station.close_all(int(Code.SHUTTING_DOWN), reconnect_within_ms)
        for connection in list(self._state.connections):
            connection.shutdown()
        deadline = loop.time() + grace_seconds
        # Connections of two kinds end in many ways; their number is all they share.
        while (station.open or self._state.connections) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        station.abort_all()
        for connection in list(self._state.connections):
            connection.transport.abort()
        station.stop()
        await self._lifespan.shutdown()
        self._servers.clear()
