"""Listening sockets and TLS for the port. Owns their options and the reasons for them; never accepts a connection."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

# The receive window of a connection (the kernel doubles it). Fixed, because the kernel would let one that we do not read hold megabytes;
# large enough for a message at the limit of 256 KiB in two or three round trips.
RECEIVE_BUFFER_BYTES = 128 * 1024
# Connections that wait to be accepted: a reconnect wave after a restart.
BACKLOG = 4096  # as `net.core.somaxconn`, which caps it; repeated to asyncio, whose own default of 100 would replace it


def listen(host: str, port: int) -> list[socket.socket]:
    """One bound, listening socket per address of `host` (empty: all). Several workers may listen on the same port (SO_REUSEPORT).

    Port 0 takes a free one, the same for all addresses. Raises OSError.
    """
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in _addresses(host, port):
            chosen = sockets[0].getsockname()[1] if sockets and port == 0 else address[1]
            sockets.append(_listen_one(family, kind, protocol, (address[0], chosen, *address[2:])))
    except OSError:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))  # type: ignore[arg-type]


def _listen_one(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)  # before listen(): accepted ones inherit it
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server context for TLS 1.3 and nothing older. Raises OSError or ssl.SSLError when the files do not serve."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context
