"""Who may call what. Every route declares it; one that does not is refused at the start and, should it come about later, at each call."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from veredus.core.errors import Code, PeerError
from veredus.core.model import Principal

ACCESS = "access"
PRINCIPAL = "principal"
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")  # a proxy on this machine speaks for someone else

Connection = ASGIConnection[Any, Any, Any, Any]


class Access(StrEnum):
    """Who may call a route."""

    ANYONE = "anyone"
    DEVICE = "device"  # an authenticated device of an account
    LOOPBACK = "loopback"  # someone on this machine


async def guard(connection: Connection, handler: BaseRouteHandler) -> None:
    """Lets a caller through or refuses him, before anything of the body is read."""
    access = handler.opt.get(ACCESS)
    if access is Access.ANYONE:
        return
    if access is Access.LOOPBACK and _from_here(connection):
        return
    if access is Access.DEVICE:
        authorization = connection.headers.get("authorization")
        connection.scope["state"][PRINCIPAL] = await connection.app.state.services.authenticator.authenticate(authorization)
        return
    if connection.scope.get("method") == "OPTIONS":
        # The framework answers OPTIONS by itself on every path. Nobody declared it, so nobody has it.
        methods = [method for route in connection.app.routes if route.path in handler.paths for method in getattr(route, "methods", ())]
        raise MethodNotAllowedException(headers={"allow": ", ".join(methods)})
    raise PeerError(Code.FORBIDDEN)


def principal(connection: Connection) -> Principal:
    """Who calls, on a route of DEVICE access."""
    found: Principal = connection.scope["state"][PRINCIPAL]
    return found


def handlers(app: Litestar) -> Iterator[tuple[str, HTTPRouteHandler]]:
    """Every path with each of its handlers, but for those the framework adds for OPTIONS."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if handler.http_methods != {"OPTIONS"}:
                yield route.path, handler


def check_declared(app: Litestar) -> None:
    """Raises RuntimeError when a route does not say who may call it."""
    silent = [path for path, handler in handlers(app) if not isinstance(handler.opt.get(ACCESS), Access)]
    if silent:
        raise RuntimeError(f"routes without declared access: {', '.join(silent)}")


def _from_here(connection: Connection) -> bool:
    if any(name in connection.headers for name in FORWARDED):
        return False
    try:
        return connection.client is not None and ip_address(connection.client.host).is_loopback
    except ValueError:  # a Unix socket has no address
        return False
