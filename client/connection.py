"""One WebSocket connection of the SDK: picows on one side, frames of the codec on the other. Owns no message and repeats nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import NamedTuple, Protocol

import picows

from veredus.client.errors import ConnectionRefused
from veredus.client.model import Credentials
from veredus.core.errors import CATALOGUE, Code
from veredus.ext.frames import ServerInbound, parse_server_frame

SUBPROTOCOL = "signalservice"
FRAME_BYTES = 16 * 1024 * 1024  # the server's largest batch is 10 MB (SYN-5); beyond that something is wrong

# What a close code says; where two share one, the Error frame before the close told them apart.
_CODE_OF_CLOSE = {entry.close_code: code for code, entry in reversed(CATALOGUE.items()) if entry.close_code is not None}
_CODE_OF_STATUS = {401: Code.UNAUTHENTICATED, 403: Code.FORBIDDEN, 404: Code.NOT_FOUND}
_WORTH_A_REPEAT = frozenset({408, 425, 429})


class Ending(NamedTuple):
    """Why a connection ended: a code of the catalogue (None: it was just gone) and the delay the server asked for."""

    code: Code | None
    retry_after_ms: int


class NotNow(Exception):
    """There is no connection to be had at the moment."""

    def __init__(self, reason: str, retry_after_ms: int = 0) -> None:
        super().__init__(reason)
        self.retry_after_ms = retry_after_ms


class Owner(Protocol):
    """Whom a connection tells. Calls come in order and never after `ended` is done."""

    def on_frame(self, connection: Connection, inbound: ServerInbound) -> None:
        """A frame came."""
        ...

    def on_writable(self) -> None:
        """There is room again after `writable` was false."""
        ...


class Connection(picows.WSListener):
    """Frames in, frames out, until `ended`."""

    def __init__(self, owner: Owner, number: int) -> None:
        super().__init__()
        self.number = number
        self.writable = True
        self.heard = True  # something came since the last look
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()  # Hello came, or the end before it
        self.ended: asyncio.Future[Ending] = loop.create_future()
        self._owner = owner
        self._transport: picows.WSTransport | None = None
        self._partial = bytearray()
        self._closed_by: Code | None = None
        self._notice: tuple[Code, int] | None = None

    def note(self, code: Code, retry_after_ms: int) -> None:
        """Remember what the server said; it is the reason of the close that follows, if its code is one that closes."""
        if CATALOGUE[code].close_code is not None:
            self._notice = (code, retry_after_ms)

    def send(self, frame: bytes) -> None:
        """Send one ClientFrame. After the end it goes nowhere, like anything that was still in the socket."""
        if self._transport is not None:
            self._transport.send(picows.WSMsgType.BINARY, frame)

    def ping(self) -> None:
        if self._transport is not None:
            self._transport.send_ping()

    def close(self, graceful: bool = True) -> None:
        """Say goodbye and close, or (not graceful) just drop it. Safe to repeat."""
        if self._transport is not None:
            if graceful:
                self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect(graceful)

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.heard = True
        kind = frame.msg_type
        if kind in (picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION):
            self._data(transport, frame)
        elif kind == picows.WSMsgType.CLOSE:
            self._closed_by = _CODE_OF_CLOSE.get(int(frame.get_close_code()))  # type: ignore[call-overload]  # an int, whatever its stub says
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self._transport = None
        self.ended.set_result(self._ending())
        if not self.greeted.done():
            self.greeted.set_result(None)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._owner.on_writable()

    def _data(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if self._partial or not frame.fin:
            self._partial += payload
            if len(self._partial) > FRAME_BYTES:
                self.close(graceful=False)
            if not frame.fin or len(self._partial) > FRAME_BYTES:
                return
            payload = bytes(self._partial)
            self._partial.clear()
        inbound = parse_server_frame(payload)
        if inbound.malformed:
            transport.send_close(picows.WSCloseCode.PROTOCOL_ERROR)
            transport.disconnect()
            return
        self._owner.on_frame(self, inbound)

    def _ending(self) -> Ending:
        if self._notice is None:
            return Ending(self._closed_by, 0)
        code, retry_after_ms = self._notice
        told = self._closed_by is None or CATALOGUE[code].close_code == CATALOGUE[self._closed_by].close_code
        return Ending(code if told else self._closed_by, retry_after_ms)


async def connect(url: str, credentials: Credentials, owner: Owner, number: int, trust: ssl.SSLContext | None) -> Connection:
    """Open a connection; Hello is still to come.

    Raises `ConnectionRefused` when the server will not have this client, `NotNow` when another try may go better.
    """
    connection = Connection(owner, number)
    opened: list[socket.socket] = []

    async def dial(target: picows.WSParsedURL) -> socket.socket:
        opened.append(await _dial(target.host, target.port))
        return opened[0]

    headers = {"Authorization": credentials.authorization(), "Sec-WebSocket-Protocol": SUBPROTOCOL}
    try:
        await picows.ws_connect(
            lambda: connection,
            url,
            ssl_context=trust,
            websocket_handshake_timeout=None,  # ours includes the time until Hello
            max_frame_size=FRAME_BYTES,
            extra_headers=headers,
            max_redirects=0,
            socket_factory=dial,
        )
    except asyncio.CancelledError:
        # picows leaves a half-made connection to the garbage collector; this ends it, and its transport closes as for any lost peer.
        for half_made in opened:
            with contextlib.suppress(OSError):
                half_made.shutdown(socket.SHUT_RDWR)
        raise
    except picows.WSHandshakeError as error:
        raise _judge(error) from None  # the original carries the request's answer, which is none of a log's business
    except ssl.SSLCertVerificationError as error:
        raise NotNow(f"the server's certificate is not trusted: {error.verify_message}") from error
    except (OSError, picows.WSError) as error:
        raise NotNow(f"the server cannot be reached ({getattr(error, 'strerror', None) or type(error).__name__})") from error
    return connection


async def _dial(host: str, port: int) -> socket.socket:
    """Connect to the first address of a name that takes the call. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        dialled = socket.socket(family, kind, protocol)
        dialled.setblocking(False)
        try:
            await loop.sock_connect(dialled, address)
        except BaseException as error:
            dialled.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return dialled
    raise failure


def _judge(error: picows.WSHandshakeError) -> ConnectionRefused | NotNow:
    if error.response is None:
        return NotNow("the server did not answer the upgrade")
    status = int(error.response.status)
    if 400 <= status < 500 and status not in _WORTH_A_REPEAT:
        return ConnectionRefused(_CODE_OF_STATUS.get(status, Code.INVALID_REQUEST), f"the server answered the upgrade with {status}")
    seconds = error.response.headers.get("Retry-After", "")
    return NotNow(f"the server answered the upgrade with {status}", int(seconds) * 1000 if seconds.isdecimal() else 0)
