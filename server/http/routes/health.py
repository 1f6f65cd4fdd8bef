"""/health: for balancers and supervisors. Open to anyone, so it names failing parts and nothing else."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from msgspec import UNSET

from veredus.core.errors import Code
from veredus.server.http.answers import Healthy
from veredus.server.http.auth import ACCESS, Access
from veredus.server.http.errors import ErrorBody, refusal
from veredus.server.http.openapi import answer, refusals
from veredus.server.http.services import HttpServices, Probe

WELL = answer(200, Healthy, Healthy(), "All is well.")
ANSWERS = WELL | refusals(Code.UNAVAILABLE)


async def _probed(request: Request[Any, Any, Any], probe: Probe) -> Response[Any]:
    services: HttpServices = request.app.state.services
    failing = list(await services.health.failing(probe))
    if not failing:
        return Response(Healthy())
    services.metrics.refused(Code.UNAVAILABLE)
    body = ErrorBody(code=Code.UNAVAILABLE, name=Code.UNAVAILABLE.name, reason=f"not {probe}", retry_after_ms=UNSET, failing=failing)
    return refusal(body)


@get(["/health", "/health/ready"], opt={ACCESS: Access.ANYONE}, responses=ANSWERS, summary="May this worker be given work?")
async def ready(request: Request[Any, Any, Any]) -> Response[Any]:
    """503 while it starts, while it goes away, and while a part it cannot do without fails."""
    return await _probed(request, Probe.READY)


@get("/health/live", opt={ACCESS: Access.ANYONE}, responses=WELL, summary="Does this worker answer?")
async def live(request: Request[Any, Any, Any]) -> Response[Any]:
    """Looks at nothing outside the process."""
    return await _probed(request, Probe.LIVE)


@get("/health/startup", opt={ACCESS: Access.ANYONE}, responses=ANSWERS, summary="Has this worker come up?")
async def startup(request: Request[Any, Any, Any]) -> Response[Any]:
    """503 until it has."""
    return await _probed(request, Probe.STARTUP)
