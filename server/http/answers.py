"""Success answers and how large ones leave: piece by piece as the caller reads, charged to a budget until the last one is out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from veredus.core.limits import Limits
from veredus.server.http.body import Charge
from veredus.server.http.envelope import StoredMessage

PIECE_BYTES = 64 * 1024  # what the server below buffers before it makes us wait for a slow reader


class SentMessage(msgspec.Struct, rename="camel"):
    """The message is durable."""

    needs_sync: bool
    guid: UUID
    server_timestamp: int


class StoredMessages(msgspec.Struct):
    """Messages in mailbox order. `more`: there may be others: acknowledge these and ask again."""

    messages: list[StoredMessage]
    more: bool


class Healthy(msgspec.Struct):
    """All is well."""

    status: str = "ok"


class ChargedResponse(Response[bytes]):
    """Bytes that were charged to a budget: given back when they were sent, the caller is gone, or he was too slow."""

    def __init__(self, content: bytes, charge: Charge, media_type: str, limits: Limits, gave_up: Callable[[], None]) -> None:
        super().__init__(content, media_type=media_type)
        self._charge = charge
        # Whoever may send a message of this size in so long may read one in so long.
        self._seconds = limits.partial_seconds * max(1.0, len(content) / limits.message_bytes)
        self._gave_up = gave_up

    def to_asgi_response(self, app: object, request: object, **rendering: Any) -> ASGIResponse:
        return _InPieces(self.content, str(self.media_type), self.send_pieces)

    async def send_pieces(self, body: bytes, send: Send) -> None:
        """Send within the time that the size allows, else leave the answer unfinished: the server below hangs up."""
        try:
            async with asyncio.timeout(self._seconds):
                for start in range(0, len(body), PIECE_BYTES):
                    await send({"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            self._gave_up()
        finally:
            self._charge.end()


class _InPieces(ASGIResponse):
    def __init__(self, content: bytes, media_type: str, pieces: Callable[[bytes, Send], Awaitable[None]]) -> None:
        super().__init__(body=content, media_type=media_type)
        self._pieces = pieces

    async def send_body(self, send: Send, receive: Receive) -> None:
        await self._pieces(self.body, send)
