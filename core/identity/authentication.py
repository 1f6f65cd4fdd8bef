"""From an Authorization header to a principal: the one door that HTTP requests and WebSocket upgrades both come through.

Knows the form of each scheme and which port verifies it. A further kind of credential (session, JWT) is one more row of its table.
Never says more than UNAUTHENTICATED, whatever was wrong.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable

from veredus.core.errors import Code, PeerError
from veredus.core.model import Principal
from veredus.core.ports import Credentials

CHALLENGE = 'Basic realm="veredus", charset="UTF-8"'  # for WWW-Authenticate (RFC 7617)
HEADER_CHARACTERS = 4096  # room for a signed token; a Basic header has about 120

Verifier = Callable[[str], Awaitable[Principal | None]]


class Authenticator:
    """Tells who calls, by the `Authorization` header."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._schemes: dict[str, Verifier] = {"basic": self._basic}

    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal of a header. Raises `PeerError(UNAUTHENTICATED)`, always the same, or `StoreUnavailable`."""
        scheme, _, value = (authorization or "").partition(" ")
        verifier = self._schemes.get(scheme.lower())
        if verifier is None or len(value) > HEADER_CHARACTERS:
            raise PeerError(Code.UNAUTHENTICATED)
        principal = await verifier(value.strip(" "))
        if principal is None:
            raise PeerError(Code.UNAUTHENTICATED)
        return principal

    async def _basic(self, value: str) -> Principal | None:
        try:
            username, colon, password = b64decode(value, validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            return None
        return await self._credentials.basic(username, password) if colon else None
