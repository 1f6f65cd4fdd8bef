"""Measures of the HTTP edge and the outermost layer that takes them. Labels are routes, never paths: a path names a recipient."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Histogram

from veredus.core import faults
from veredus.core.errors import Code

# Seconds. From a read out of memory to the deadline of a send; dense where the budget of a commit lies (1 to 10 ms).
LOG = logging.getLogger("veredus.http")

BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 30.0)
METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS"})  # a client may send any word: a label may not be any word

HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class HttpMetrics:
    """The edge's series in a registry. `exposed`: whether /metrics is served at all, to callers on this machine."""

    def __init__(self, registry: CollectorRegistry, exposed: bool = False) -> None:
        self.registry = registry
        self.exposed = exposed
        self.seconds = Histogram(
            "veredus_http_request_seconds",
            "From the head of a request to the head of its answer.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._refusals = Counter("veredus_http_refusals", "Requests refused, by code of the catalogue.", ("code",), registry=registry)

    def refused(self, code: Code) -> None:
        self._refusals.labels(code.name).inc()


@dataclass
class _Timed:
    """One request: passes its answer on with timing and closing headers, and counts it once."""

    scope: Scope
    send: Send
    metrics: HttpMetrics
    began: float = field(default_factory=time.perf_counter)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            seconds = time.perf_counter() - self.began
            timing = (b"server-timing", b"total;dur=%.3f" % (seconds * 1000))
            message["headers"] = [*message["headers"], *HEADERS, timing]
            method, handler = str(self.scope.get("method")), self.scope.get("route_handler")
            route = sorted(handler.paths)[0] if handler is not None else "none"
            self.metrics.seconds.labels(method if method in METHODS else "other", route, message["status"]).observe(seconds)
        await self.send(message)


class Observed:
    """An ASGI application with every answer timed. Lets no exception out: the server below would log its text."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, _Timed(scope, send, self._metrics))
        except Exception as error:  # after the answer had begun; returning now makes the server close the connection
            self._metrics.refused(Code.INTERNAL)
            LOG.error("fault: %s", faults.describe(error))
