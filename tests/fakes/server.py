"""A server in memory on a real socket, for tests of the SDK: as small as one that keeps the promises can be, with levers to be difficult.

Owns no policy that the product should follow; speaks the published wire through the codec.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import defaultdict, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

import picows

from veredus.client.model import Credentials
from veredus.core.errors import CATALOGUE, Code
from veredus.core.model import Reply
from veredus.ext.envelope import Inbound, Send, parse_client_frame
from veredus.ext.frames import FrameWriter

PASSWORD = "open sesame"
Mailbox = tuple[bytes, int]


class Stored(NamedTuple):
    guid: bytes
    envelope: bytes
    time: int


@dataclass
class Levers:
    """How to be difficult. Each is used up by what it does."""

    refuse: deque[Code] = field(default_factory=deque)  # the next new sends get these codes
    retry_after_ms: int = 1
    devices: tuple[int, ...] = ()  # what a device refusal names
    drop_after: int = 0  # after so many more sends were committed the connection breaks without answers
    upgrade: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)  # the next upgrades get these statuses and headers
    silent: bool = False  # upgraded, then no Hello and no pong
    lose: bool = False  # the next row is not stored
    answers: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: sends are looked at only once it is set


class Line(picows.WSListener):
    """One connection."""

    def __init__(self, server: FakeServer, mailbox: Mailbox) -> None:
        super().__init__()
        self.server = server
        self.mailbox = mailbox
        self.transport: picows.WSTransport | None = None
        self.writer = FrameWriter()
        self.tags: dict[int, bytes] = {}
        self.acknowledged: list[tuple[tuple[int, ...], int]] = []
        self.frames = 0
        self.pings = 0
        self.resumes = 0
        self.blocked: Code | None = None
        self.queue: list[Send] = []

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport
        self.server.lines.append(self)
        if not self.server.levers.silent:
            account, device = self.mailbox
            self.writer.put_hello(b"e" * 16, account, device, self.server.now(), 262_144, 2 << 20, 16, 1000, 25_000)
            self.fill(drained=True)
        self.server.changed.set()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PING:
            self.pings += 1
            if not self.server.levers.silent:
                transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.BINARY:
            self.frames += 1
            self.inbound(parse_client_frame(frame.get_payload_as_bytes(), *self.mailbox, 262_144, 16))
        self.server.changed.set()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.transport = None
        self.server.lines.remove(self)
        self.server.changed.set()

    def inbound(self, inbound: Inbound) -> None:
        assert not inbound.malformed
        if inbound.resume:
            self.resumes += 1
            self.blocked = None
        self.queue += inbound.sends
        if inbound.ack_tags or inbound.ack_up_to:
            self.acknowledged.append((tuple(inbound.ack_tags), inbound.ack_up_to))
            gone = {guid for tag, guid in self.tags.items() if tag <= inbound.ack_up_to or tag in inbound.ack_tags}
            mailbox = self.server.mailboxes[self.mailbox]
            mailbox[:] = [stored for stored in mailbox if stored.guid not in gone]
        self.fill(drained=inbound.sync)
        if self.server.levers.answers.is_set():
            self.look()

    def look(self) -> None:
        """Judge and answer what is queued, or break off in the middle of it."""
        levers = self.server.levers
        while self.queue:
            self.answer(self.server.judge(self, self.queue.pop(0)))
            if levers.drop_after:
                levers.drop_after -= 1
                if not levers.drop_after:
                    self.writer.clear()
                    self.queue.clear()
                    self.drop()
        self.flush()

    def answer(self, reply: Reply) -> None:
        self.writer.put_reply(reply)

    def fill(self, drained: bool = False) -> None:
        """Deliver what the mailbox has and this line was not sent."""
        known = set(self.tags.values())
        for stored in self.server.mailboxes[self.mailbox]:
            if stored.guid not in known:
                tag = len(self.tags) + 1
                self.tags[tag] = stored.guid
                self.writer.put_delivery(tag, stored.envelope, stored.time)
        if drained:
            self.writer.put_drained(len(self.tags))
        self.flush()

    def flush(self) -> None:
        if self.writer.size and self.transport is not None:
            self.transport.send(picows.WSMsgType.BINARY, self.writer.take())

    def shutdown(self, reconnect_after_ms: int) -> None:
        self.writer.put_shutdown(reconnect_after_ms)
        self.flush()

    def close(self, code: Code) -> None:
        """Say why, then close with the catalogue's code."""
        if self.transport is not None:
            self.writer.put_error(code, CATALOGUE[code].reason, 1)
            self.flush()
            close_code: Any = CATALOGUE[code].close_code
            self.transport.send_close(close_code)
            self.transport.disconnect()

    def drop(self) -> None:
        """Break the connection without a word."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)


class FakeServer:
    """Accounts with devices 1 and 2, all with one password, on a port of its own; `async with` runs it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.levers = Levers()
        self._tls = tls
        self.levers.answers.set()
        self.mailboxes: dict[Mailbox, list[Stored]] = defaultdict(list)
        self.keys: dict[tuple[Mailbox, bytes], tuple[bytes, Reply]] = {}
        self.lines: list[Line] = []
        self.sends: list[bytes] = []  # client ids in the order in which sends were looked at
        self.changed = asyncio.Event()
        self.url = ""
        self._server: asyncio.Server | None = None
        self._now = 1_700_000_000_000

    @staticmethod
    def credentials(account: UUID, device: int = 1) -> Credentials:
        return Credentials(account, device, PASSWORD)

    def now(self) -> int:
        self._now += 1
        return self._now

    async def until(self, condition: Any) -> None:
        """Wait until `condition()` holds; looked at whenever something came or went."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    def line(self, account: UUID, device: int = 1) -> Line:
        """The newest connection of a device."""
        return [line for line in self.lines if line.mailbox == (account.bytes, device)][-1]

    def judge(self, line: Line, send: Send) -> Reply:
        self.sends.append(send.client_id)
        levers, key = self.levers, (line.mailbox, send.client_id)
        if line.blocked is not None:
            return Reply(send.client_id, line.blocked, retry_after_ms=levers.retry_after_ms)
        digest, known = self.keys.get(key, (send.digest, None))
        if digest != send.digest:
            return Reply(send.client_id, Code.IDEMPOTENCY_MISMATCH)
        if known is not None:
            return known
        code = Code(send.code) if send.code or not levers.refuse else levers.refuse.popleft()
        if code is not Code.OK:
            line.blocked = code if CATALOGUE[code].retryable else None
            return Reply(
                send.client_id, code, retry_after_ms=levers.retry_after_ms, missing_devices=levers.devices, stale_devices=levers.devices
            )
        return self._commit(key, send)

    def _commit(self, key: tuple[Mailbox, bytes], send: Send) -> Reply:
        reply = Reply(send.client_id, Code.OK, guid=send.guid, server_timestamp=self.now(), needs_sync=False)
        self.keys[key] = (send.digest, reply)
        for device, envelope in zip(send.devices, send.envelopes, strict=True):
            mailbox = (send.destination, device)
            if self.levers.lose:
                self.levers.lose = False
                continue
            self.mailboxes[mailbox].append(Stored(send.guid, envelope, reply.server_timestamp))
            for line in self.lines:
                if line.mailbox == mailbox:
                    line.fill()
        return reply

    def _upgrade(self, request: picows.WSUpgradeRequest) -> Line | picows.WSUpgradeResponseWithListener:
        if self.levers.upgrade:
            status, headers = self.levers.upgrade.popleft()
            return self._refused(status, headers)
        scheme, _, pair = request.headers.get("Authorization", "").partition(" ")
        name, _, password = base64.b64decode(pair).decode().partition(":")
        if scheme != "Basic" or password != PASSWORD or request.headers.get("Sec-WebSocket-Protocol") != "signalservice":
            return self._refused(401, {})
        account, _, device = name.partition(".")
        return Line(self, (UUID(account).bytes, int(device)))

    @staticmethod
    def _refused(status: int, headers: dict[str, str]) -> picows.WSUpgradeResponseWithListener:
        response = picows.WSUpgradeResponse.create_error_response(status, b"", extra_headers=headers)
        return picows.WSUpgradeResponseWithListener(response, None)

    async def __aenter__(self) -> Self:
        self._server = await picows.ws_create_server(
            self._upgrade, "127.0.0.1", 0, ssl=self._tls, enable_auto_pong=False, logger_name="fake"
        )
        self.url = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1/websocket"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for line in list(self.lines):
            line.drop()
        await self.until(lambda: not self.lines)
        await self._server.wait_closed()
