"""Every refusal over HTTP, translated from the catalogue in one shape. Invents no code and shows nothing of the inside."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import UNSET, UnsetType

from veredus.core import faults
from veredus.core.errors import CATALOGUE, Code, VeredusError
from veredus.core.identity.authentication import CHALLENGE
from veredus.core.model import Reply

if TYPE_CHECKING:
    from veredus.server.http.metrics import HttpMetrics

LOG = logging.getLogger("veredus.http")

# What the framework itself refuses, in the catalogue's words. Anything else it may raise is a fault of ours.
OF_THE_FRAMEWORK = {
    400: Code.INVALID_REQUEST,
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.MESSAGE_TOO_BIG,
    415: Code.UNSUPPORTED_DATA,
    422: Code.INVALID_REQUEST,
}
CLOSING = {Code.MESSAGE_TOO_BIG, Code.TOO_LARGE, Code.TIMEOUT}  # the rest of such a body is not worth reading: hang up


class ErrorBody(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The body of every answer that is not a success."""

    code: int
    name: str
    reason: str
    retry_after_ms: int | UnsetType = UNSET
    missing_devices: list[int] | UnsetType = UNSET
    extra_devices: list[int] | UnsetType = UNSET
    stale_devices: list[int] | UnsetType = UNSET
    failing: list[str] | UnsetType = UNSET


def refusal(body: ErrorBody, headers: dict[str, str] | None = None) -> Response[ErrorBody]:
    """The answer for a body, with the status and the headers its code asks for."""
    code = Code(body.code)
    said = dict(headers or {})
    if code is Code.UNAUTHENTICATED:
        said["WWW-Authenticate"] = CHALLENGE
    if CATALOGUE[code].retryable:
        retry_after_ms = body.retry_after_ms or 1000  # a second: what the store's own refusals say
        body.retry_after_ms = retry_after_ms
        said["Retry-After"] = str(max(1, math.ceil(retry_after_ms / 1000)))
    if code in CLOSING:
        said["Connection"] = "close"
    return Response(body, status_code=CATALOGUE[code].http_status, headers=said, media_type="application/json")


def refused_send(reply: Reply) -> Response[ErrorBody]:
    """The answer to a send that was refused, with the devices to put right: 409 names missing and extra ones, 410 stale ones."""
    body = ErrorBody(
        code=reply.code, name=reply.code.name, reason=CATALOGUE[reply.code].reason, retry_after_ms=reply.retry_after_ms or UNSET
    )
    if reply.code is Code.DEVICES_MISMATCH:
        body.missing_devices, body.extra_devices = list(reply.missing_devices), list(reply.extra_devices)
    elif reply.code is Code.DEVICES_STALE:
        body.stale_devices = list(reply.stale_devices)
    return refusal(body)


def _metrics(request: Request) -> HttpMetrics:  # type: ignore[type-arg]
    metrics: HttpMetrics = request.app.state.services.metrics
    return metrics


def on_refusal(request: Request, error: VeredusError) -> Response[ErrorBody]:  # type: ignore[type-arg]
    """What the core or a route refused."""
    _metrics(request).refused(error.code)
    return refusal(ErrorBody(code=error.code, name=error.code.name, reason=error.detail, retry_after_ms=error.retry_after_ms or UNSET))


def on_framework(request: Request, error: HTTPException) -> Response[ErrorBody]:  # type: ignore[type-arg]
    """What the framework refused before a route was reached. Its texts are not shown: they repeat what was asked for."""
    code = OF_THE_FRAMEWORK.get(error.status_code)
    if code is None:
        return on_fault(request, error)
    _metrics(request).refused(code)
    allowed = [method for method in (error.headers or {}).get("allow", "").split(", ") if method not in ("", "OPTIONS")]
    return refusal(
        ErrorBody(code=code, name=code.name, reason=CATALOGUE[code].reason), {"Allow": ", ".join(sorted(allowed))} if allowed else None
    )


def on_fault(request: Request, error: Exception) -> Response[ErrorBody]:  # type: ignore[type-arg]
    """A bug of ours: counted, logged without its text, told without a word of what it was."""
    LOG.error("fault: %s", faults.describe(error))
    return on_refusal(request, VeredusError(Code.INTERNAL))


HANDLERS = {VeredusError: on_refusal, HTTPException: on_framework, Exception: on_fault}
