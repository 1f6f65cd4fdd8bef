"""Who may call what: every route says so, and whoever is not let in learns nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import msgspec
import pytest
from litestar import get
from litestar.handlers import HTTPRouteHandler

from tests.fakes.http import HttpWorld, Person, body, message, serving
from veredus.core.errors import Code
from veredus.server.http.app import create_app
from veredus.server.http.auth import ACCESS, Access, handlers

DECLARED = {
    ("PUT", "/v1/messages/{uuid:str}"): Access.DEVICE,
    ("POST", "/v1/messages/{uuid:str}"): Access.DEVICE,
    ("DELETE", "/v1/messages/{guid:str}"): Access.DEVICE,
    ("GET", "/v1/messages"): Access.DEVICE,
    ("GET", "/health"): Access.ANYONE,
    ("GET", "/health/live"): Access.ANYONE,
    ("GET", "/health/ready"): Access.ANYONE,
    ("GET", "/health/startup"): Access.ANYONE,
    ("GET", "/metrics"): Access.LOOPBACK,
}
OF_DEVICES = sorted(key for key, access in DECLARED.items() if access is Access.DEVICE)


@pytest.fixture
def world() -> HttpWorld:
    return HttpWorld()


@pytest.fixture
async def client(world: HttpWorld) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(world) as client:
        yield client


def test_these_are_all_routes_and_who_may_call_them() -> None:
    app = HttpWorld(metrics_exposed=True).app.app
    found = {(method, path): handler.opt[ACCESS] for path, handler in handlers(app) for method in handler.http_methods}  # type: ignore[arg-type]
    assert found == DECLARED


def _silent(**options: object) -> HTTPRouteHandler:
    @get("/silent", sync_to_thread=False, **options)  # type: ignore[arg-type]
    def silent() -> str:
        return "secret"

    return silent


@pytest.mark.parametrize("options", [{}, {"opt": {ACCESS: "anyone at all"}}, {"opt": {ACCESS: None}}])
def test_a_route_that_does_not_say_who_may_call_it_stops_the_start(world: HttpWorld, options: dict[str, object]) -> None:
    with pytest.raises(RuntimeError, match="without declared access: /silent"):
        create_app(world.services, [_silent(**options)])


async def test_a_route_that_comes_about_later_without_access_is_refused_at_the_call(world: HttpWorld, client: httpx.AsyncClient) -> None:
    world.app.app.register(_silent())  # type: ignore[attr-defined]
    refused = await client.get("/silent", headers=world.person().authorization())
    assert (refused.status_code, refused.json()["name"]) == (403, "FORBIDDEN")


async def test_nobody_declared_options(client: httpx.AsyncClient) -> None:
    refused = await client.options("/v1/messages")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET")


def _wrong(world: HttpWorld, bob: Person, kind: str) -> dict[str, str]:
    def basic(username: str, password: str) -> dict[str, str]:
        return {"Authorization": "Basic " + b64encode(f"{username}:{password}".encode()).decode()}

    if kind == "revoked device":
        name = (bob.uuid.bytes, 1)
        world.rows[name] = msgspec.structs.replace(world.rows[name], revoked=True)
    return {
        "nothing": {},
        "empty header": {"Authorization": ""},
        "unknown scheme": {"Authorization": "Bearer abc"},
        "bad base64": {"Authorization": "Basic ????"},
        "not UTF-8": {"Authorization": "Basic //79/A=="},
        "no colon": {"Authorization": "Basic " + b64encode(str(bob.uuid).encode()).decode()},
        "unknown account": basic(f"{uuid4()}.1", bob.passwords[1]),
        "unknown device": basic(f"{bob.uuid}.3", bob.passwords[1]),
        "wrong password": basic(f"{bob.uuid}.1", bob.passwords[1].lower()),
        "password of another device": basic(f"{bob.uuid}.1", bob.passwords[2]),
        "revoked device": bob.authorization(),
        "NUL": basic(f"{bob.uuid}.1\0", bob.passwords[1]),
        "far too long": {"Authorization": "Basic " + "A" * 100_000},
    }[kind]


KINDS = [
    *("nothing", "empty header", "unknown scheme", "bad base64", "not UTF-8", "no colon", "NUL", "far too long"),
    *("unknown account", "unknown device", "wrong password", "password of another device", "revoked device"),
]


@pytest.mark.requirement("MSG-3")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "path"), OF_DEVICES)
async def test_every_wrong_credential_gets_the_same_answer_on_every_route(
    world: HttpWorld, client: httpx.AsyncClient, kind: str, method: str, path: str
) -> None:
    bob = world.person(devices=2)
    url = path.replace("{uuid:str}", str(bob.uuid)).replace("{guid:str}", str(uuid4()))
    wanted = body(message(device=1), message(device=2)) if method in ("PUT", "POST") else None
    answer = await client.request(method, url, json=wanted, headers=_wrong(world, bob, kind))
    timed = answer.headers.pop("Server-Timing")
    assert timed.startswith("total;dur=")
    assert (answer.status_code, dict(answer.headers)) == (
        401,
        {
            "www-authenticate": 'Basic realm="veredus", charset="UTF-8"',
            "content-type": "application/json",
            "content-length": "83",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        },
    )
    assert answer.json() == {"code": Code.UNAUTHENTICATED, "name": "UNAUTHENTICATED", "reason": "credentials are missing or not valid"}
    assert not world.store.mailbox
    assert world.counted("UNAUTHENTICATED") == 1


async def test_a_wrong_caller_is_refused_before_his_body_is_read(world: HttpWorld, client: httpx.AsyncClient) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    answer = await client.put(f"/v1/messages/{uuid4()}", content=untouched())
    assert answer.status_code == 401


async def test_metrics_are_there_when_asked_for_and_for_this_machine_alone() -> None:
    async with serving(HttpWorld()) as client:
        assert (await client.get("/metrics")).status_code == 404
    world = HttpWorld(metrics_exposed=True)
    async with serving(world) as client:
        shown = await client.get("/metrics")
        assert shown.status_code == 200
        assert "veredus_http_request_seconds" in shown.text
        assert (await client.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})).status_code == 403
    elsewhere = httpx.ASGITransport(app=world.app, client=("203.0.113.7", 1))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://veredus.test") as client:
        assert (await client.get("/metrics")).json()["name"] == "FORBIDDEN"


async def test_labels_of_metrics_are_routes_and_name_nobody(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    await client.put(f"/v1/messages/{bob.uuid}", json=body(), headers=alice.authorization())
    await client.request("BREW", f"/v1/messages/{bob.uuid}")
    await client.get("/nowhere")
    labels = {tuple(sorted(sample.labels.items())) for metric in world.metrics.registry.collect() for sample in metric.samples}
    shown = str(labels)
    assert str(bob.uuid) not in shown
    assert str(alice.uuid) not in shown
    assert "BREW" not in shown
    assert {dict(one).get("route") for one in labels} == {None, "none", "/v1/messages/{uuid:str}"}
