"""The HTTP application: the one list of its routes, with what stands around all of them (access, errors, measures)."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Litestar
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig

from veredus.core.messaging.pull import Pull
from veredus.server.http import openapi
from veredus.server.http.auth import check_declared, guard
from veredus.server.http.body import ByteBudget
from veredus.server.http.errors import HANDLERS
from veredus.server.http.metrics import Observed
from veredus.server.http.routes import health, messages, metrics
from veredus.server.http.services import HttpServices

ROUTES: tuple[HTTPRouteHandler, ...] = (
    messages.send_message,
    messages.stored_messages,
    messages.delete_message,
    health.ready,
    health.live,
    health.startup,
)


def create_app(services: HttpServices, more: Sequence[HTTPRouteHandler] = ()) -> Observed:
    """The ASGI application over these ports; `Observed.app` is the Litestar application. Raises RuntimeError on a route without access.

    `more` are routes beside the usual ones.
    """
    limits = services.limits
    state = {
        "services": services,
        "pull": Pull(services.mailboxes, limits),
        "bodies": ByteBudget(limits.http_bodies_bytes, limits.retry_after_ms),
        "answers": ByteBudget(limits.http_answers_bytes, limits.retry_after_ms),
    }
    exposed = (metrics.metrics,) if services.metrics.exposed else ()
    return Observed(_litestar([*ROUTES, *exposed, *more], state, None), services.metrics)


def documented_app() -> Litestar:
    """The same routes over nothing, with what their documentation needs."""
    return _litestar([*ROUTES], {}, openapi.config())


def _litestar(routes: Sequence[HTTPRouteHandler], state: dict[str, object], documentation: OpenAPIConfig | None) -> Litestar:
    app = Litestar(
        route_handlers=list(routes),
        guards=[guard],
        exception_handlers=HANDLERS,  # type: ignore[arg-type]  # the mapping's value type is invariant in the exception
        openapi_config=documentation,
        logging_config=None,
        debug=False,
        state=State(state),
    )
    if documentation is None:
        check_declared(app)
    return app
