"""Reads request bodies within limits of size, time and memory. Refuses before it reads where the head already tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from litestar import Request

from veredus.core.errors import Code, PeerError
from veredus.core.limits import Limits


class ByteBudget:
    """Bytes that may be held at a time; what does not fit is refused as BUSY, never queued (P6)."""

    def __init__(self, limit: int, retry_after_ms: int) -> None:
        self.limit = limit
        self.held = 0
        self._retry_after_ms = retry_after_ms

    def take(self, size: int) -> None:
        """Charge `size` bytes. Raises `PeerError(BUSY)` and charges nothing when there is no room."""
        if self.held + size > self.limit:
            raise PeerError(Code.BUSY, retry_after_ms=self._retry_after_ms)
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size

    @contextmanager
    def charge(self) -> Iterator[Charge]:
        """A charge that grows and ends with the block."""
        charge = Charge(self)
        try:
            yield charge
        finally:
            charge.end()


class Charge:
    """What one request holds of the budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0

    def grow(self, size: int) -> None:
        self._budget.take(size)
        self._size += size

    def end(self) -> None:
        """Give all of it back. Safe to repeat."""
        self._budget.give_back(self._size)
        self._size = 0


@asynccontextmanager
async def held_body(request: Request[Any, Any, Any], budget: ByteBudget, limits: Limits) -> AsyncIterator[bytes]:
    """The whole body, charged to the budget until the block ends.

    Raises PeerError: MESSAGE_TOO_BIG above `http_body_bytes` (from Content-Length alone when there is one), TIMEOUT when it has not ended
    in `partial_seconds`, BUSY without room, INVALID_REQUEST when the caller left half-way.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limits.http_body_bytes:
        raise PeerError(Code.MESSAGE_TOO_BIG)
    with budget.charge() as charge:
        try:
            async with asyncio.timeout(limits.partial_seconds):
                body = await _read(request, charge, limits.http_body_bytes)
        except TimeoutError:
            raise PeerError(Code.TIMEOUT, retry_after_ms=limits.retry_after_ms) from None
        yield body


async def _read(request: Request[Any, Any, Any], charge: Charge, limit: int) -> bytes:
    body = bytearray()
    while True:
        message: Any = await request.receive()
        if message["type"] != "http.request":
            raise PeerError(Code.INVALID_REQUEST, "the body broke off")
        chunk = message.get("body", b"")
        if len(body) + len(chunk) > limit:
            raise PeerError(Code.MESSAGE_TOO_BIG)
        charge.grow(len(chunk))
        body += chunk
        if not message.get("more_body", False):
            return bytes(body)
