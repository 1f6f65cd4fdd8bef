"""A WebSocket client that can send any bytes, and a port to send them to.

`Peer` speaks RFC 6455 by hand over a plain asyncio stream: it checks what the server sends and nothing of what it is told to send.
`serving` runs a real port in this process; `Recorder` stands behind its links in place of the core.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import os
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

import uvloop

from veredus.core.limits import Limits
from veredus.core.model import Principal
from veredus.ext.link import Link
from veredus.server.ws.gate import Admission, Refusal, UpgradeRequest
from veredus.server.ws.port import Port, PortConfig

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCOUNT = bytes(range(16))
DEADLINE = 10.0  # of a single wait; never waited for when all is well


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the loop the port is made for."""

    @functools.wraps(test)
    def run(*args: Any, **more: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **more))

    return run


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x37\xfa\x21\x3d",
    length: int | None = None,
) -> bytes:
    """One frame. `length` lies about the payload's size; `mask=None` leaves it unmasked."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0 if mask is None else 0x80
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if mask is None:
        return head + payload
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


def upgrade(
    path: str = "/v1/echo", *, replace: dict[str, str | None] | None = None, more: str = "", method: str = "GET", version: str = "1.1"
) -> bytes:
    """A request head. `replace` changes or (None) drops headers; `more` is added as it is."""
    headers: dict[str, str | None] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    if path != "/v1/echo":
        headers["Sec-WebSocket-Protocol"] = "signalservice"
        headers["Authorization"] = "Basic " + base64.b64encode(b"someone:secret").decode()
    headers.update(replace or {})
    lines = [f"{method} {path} HTTP/{version}"] + [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n" + more + "\r\n").encode("latin-1")


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["name"])


class Frame(NamedTuple):
    fin: bool
    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE, self
        return int(struct.unpack("!H", self.payload[:2])[0])


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> Peer:
        return cls(*await asyncio.open_connection(*address, ssl=tls, limit=1 << 24))

    @classmethod
    async def open(
        cls, address: tuple[str, int], path: str = "/v1/echo", tls: ssl.SSLContext | None = None, first: bytes = b"", **how: Any
    ) -> Peer:
        """Connect and upgrade; `first` is sent together with the head."""
        peer = await cls.connect(address, tls)
        peer.send(upgrade(path, **how) + first)
        answer = await peer.answer()
        assert answer.status == 101, answer
        digest = hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        assert answer.headers["sec-websocket-accept"] == base64.b64encode(digest).decode()
        return peer

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    async def answer(self) -> Answer:
        """The next HTTP response, its body by Content-Length."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def frame(self) -> Frame:
        """The next frame; the server's duties (no mask, no reserved bits, shortest length) are asserted."""
        return await asyncio.wait_for(self._frame(), DEADLINE)

    async def _frame(self) -> Frame:
        first, second = await self.reader.readexactly(2)
        assert not first & 0x70, "reserved bits"
        assert not second & 0x80, "server frames are not masked"
        size = second
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            assert size > 125
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            assert size > 65535
        return Frame(bool(first & 0x80), first & 0x0F, await self.reader.readexactly(size))

    async def rest(self) -> bytes:
        """Everything until the server's end."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE)

    async def closed_with(self) -> int:
        """The code of the next frame, which is a CLOSE, after which the server says nothing more."""
        code = (await self.frame()).close_code
        assert await self.rest() == b""
        self.drop()
        return code

    def drop(self) -> None:
        self.writer.transport.abort()

    async def leave_after_rest(self) -> None:
        """Close as one should while much is still on the way."""
        self.send(frame(CLOSE, struct.pack("!H", 1000)))
        while (await self.frame()).opcode != CLOSE:
            pass
        assert await self.rest() == b""
        self.drop()

    async def leave(self) -> None:
        """Close as one should."""
        self.send(frame(CLOSE, struct.pack("!H", 1000)))
        assert await self.closed_with() == 1000


class FakeClock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Recorder:
    """The core's side of a link: keeps what it is told."""

    def __init__(self, wire: Link) -> None:
        self.wire = wire
        self.inbound: list[Any] = []
        self.changed = asyncio.Event()
        self.writable = 0
        self.lost = 0
        self.on_inbound_do: Callable[[Any], None] | None = None

    def on_inbound(self, inbound: Any) -> None:
        self.inbound.append(inbound)
        self.changed.set()
        if self.on_inbound_do is not None:
            self.on_inbound_do(inbound)

    def on_writable(self) -> None:
        self.writable += 1
        self.changed.set()

    def on_lost(self) -> None:
        self.lost += 1
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something told to make `condition` true."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class OpenGate:
    """Lets everybody in, or refuses; `held` makes it wait."""

    def __init__(self) -> None:
        self.refusal: Refusal | None = None
        self.held: asyncio.Event | None = None
        self.asked: list[UpgradeRequest] = []
        self.recorders: list[Recorder] = []
        self.arrived = asyncio.Event()

    async def admit(self, request: UpgradeRequest) -> Admission | Refusal:
        self.asked.append(request)
        self.arrived.set()
        if self.held is not None:
            await self.held.wait()
        return self.refusal or Admission(Principal(account=ACCOUNT, device=1, account_id=1, device_id=1))

    def open(self, principal: Principal, wire: Any) -> Any:
        recorder = Recorder(wire)
        self.recorders.append(recorder)
        return recorder


async def hello_app(scope: Any, receive: Any, send: Any) -> None:
    """A small ASGI application: says which path was asked for, after reading the body."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = f"{scope['path']} {size}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


class Served(NamedTuple):
    """A running port with everything a test may want to look at."""

    port: Port
    address: tuple[str, int]
    gate: OpenGate
    clock: FakeClock

    @property
    def station(self) -> Any:
        return self.port.station

    def pass_time(self, seconds: float) -> None:
        """Let time pass and have the station look."""
        self.clock.seconds += seconds
        self.station.sweep()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for the server to come so far: nothing tells of the end of a connection but the count of those that are open."""
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def serving(*, app: Any = hello_app, gate: Any = None, limits: dict[str, Any] | None = None, **config: Any) -> AsyncIterator[Served]:
    """A port on a free port of 127.0.0.1, echo included, until the block ends; then nothing of it may be left."""
    clock = FakeClock()
    gate = gate or OpenGate()
    port = Port(PortConfig(**{"echo": True, **config}), Limits(**(limits or {})), app, gate, clock)
    await port.start()
    try:
        yield Served(port, port.addresses[0], gate, clock)
    finally:
        await port.stop(grace_seconds=1.0)
        station: Any = port.station
        for _ in range(100):
            if station.open == 0:
                break
            await asyncio.sleep(0.01)
        assert station.open == 0
        assert station.budget.used == 0


def random_bytes(size: int) -> bytes:
    return os.urandom(size)
