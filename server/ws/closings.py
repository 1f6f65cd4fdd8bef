"""Close codes and reasons for WebSocket, from the error catalogue. Owns the fallback for codes that end no connection by themselves."""

from __future__ import annotations

from veredus.core.errors import CATALOGUE, Code

NORMAL = 1000  # RFC 6455 section 7.4.1: the purpose is fulfilled


def close_code(code: Code) -> int:
    """The catalogue's close code. A code without one that ends a connection all the same closes with 4000 + its HTTP status."""
    if code is Code.OK:
        return NORMAL
    entry = CATALOGUE[code]
    return entry.close_code or 4000 + entry.http_status


def closings() -> dict[int, tuple[int, bytes]]:
    """Catalogue number to close code and reason (at most 123 bytes, RFC 6455 section 5.5)."""
    return {int(code): (close_code(code), b"" if code is Code.OK else CATALOGUE[code].reason.encode()) for code in Code}


def endings() -> frozenset[int]:
    """The codes that close a connection by themselves."""
    return frozenset(int(code) for code in Code if CATALOGUE[code].close_code is not None)
