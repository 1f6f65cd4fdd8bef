"""What a client may get wrong, or do on purpose: each has its code, none is a crash, nothing of it is stored."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from tests.fakes.http import HttpWorld, body, message, serving
from tests.proto import frames
from veredus.core.limits import Limits
from veredus.server.http.sending import PROTOBUF


@pytest.fixture
def world() -> HttpWorld:
    return HttpWorld()


@pytest.fixture
async def client(world: HttpWorld) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(world) as client:
        yield client


def changed(**fields: object) -> bytes:
    return json.dumps(body(message() | fields)).encode()


GOOD = json.dumps(body()).encode()
BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 422, "INVALID_REQUEST"),
    "garbage": (b"\x00\x01garbage", 422, "INVALID_REQUEST"),
    "cut off": (GOOD[:-1], 422, "INVALID_REQUEST"),
    "something after it": (GOOD + b"{}", 422, "INVALID_REQUEST"),
    "null": (b"null", 422, "INVALID_REQUEST"),
    "a list": (b"[]", 422, "INVALID_REQUEST"),
    "no messages": (json.dumps({"timestamp": 1}).encode(), 422, "INVALID_REQUEST"),
    "no timestamp": (json.dumps({"messages": [message()]}).encode(), 422, "INVALID_REQUEST"),
    "no device at all": (json.dumps({"messages": [], "timestamp": 1}).encode(), 422, "INVALID_DESTINATION"),
    "a text for a number": (changed(destinationDeviceId="1"), 422, "INVALID_REQUEST"),
    "a number for a text": (changed(content=1), 422, "INVALID_REQUEST"),
    "a fraction": (changed(destinationDeviceId=1.5), 422, "INVALID_REQUEST"),
    "a negative number": (changed(destinationDeviceId=-1), 422, "INVALID_REQUEST"),
    "a huge number": (changed(destinationDeviceId=2**32), 422, "INVALID_REQUEST"),
    "a number of a thousand digits": (b'{"messages":[],"timestamp":' + b"9" * 1000 + b"}", 422, "INVALID_REQUEST"),
    "not a number": (b'{"messages":[],"timestamp":NaN}', 422, "INVALID_REQUEST"),
    "a number for a truth": (json.dumps(body(urgent=1)).encode(), 422, "INVALID_REQUEST"),
    "bad base64": (changed(content="@@@@"), 422, "INVALID_REQUEST"),
    "base64 cut off": (changed(content="aGVsbG8"), 422, "INVALID_REQUEST"),
    "NUL in base64": (changed(content="aGVs\0G8="), 422, "INVALID_REQUEST"),
    "a raw NUL in a text": (GOOD.replace(b"aGVs", b"a\x00Vs"), 422, "INVALID_REQUEST"),
    "broken UTF-8 in a text": (GOOD.replace(b"aGVs", b"a\xffVs"), 400, "INVALID_TEXT"),
    "broken UTF-8 in a name": (GOOD.replace(b"urgent", b"\xc3\x28gent"), 400, "INVALID_TEXT"),
    "a lone surrogate": (GOOD.replace(b"aGVs", b"\\ud800"), 422, "INVALID_REQUEST"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, "INVALID_TEXT"),
    "deep nesting where a list belongs": (b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422, "INVALID_REQUEST"),
    "deep nesting where nothing belongs": (b'{"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}", 422, "INVALID_REQUEST"),
    "deep nesting that never ends": (b'{"a":' * 300_000, 422, "INVALID_REQUEST"),
    "sealed beside another type": (json.dumps(body(message(type=6), message(device=2))).encode(), 422, "INVALID_TYPE"),
    "a receipt beside another type": (json.dumps(body(message(), message(device=2, type=5))).encode(), 422, "INVALID_TYPE"),
    "no type beside another": (json.dumps(body(message(), message(device=2, type=0))).encode(), 422, "INVALID_TYPE"),
    "a type that fits no field": (changed(type=2**31), 422, "INVALID_REQUEST"),
    "a receipt": (changed(type=5), 422, "INVALID_TYPE"),
    "a type nobody knows": (changed(type=99), 422, "INVALID_TYPE"),
    "one device twice": (json.dumps(body(message(), message())).encode(), 422, "INVALID_DESTINATION"),
    "device zero": (changed(destinationDeviceId=0), 422, "INVALID_DESTINATION"),
    "more devices than any account has": (json.dumps(body(*(message(device=n) for n in range(1, 18)))).encode(), 413, "TOO_LARGE"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_json_body_is_refused_in_one_shape(world: HttpWorld, client: httpx.AsyncClient, case: str) -> None:
    content, status, name = BODIES[case]
    alice, bob = world.person(), world.person()
    headers = alice.authorization() | {"Content-Type": "application/json"}
    answer = await client.put(f"/v1/messages/{bob.uuid}", content=content, headers=headers)
    assert (answer.status_code, answer.json()["name"]) == (status, name)
    assert set(answer.json()) <= {"code", "name", "reason"}
    assert world.counted(name) == 1
    assert not world.store.mailbox


async def test_what_a_refusal_says_names_the_place_and_not_what_stood_there(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    content = changed(destinationDeviceId="a private word")
    answer = await client.put(f"/v1/messages/{bob.uuid}", content=content, headers=alice.authorization())
    assert answer.json()["reason"].endswith("at $.messages[0].destinationDeviceId")
    assert "private" not in answer.text


PROTOBUFS = {
    "empty": b"",
    "garbage": b"\xff" * 40,
    "a field cut off": frames.Send(client_id=b"c" * 16, type=1).SerializeToString()[:-1],
    "a group that ends otherwise": b"\x0b\x14",
    "field zero": b"\x00\x00",
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x0f",
}


@pytest.mark.parametrize("case", PROTOBUFS)
async def test_a_bad_protobuf_body_is_refused(world: HttpWorld, client: httpx.AsyncClient, case: str) -> None:
    alice, bob = world.person(), world.person()
    headers = alice.authorization() | {"Content-Type": PROTOBUF}
    answer = await client.put(f"/v1/messages/{bob.uuid}", content=PROTOBUFS[case], headers=headers)
    expected = (422, "INVALID_DESTINATION") if case == "empty" else (400, "MALFORMED_FRAME")
    assert (answer.status_code, answer.json()["name"]) == expected


@pytest.mark.parametrize(
    "uuid", ["bob", "%00", "%ff", "1", "+15550100", "{}", "0" * 32, f"urn:uuid:{uuid4()}", f"{{{uuid4()}}}", "x" * 36, "é" * 36]
)
async def test_a_path_that_names_no_uuid_is_refused(world: HttpWorld, client: httpx.AsyncClient, uuid: str) -> None:
    alice = world.person()
    sent = await client.put(f"/v1/messages/{uuid}", json=body(), headers=alice.authorization())
    assert (sent.status_code, sent.json()["name"]) == (422, "INVALID_DESTINATION")
    deleted = await client.delete(f"/v1/messages/{uuid}", headers=alice.authorization())
    assert (deleted.status_code, deleted.json()["name"]) == (422, "INVALID_REQUEST")


async def test_an_account_that_does_not_exist_is_not_found(world: HttpWorld, client: httpx.AsyncClient) -> None:
    answer = await client.put(f"/v1/messages/{uuid4()}", json=body(), headers=world.person().authorization())
    assert (answer.status_code, answer.json()["name"]) == (404, "UNKNOWN_RECIPIENT")


@pytest.mark.parametrize("key", ["", "1", "not-a-uuid", "x" * 5000, str(uuid4()) + "0"])
async def test_a_key_that_is_no_uuid_is_refused(world: HttpWorld, client: httpx.AsyncClient, key: str) -> None:
    alice, bob = world.person(), world.person()
    answer = await client.put(f"/v1/messages/{bob.uuid}", json=body(), headers=alice.authorization() | {"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["name"]) == (422, "INVALID_CLIENT_ID")


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "", str(2**63), "1" * 400, "\0"])
async def test_a_time_that_is_none_is_refused(world: HttpWorld, client: httpx.AsyncClient, after: str) -> None:
    answer = await client.get("/v1/messages", params={"after": after}, headers=world.person().authorization())
    assert (answer.status_code, answer.json()["name"]) == (422, "INVALID_REQUEST")


async def test_another_content_type_is_refused(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    for media_type, status in {"text/xml": 415, "application/jsonx": 415, "APPLICATION/JSON; charset=utf-8": 200}.items():
        headers = alice.authorization() | {"Content-Type": media_type}
        assert (await client.put(f"/v1/messages/{bob.uuid}", content=GOOD, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/v2/messages", 404, "NOT_FOUND"),
        ("GET", "/v1/messages/a/b", 404, "NOT_FOUND"),
        ("GET", "/schema", 404, "NOT_FOUND"),
        ("GET", "/../etc/passwd", 404, "NOT_FOUND"),
        ("PATCH", "/v1/messages", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/messages/x", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/health", 405, "METHOD_NOT_ALLOWED"),
        ("TRACE", "/health", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_unknown_paths_and_methods_have_the_same_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int, name: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["name"]) == (status, name)
    assert ("Allow" in answer.headers) is (status == 405)


async def pieces(size: int, read: list[int]) -> AsyncIterator[bytes]:
    for _ in range(size // 65536 + 1):
        read.append(65536)
        yield b" " * 65536


@pytest.mark.requirement("MSG-5")
async def test_a_body_over_the_limit_is_not_read_to_its_end(world: HttpWorld, client: httpx.AsyncClient) -> None:
    headers = world.person().authorization()
    read: list[int] = []
    announced = await client.put(
        f"/v1/messages/{uuid4()}", content=pieces(10**9, read), headers=headers | {"Content-Length": str(10**9), "Transfer-Encoding": ""}
    )
    assert (announced.status_code, announced.json()["name"], announced.headers["Connection"]) == (413, "MESSAGE_TOO_BIG", "close")
    assert read == []
    unannounced = await client.put(f"/v1/messages/{uuid4()}", content=pieces(10**9, read), headers=headers)
    assert (unannounced.status_code, unannounced.json()["name"]) == (413, "MESSAGE_TOO_BIG")
    assert world.limits.http_body_bytes < sum(read) <= world.limits.http_body_bytes + 2 * 65536


async def test_a_body_that_never_ends_is_given_up_and_its_bytes_are_free_again() -> None:
    world = HttpWorld(Limits(partial_seconds=0.05))
    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with serving(world) as client:
        answer = await client.put(f"/v1/messages/{uuid4()}", content=slow(), headers=world.person().authorization())
        assert (answer.status_code, answer.json()["name"], answer.headers["Connection"]) == (408, "TIMEOUT", "close")
    assert world.app.app.state.bodies.held == 0  # type: ignore[attr-defined]


async def test_more_bodies_than_memory_is_set_aside_for_are_refused_as_busy() -> None:
    world = HttpWorld(Limits(http_bodies_bytes=100_000))
    taken, go = asyncio.Event(), asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b" " * 90_000
        taken.set()
        await go.wait()
        yield GOOD

    async with serving(world) as client:
        alice, bob = world.person(), world.person()
        first = asyncio.ensure_future(client.put(f"/v1/messages/{bob.uuid}", content=half(), headers=alice.authorization()))
        await taken.wait()
        second = await client.put(f"/v1/messages/{bob.uuid}", content=b" " * 20_000 + GOOD, headers=alice.authorization())
        assert (second.status_code, second.json()["name"], second.headers["Retry-After"]) == (503, "BUSY", "1")
        go.set()
        assert (await first).status_code == 200
    assert world.app.app.state.bodies.held == 0  # type: ignore[attr-defined]


class Exploding:
    """A bug whose text holds what people wrote."""

    def accept(self, *_: object) -> None:
        try:
            raise KeyError("a secret of +15550100")
        except KeyError as cause:
            raise RuntimeError("hello from a message") from cause


async def test_a_bug_is_told_without_its_text_and_logged_without_it_too(
    world: HttpWorld, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    world.sends.target = Exploding()
    alice, bob = world.person(), world.person()
    with caplog.at_level(logging.DEBUG):
        answer = await client.put(f"/v1/messages/{bob.uuid}", json=body(), headers=alice.authorization())
    assert (answer.status_code, answer.json()["name"], answer.json()["reason"]) == (500, "INTERNAL", "a fault of the server")
    lines = [record.getMessage() for record in caplog.records if record.name != "httpx"]  # the client's own log
    assert any("fault: RuntimeError from KeyError at " in line for line in lines)
    for private in ("hello", "secret", "15550100", str(alice.uuid), str(bob.uuid), alice.passwords[1]):
        assert private not in str(lines)
        assert private not in answer.text
