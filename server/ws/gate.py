"""The gate between an upgrade request and a connection: what is asked, who answers, what a refusal says.

Owns the vocabulary and the gate that asks the Authenticator. Never looks at sockets, and decides nothing but who is let in: the form of a
request is judged in `upgrade`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from veredus.core.errors import CATALOGUE, Code, PeerError, StoreUnavailable
from veredus.core.identity.authentication import CHALLENGE, Authenticator
from veredus.core.model import Principal
from veredus.core.ports import Peer, Wire


class UpgradeRequest(msgspec.Struct, frozen=True):
    """The head of a request that wants to become a WebSocket. Header names are lower case; values are as they came."""

    method: bytes
    target: bytes
    version: str  # "1.1"
    headers: tuple[tuple[bytes, bytes], ...]

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    def values(self, name: bytes) -> list[bytes]:
        """All values of a header, in order."""
        return [value for known, value in self.headers if known == name]

    def tokens(self, name: bytes) -> list[bytes]:
        """The items of a header that is a comma-separated list, however many lines it took."""
        return [item.strip() for value in self.values(name) for item in value.split(b",") if item.strip()]


class Refusal(msgspec.Struct, frozen=True):
    """An answer of the catalogue instead of 101. `status` and `detail` replace the catalogue's where HTTP has a better fitting one."""

    code: Code
    detail: str = ""
    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    retry_after_ms: int = 0

    @property
    def http_status(self) -> int:
        return self.status or CATALOGUE[self.code].http_status

    @property
    def reason(self) -> str:
        return self.detail or CATALOGUE[self.code].reason


class Admission(msgspec.Struct, frozen=True):
    """The caller may connect, as this principal."""

    principal: Principal


class Gate(Protocol):
    """Decides who may connect and what stands behind a connection."""

    async def admit(self, request: UpgradeRequest) -> Admission | Refusal:
        """Judge the caller. Reading is paused meanwhile. Must not raise."""
        ...

    def open(self, principal: Principal, wire: Wire) -> Peer:
        """The 101 is on its way: give the receiving half. The wire may be used at once."""
        ...


class AuthenticatingGate:
    """Lets in whom `Authenticator` knows by the Authorization header: the same door that HTTP requests come through.

    Whatever is wrong with the header, the answer is the same.
    """

    def __init__(self, authenticator: Authenticator, opener: Callable[[Principal, Wire], Peer]) -> None:
        self._authenticator = authenticator
        self._opener = opener

    async def admit(self, request: UpgradeRequest) -> Admission | Refusal:
        headers = request.values(b"authorization")
        try:
            header = headers[0].decode("latin-1") if len(headers) == 1 else None
            return Admission(await self._authenticator.authenticate(header))
        except StoreUnavailable as refused:
            return Refusal(Code.UNAVAILABLE, retry_after_ms=refused.retry_after_ms)
        except PeerError as refused:
            return Refusal(refused.code, headers=((b"WWW-Authenticate", CHALLENGE.encode()),))

    def open(self, principal: Principal, wire: Wire) -> Peer:
        return self._opener(principal, wire)
