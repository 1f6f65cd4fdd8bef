"""Success answers and how large ones leave: piece by piece as the caller reads, charged to a budget until the last one is out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

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
    """Bytes that were charged to a budget; given back when they were sent or the caller is gone."""

    def __init__(self, content: bytes, charge: Charge, media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self._charge = charge

    def to_asgi_response(self, app: object, request: object, **rendering: Any) -> ASGIResponse:
        media_type = str(self.media_type)
        return _InPieces(self.content, self._charge, media_type)


class _InPieces(ASGIResponse):
    def __init__(self, content: bytes, charge: Charge, media_type: str) -> None:
        super().__init__(body=content, media_type=media_type)
        self._charge = charge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._charge.end()

    async def send_body(self, send: Send, receive: Receive) -> None:
        body = memoryview(self.body)
        for start in range(0, len(body), PIECE_BYTES):
            await send({"type": "http.response.body", "body": bytes(body[start : start + PIECE_BYTES]), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
