"""/metrics, where the configuration asks for it: for a collector on the same machine."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from veredus.server.http.auth import ACCESS, Access
from veredus.server.http.services import HttpServices


@get("/metrics", opt={ACCESS: Access.LOOPBACK}, include_in_schema=False)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Every series of the registry."""
    services: HttpServices = request.app.state.services
    return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_LATEST)
