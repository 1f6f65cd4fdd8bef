"""What the documents say of HTTP is so: of the routes, of every refusal and of every command."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.fakes.http import HttpWorld, Person, body, listening, message, serving
from tests.integration.ws_peer import on_uvloop
from tests.needs import needs
from veredus.core.errors import CATALOGUE, Code
from veredus.core.limits import Limits
from veredus.core.model import Reply
from veredus.server.http.openapi import rendered
from veredus.server.http.sending import PROTOBUF
from veredus.server.http.services import Probe

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text())
SEND, READ, DELETE = "/v1/messages/{uuid}", "/v1/messages", "/v1/messages/{guid}"
TIMED = Limits(partial_seconds=0.05, http_answer_seconds=0.05, http_bodies_bytes=3_000_000, http_answers_bytes=0)


def test_the_committed_document_is_what_the_routes_make() -> None:
    assert (ROOT / "docs" / "openapi.json").read_text() == rendered(), "run: python -m veredus.server.http.openapi > docs/openapi.json"


def documented() -> set[tuple[str, str]]:
    """(path, name of code) of every refusal in the document; PUT and POST are one handler."""
    return {
        (path, name)
        for path, operations in DOCUMENT["paths"].items()
        for operation in operations.values()
        for said in operation["responses"].values()
        for name in said.get("content", {}).get("application/json", {}).get("examples", {})
        if name in Code.__members__
    }


class Case:
    """A world with two people, and the request that should be refused."""

    def __init__(self, client: httpx.AsyncClient, world: HttpWorld) -> None:
        self.client, self.world = client, world
        self.alice, self.bob = world.person(), world.person()

    async def send(self, wanted: object = None, to: object = None, **options: object) -> httpx.Response:
        headers = self.alice.authorization() | dict(options.pop("headers", {}))  # type: ignore[call-overload]
        given = options if "content" in options else {"json": wanted or body()}
        return await self.client.put(f"/v1/messages/{to or self.bob.uuid}", headers=headers, **given)  # type: ignore[arg-type]

    async def read(self, **params: object) -> httpx.Response:
        return await self.client.get("/v1/messages", params=params, headers=self.bob.authorization())  # type: ignore[arg-type]

    async def delete(self, guid: object = None) -> httpx.Response:
        return await self.client.delete(f"/v1/messages/{guid or uuid4()}", headers=self.bob.authorization())

    def without_store(self) -> Case:
        self.world.store.available = False
        return self

    def broken(self) -> Case:
        """Every part behind the routes has a bug."""
        self.world.sends.target = self.world.store.page = self.world.store.remove_guid = None  # type: ignore[assignment, method-assign]
        return self

    def refusing(self, code: Code) -> Case:
        """The core refuses as it would when its own limit is reached."""

        class Refusing:
            def accept(self, origin: object, principal: object, sends: object) -> None:
                origin.answer([Reply(b"", code, retry_after_ms=2500)])  # type: ignore[attr-defined]

        self.world.sends.target = Refusing()
        return self

    def gated(self) -> Case:
        self.world.store.before_commit = asyncio.Event()
        return self

    async def closed(self) -> Case:
        await self.world.delivery.close()
        return self

    async def stranger(self, method: str, path: str) -> httpx.Response:
        return await self.client.request(method, path)

    async def twice(self) -> httpx.Response:
        key = {"Idempotency-Key": str(uuid4())}
        await self.send(headers=key)
        return await self.send(body(message(b"other")), headers=key)

    async def probe(self, path: str, *probes: Probe) -> httpx.Response:
        self.world.health.failing_parts = dict.fromkeys(probes, ("store",))
        return await self.client.get(path)


async def never() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


Request = Callable[[Case], Awaitable[httpx.Response]]


async def shutting_down(case: Case) -> httpx.Response:
    return await (await case.closed()).send()


async def busy_reading(case: Case) -> httpx.Response:
    await case.send()
    return await case.read()


REFUSALS: dict[tuple[str, str], Request] = {
    (SEND, "UNAUTHENTICATED"): lambda case: case.stranger("PUT", f"/v1/messages/{case.bob.uuid}"),
    (SEND, "UNKNOWN_RECIPIENT"): lambda case: case.send(to=uuid4()),
    (SEND, "DEVICES_MISMATCH"): lambda case: case.send(body(message(device=3))),
    (SEND, "DEVICES_STALE"): lambda case: case.send(body(message(destinationRegistrationId=1))),
    (SEND, "INVALID_TEXT"): lambda case: case.send(content=b'"\xff"'),
    (SEND, "MALFORMED_FRAME"): lambda case: case.send(content=b"\xff", headers={"Content-Type": PROTOBUF}),
    (SEND, "MESSAGE_TOO_BIG"): lambda case: case.send(content=b" " * 2_500_000),
    (SEND, "TOO_LARGE"): lambda case: case.send(body(message(b"x" * 262_145))),
    (SEND, "UNSUPPORTED_DATA"): lambda case: case.send(content=b"", headers={"Content-Type": "text/plain"}),
    (SEND, "TIMEOUT"): lambda case: case.send(content=never()),
    (SEND, "INVALID_REQUEST"): lambda case: case.send(content=b"?"),
    (SEND, "INVALID_DESTINATION"): lambda case: case.send(to="bob"),
    (SEND, "INVALID_CLIENT_ID"): lambda case: case.send(headers={"Idempotency-Key": "1"}),
    (SEND, "INVALID_TYPE"): lambda case: case.send(body(message() | {"type": 5})),
    (SEND, "IDEMPOTENCY_MISMATCH"): lambda case: case.twice(),
    (SEND, "RATE_LIMITED"): lambda case: case.refusing(Code.RATE_LIMITED).send(),
    (SEND, "BUSY"): lambda case: case.refusing(Code.BUSY).send(),
    (SEND, "UNAVAILABLE"): lambda case: case.without_store().send(),
    (SEND, "RESULT_UNKNOWN"): lambda case: case.gated().send(),
    (SEND, "SHUTTING_DOWN"): shutting_down,
    (SEND, "INTERNAL"): lambda case: case.broken().send(),
    (READ, "UNAUTHENTICATED"): lambda case: case.stranger("GET", "/v1/messages"),
    (READ, "INVALID_REQUEST"): lambda case: case.read(after="yesterday"),
    (READ, "BUSY"): busy_reading,
    (READ, "UNAVAILABLE"): lambda case: case.without_store().read(),
    (READ, "INTERNAL"): lambda case: case.broken().read(),
    (DELETE, "UNAUTHENTICATED"): lambda case: case.stranger("DELETE", f"/v1/messages/{uuid4()}"),
    (DELETE, "NOT_FOUND"): lambda case: case.delete(),
    (DELETE, "INVALID_REQUEST"): lambda case: case.delete("1"),
    (DELETE, "UNAVAILABLE"): lambda case: case.without_store().delete(),
    (DELETE, "INTERNAL"): lambda case: case.broken().delete(),
    ("/health", "UNAVAILABLE"): lambda case: case.probe("/health", Probe.READY),
    ("/health/ready", "UNAVAILABLE"): lambda case: case.probe("/health/ready", Probe.READY),
    ("/health/startup", "UNAVAILABLE"): lambda case: case.probe("/health/startup", Probe.STARTUP),
}


def test_every_documented_refusal_has_a_request_that_meets_it() -> None:
    assert set(REFUSALS) == documented()


@pytest.mark.parametrize(("path", "name"), REFUSALS)
async def test_a_documented_refusal_happens_with_its_status_and_headers(path: str, name: str) -> None:
    world = HttpWorld(TIMED)
    async with serving(world) as client:
        answer = await REFUSALS[path, name](Case(client, world))
    entry = CATALOGUE[Code[name]]
    assert (answer.json()["name"], answer.json()["code"], answer.status_code) == (name, Code[name], entry.http_status)
    assert ("Retry-After" in answer.headers) is entry.retryable
    assert ("retryAfterMs" in answer.json()) is entry.retryable
    if name in ("RATE_LIMITED", "BUSY") and path == SEND:
        assert (answer.headers["Retry-After"], answer.json()["retryAfterMs"]) == ("3", 2500)
    assert world.counted(name) == 1


@pytest.mark.requirement("INF-17")
@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/startup"])
async def test_health_is_200_and_names_what_fails_otherwise(path: str) -> None:
    world = HttpWorld()
    async with serving(world) as client:
        assert (await client.get(path)).json() == {"status": "ok"}
        world.health.failing_parts = dict.fromkeys(Probe, ("store", "shutdown"))
        failing = await client.get(path)
        assert (failing.status_code, failing.json()["failing"]) == (503, ["store", "shutdown"])


def shape(value: object) -> object:
    """An answer without what differs from run to run: times, and UUIDs but for their form."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value):
        return "a UUID"
    return "a time" if isinstance(value, int) and value > 1_600_000_000_000 else value


def login(person: Person) -> str:
    return f"{person.uuid}.1:{person.passwords[1]}"


@needs("curl")
@on_uvloop
async def test_the_commands_of_the_page_do_what_it_says() -> None:
    page = (ROOT / "docs" / "http.md").read_text()
    pairs = re.findall(r"```sh\n(.*?)```\n```json\n(.*?)```", page, re.DOTALL)
    assert len(pairs) == page.count("```sh") == page.count("```json") > 5
    world = HttpWorld()
    alice, bob = world.person(), world.person()
    async with listening(world) as url:
        environment = {
            "URL": url,
            "ALICE": login(alice),
            "BOB": login(bob),
            "BOB_UUID": str(bob.uuid),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        for command, expected in pairs:
            process = await asyncio.create_subprocess_exec("sh", "-euc", command, stdout=asyncio.subprocess.PIPE, env=environment)
            output, _ = await process.communicate()
            assert process.returncode == 0
            assert shape(json.loads(output)) == shape(json.loads(expected)), command
    assert not world.store.of(bob.mailbox())
