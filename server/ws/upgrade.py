"""Judges the form of an upgrade request (RFC 6455 section 4.2.1 and our own paths) and writes refusals.

Owns the rules of the handshake, as pure functions. Never asks who the caller is: that is the gate's.
"""

from __future__ import annotations

import base64
import binascii
import http
import math

import msgspec

from veredus.core.errors import Code
from veredus.server.ws.gate import Refusal, UpgradeRequest

PATH = b"/v1/websocket"
ECHO_PATH = b"/v1/echo"
SUBPROTOCOL = "signalservice"  # WS-1


class Handshake(msgspec.Struct, frozen=True):
    """A well-formed upgrade: what the 101 needs."""

    echo: bool
    key: bytes
    subprotocol: str | None


class Rules(msgspec.Struct, frozen=True):
    """What this port takes. Origins are compared as browsers write them: scheme, host and port in lower case."""

    origins: frozenset[bytes] = frozenset()
    echo: bool = False

    def is_websocket_path(self, path: bytes) -> bool:
        return path == PATH or (self.echo and path == ECHO_PATH)

    def judge(self, request: UpgradeRequest) -> Handshake | Refusal:
        """The handshake, or the first rule the request breaks."""
        if not self.is_websocket_path(request.path):
            return Refusal(Code.NOT_FOUND)
        if request.method != b"GET":
            return Refusal(Code.METHOD_NOT_ALLOWED, headers=((b"Allow", b"GET"),))
        broken = _broken_form(request)
        if broken is not None:
            return broken
        origins = request.values(b"origin")
        if origins and (len(origins) > 1 or origins[0].lower() not in self.origins):
            return Refusal(Code.FORBIDDEN)
        key = request.values(b"sec-websocket-key")[0]
        if request.path == ECHO_PATH:
            return Handshake(echo=True, key=key, subprotocol=None)
        if SUBPROTOCOL.encode() not in request.tokens(b"sec-websocket-protocol"):
            return _violation(f"offer the subprotocol {SUBPROTOCOL}")
        return Handshake(echo=False, key=key, subprotocol=SUBPROTOCOL)


def _broken_form(request: UpgradeRequest) -> Refusal | None:
    upgrades = [token.lower() for token in request.tokens(b"upgrade")]
    connections = [token.lower() for token in request.tokens(b"connection")]  # a list: Firefox sends `keep-alive, Upgrade`
    if request.version != "1.1":
        return _violation("an upgrade needs HTTP/1.1")
    if b"websocket" not in upgrades or b"upgrade" not in connections:
        return _violation("this path speaks WebSocket", 426, (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
    if request.values(b"transfer-encoding") or request.values(b"content-length") not in ([], [b"0"]):
        return _violation("an upgrade has no body")
    if len(request.values(b"host")) != 1:
        return _violation("an upgrade has one Host")
    if request.values(b"sec-websocket-version") != [b"13"]:
        return _violation("the version of WebSocket is 13", 426, (b"Sec-WebSocket-Version", b"13"))
    keys = request.values(b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return _violation("Sec-WebSocket-Key is 16 bytes in base64")
    return None


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def _violation(detail: str, status: int = 0, *headers: tuple[bytes, bytes]) -> Refusal:
    return Refusal(Code.PROTOCOL_VIOLATION, detail, status, headers)


def encode(refusal: Refusal) -> bytes:
    """A refusal as an HTTP response after which the connection closes."""
    status = refusal.http_status
    body = msgspec.json.encode({"code": int(refusal.code), "name": refusal.code.name, "reason": refusal.reason})
    lines = [b"HTTP/1.1 %d %b" % (status, http.HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % header for header in refusal.headers]
    if refusal.retry_after_ms:
        lines.append(b"Retry-After: %d" % math.ceil(refusal.retry_after_ms / 1000))
    if not any(name == b"Connection" for name, _ in refusal.headers):
        lines.append(b"Connection: close")
    lines += [b"Content-Type: application/json", b"Cache-Control: no-store", b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)
