"""Sending, reading and deleting messages over HTTP, against the real core on a store in memory."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest

from tests.fakes.http import HttpWorld, Person, body, message, serving
from tests.proto import envelope, frames
from veredus.core.limits import Limits
from veredus.core.messaging.pull import OVERLAP_MS
from veredus.server.http.sending import PROTOBUF


@pytest.fixture
def world() -> HttpWorld:
    return HttpWorld()


@pytest.fixture
async def client(world: HttpWorld) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(world) as client:
        yield client


async def send(client: httpx.AsyncClient, sender: Person, recipient: Person, wanted: object = None, **options: object) -> httpx.Response:
    headers = sender.authorization() | dict(options.pop("headers", {}))  # type: ignore[call-overload]
    return await client.put(f"/v1/messages/{recipient.uuid}", json=wanted or body(), headers=headers, **options)  # type: ignore[arg-type]


@pytest.mark.requirement("MSG-1", "MSG-3", "MSG-16")
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_sent_message_is_stored_before_it_is_answered(world: HttpWorld, client: httpx.AsyncClient, method: str) -> None:
    alice, bob = world.person(), world.person()
    answer = await client.request(method, f"/v1/messages/{bob.uuid}", json=body(), headers=alice.authorization())
    assert answer.status_code == 200
    (row,) = world.store.of(bob.mailbox())
    assert answer.json() == {"needsSync": False, "guid": str(UUID(bytes=row.guid)), "serverTimestamp": row.server_timestamp}


async def test_no_answer_leaves_before_the_commit(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    world.store.after_commit = asyncio.Event()
    sending = asyncio.ensure_future(send(client, alice, bob))
    await world.store.stored.wait()
    assert not sending.done()
    world.store.after_commit.set()
    assert (await sending).status_code == 200


@pytest.mark.requirement("MSG-16")
@pytest.mark.parametrize(("devices", "needs_sync"), [(1, False), (2, True)])
async def test_needs_sync_tells_whether_the_sender_has_other_devices(
    world: HttpWorld, client: httpx.AsyncClient, devices: int, needs_sync: bool
) -> None:
    assert (await send(client, world.person(devices), world.person())).json()["needsSync"] is needs_sync


@pytest.mark.requirement("MSG-17")
async def test_the_answer_tells_its_timing_and_the_latency_is_a_metric(world: HttpWorld, client: httpx.AsyncClient) -> None:
    answer = await send(client, world.person(), world.person())
    timing = dict(part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
    assert 0 < float(timing["commit"]) <= float(timing["total"])
    labels = {"method": "PUT", "route": "/v1/messages/{uuid:str}", "status": "200"}
    assert world.metrics.registry.get_sample_value("veredus_http_request_seconds_count", labels) == 1
    assert 0 < (world.metrics.registry.get_sample_value("veredus_http_request_seconds_sum", labels) or 0) < 30


async def test_every_device_gets_its_own_content(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person(devices=3)
    wanted = body(*(message(b"for %d" % device, device, destinationRegistrationId=1000 + device) for device in (1, 2, 3)))
    assert (await send(client, alice, bob, wanted)).status_code == 200
    for device in (1, 2, 3):
        stored = (await client.get("/v1/messages", headers=bob.authorization(device))).json()
        assert [b64decode(one["content"]) for one in stored["messages"]] == [b"for %d" % device]


async def test_every_device_gets_its_own_type(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person(devices=3)
    types = {1: 1, 2: 3, 3: 8}
    wanted = body(*(message(device=device, type=type) for device, type in types.items()))
    key = {"Idempotency-Key": str(uuid4())}
    assert [(await send(client, alice, bob, wanted, headers=key)).status_code for _ in range(2)] == [200, 200]
    for device, type in types.items():
        [stored] = (await client.get("/v1/messages", headers=bob.authorization(device))).json()["messages"]
        assert (stored["type"], stored["source"]) == (type, str(alice.uuid))
    other = await send(client, alice, bob, body(*(message(device=device, type=1) for device in types)), headers=key)
    assert (other.status_code, other.json()["name"]) == (422, "IDEMPOTENCY_MISMATCH")


@pytest.mark.parametrize("own", [False, True])
async def test_a_send_of_sealed_contents_alone_names_no_sender(world: HttpWorld, client: httpx.AsyncClient, own: bool) -> None:
    alice, bob = world.person(), world.person(devices=2)
    wanted = frames.Send(client_id=uuid4().bytes, destination_account=bob.uuid.bytes, type=0 if own else 6)
    for device in (1, 2):
        wanted.contents.add(device=device, content=b"sealed", type=6 if own else 0)
    headers = alice.authorization() | {"Content-Type": PROTOBUF}
    answers = [
        await client.put(f"/v1/messages/{bob.uuid}", content=wanted.SerializeToString(), headers=headers),
        await send(client, alice, bob, body(message(device=1, type=6), message(device=2, type=6))),
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    for device in (1, 2):
        assert all(alice.uuid.bytes not in row.envelope for row in world.store.of(bob.mailbox(device)))
        stored = (await client.get("/v1/messages", headers=bob.authorization(device))).json()["messages"]
        assert [(one["type"], "source" in one, "sourceDevice" in one) for one in stored] == [(6, False, False)] * 2


@pytest.mark.parametrize(("type", "own"), [(6, [0, 1]), (0, [6, 3]), (1, [0, 6]), (1, [0, 5]), (0, [1, 0]), (5, [1, 1])])
async def test_a_protobuf_send_of_types_that_cannot_go_together_is_refused(
    world: HttpWorld, client: httpx.AsyncClient, type: int, own: list[int]
) -> None:
    alice, bob = world.person(), world.person(devices=2)
    wanted = frames.Send(client_id=uuid4().bytes, destination_account=bob.uuid.bytes, type=type)
    for device, each in enumerate(own, 1):
        wanted.contents.add(device=device, content=b"x", type=each)
    headers = alice.authorization() | {"Content-Type": PROTOBUF}
    refused = await client.put(f"/v1/messages/{bob.uuid}", content=wanted.SerializeToString(), headers=headers)
    assert (refused.status_code, refused.json()["name"]) == (422, "INVALID_TYPE")
    assert not world.store.mailbox


@pytest.mark.requirement("MSG-5")
async def test_six_devices_at_the_size_limit_pass_and_one_byte_more_does_not(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person(devices=7)
    largest = b"x" * world.limits.content_bytes
    world.store.accounts[bob.uuid.bytes].devices.pop(7)
    assert (await send(client, alice, bob, body(*(message(largest, device) for device in range(1, 7))))).status_code == 200
    over = await send(client, alice, bob, body(message(largest + b"x", 1), *(message(b"", device) for device in range(2, 7))))
    assert (over.status_code, over.json()["name"]) == (413, "TOO_LARGE")
    many = await send(client, alice, bob, body(*(message(largest, device) for device in range(1, 8))))
    assert (many.status_code, many.json()["name"]) == (413, "MESSAGE_TOO_BIG")


async def test_devices_that_do_not_match_are_named_and_nothing_is_stored(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person(devices=2)
    mismatch = await send(client, alice, bob, body(message(device=1), message(device=5)))
    assert mismatch.status_code == 409
    assert (mismatch.json()["missingDevices"], mismatch.json()["extraDevices"]) == ([2], [5])
    only_missing = await send(client, alice, bob, body(message(device=1)))
    assert (only_missing.json()["missingDevices"], only_missing.json()["extraDevices"]) == ([2], [])
    stale = await send(client, alice, bob, body(message(device=1, destinationRegistrationId=7), message(device=2)))
    assert (stale.status_code, stale.json()["staleDevices"]) == (410, [1])
    assert not world.store.mailbox


@pytest.mark.requirement("MSG-25")
async def test_a_repeated_idempotency_key_makes_one_message_and_gets_the_first_answer(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    key = {"Idempotency-Key": str(uuid4())}
    first, repeat = [await send(client, alice, bob, headers=key) for _ in range(2)]
    assert (first.status_code, first.json()) == (repeat.status_code, repeat.json())
    assert len(world.store.of(bob.mailbox())) == 1
    other = await send(client, alice, bob, body(message(b"something else")), headers=key)
    assert (other.status_code, other.json()["name"]) == (422, "IDEMPOTENCY_MISMATCH")


@pytest.mark.requirement("MSG-25")
async def test_without_a_key_the_same_request_is_one_message_and_another_time_or_content_is_another(
    world: HttpWorld, client: httpx.AsyncClient
) -> None:
    alice, bob = world.person(), world.person()
    requests = [body(timestamp=1), body(timestamp=1), body(timestamp=2), body(message(b"else"), timestamp=1)]
    guids = [(await send(client, alice, bob, wanted)).json()["guid"] for wanted in requests]
    assert guids[0] == guids[1]
    assert len(set(guids)) == len(world.store.of(bob.mailbox())) == 3
    assert (await send(client, world.person(), bob, requests[0])).json()["guid"] not in guids, "keys belong to their sender"


async def test_a_send_whose_answer_takes_too_long_is_unknown_and_asking_again_settles_it() -> None:
    world = HttpWorld(Limits(http_answer_seconds=0.05))
    alice, bob = world.person(), world.person()
    world.store.after_commit = asyncio.Event()
    async with serving(world) as client:
        late = await send(client, alice, bob)
        assert (late.status_code, late.json()["name"], late.headers["Retry-After"]) == (503, "RESULT_UNKNOWN", "1")
        world.store.after_commit.set()
        assert (await send(client, alice, bob)).status_code == 200
    assert len(world.store.of(bob.mailbox())) == 1


@pytest.mark.requirement("MSG-7")
async def test_a_protobuf_send_is_the_same_send(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    wanted = frames.Send(
        client_id=uuid4().bytes,
        destination_account=bob.uuid.bytes,
        type=envelope.Envelope.SEALED,
        client_timestamp=42,
        urgent=True,
        contents=[frames.DeviceContent(device=1, registration_id=1001, content=b"sealed")],
    )
    headers = alice.authorization() | {"Content-Type": PROTOBUF}
    for _ in range(2):
        answer = await client.put(f"/v1/messages/{bob.uuid}", content=wanted.SerializeToString(), headers=headers)
        assert answer.status_code == 200
    (stored,) = (await client.get("/v1/messages", headers=bob.authorization())).json()["messages"]
    assert stored == {
        **{"guid": answer.json()["guid"], "type": 6, "timestamp": 42, "serverTimestamp": answer.json()["serverTimestamp"]},
        **{"content": "c2VhbGVk", "urgent": True},
    }, "and nobody learns who sealed it"


async def test_a_protobuf_send_takes_its_key_from_itself_or_the_header_or_is_given_one(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    wanted = frames.Send(
        destination_account=bob.uuid.bytes, type=1, client_timestamp=42, contents=[frames.DeviceContent(device=1, content=b"hi")]
    )
    key = uuid4()
    headers = alice.authorization() | {"Content-Type": PROTOBUF}

    async def guid(**more: str) -> object:
        content = wanted.SerializeToString()
        answer = await client.put(
            f"/v1/messages/{bob.uuid}", content=content, headers=headers | {k.replace("_", "-"): v for k, v in more.items()}
        )
        return answer.json().get("guid", answer.json().get("name"))

    derived = await guid()
    assert await guid() == derived
    by_header = await guid(Idempotency_Key=str(key))
    assert by_header != derived
    wanted.client_id = key.bytes
    assert await guid() == await guid(Idempotency_Key=str(key)) == by_header
    assert await guid(Idempotency_Key=str(uuid4())) == "INVALID_CLIENT_ID"
    wanted.destination_account = alice.uuid.bytes
    assert await guid() == "INVALID_DESTINATION"


@pytest.mark.requirement("SYN-1", "SYN-2", "SYN-3")
async def test_a_device_reads_its_queue_in_order_a_hundred_at_a_time(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    for number in range(101):
        assert (await send(client, alice, bob, body(message(b"%d" % number), timestamp=number))).status_code == 200
    page = (await client.get("/v1/messages", headers=bob.authorization())).json()
    assert [one["timestamp"] for one in page["messages"]] == list(range(100))
    assert page["more"] is True
    first = page["messages"][0]
    assert (first["source"], first["sourceDevice"], first["type"], first["content"], first["urgent"]) == (
        str(alice.uuid),
        1,
        1,
        "MA==",
        True,
    )
    for one in page["messages"][:2]:
        await client.delete(f"/v1/messages/{one['guid']}", headers=bob.authorization())
    rest = (await client.get("/v1/messages", headers=bob.authorization())).json()
    assert ([one["timestamp"] for one in rest["messages"]], rest["more"]) == (list(range(2, 101)), False)


@pytest.mark.requirement("SYN-1")
async def test_after_leaves_out_what_is_older_but_not_what_might_have_been_overtaken(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    began = world.store.now_ms
    for number in range(250):
        world.store.now_ms = began + number * OVERLAP_MS
        await send(client, alice, bob, body(timestamp=number))
    after = began + 200 * OVERLAP_MS
    found = (await client.get("/v1/messages", params={"after": after}, headers=bob.authorization())).json()
    assert ([one["timestamp"] for one in found["messages"]], found["more"]) == (list(range(199, 250)), False)


async def test_a_page_ends_at_its_size_in_bytes_and_says_that_there_is_more() -> None:
    world = HttpWorld(Limits(batch_delivery_bytes=1500))
    alice, bob = world.person(), world.person()
    async with serving(world) as client:
        for number in range(4):
            await send(client, alice, bob, body(message(b"x" * 600), timestamp=number))
        page = (await client.get("/v1/messages", headers=bob.authorization())).json()
        assert ([one["timestamp"] for one in page["messages"]], page["more"]) == ([0, 1], True)


async def test_the_queue_can_be_read_as_protobuf(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    for number in (1, 2):
        await send(client, alice, bob, body(message(b"%d" % number * 100), timestamp=number))
    answer = await client.get("/v1/messages", headers=bob.authorization() | {"Accept": PROTOBUF})
    assert answer.headers["Content-Type"] == PROTOBUF
    page = frames.StoredPage.FromString(answer.content)
    assert [(one.client_timestamp, one.content, one.source_account) for one in page.messages] == [
        (1, b"1" * 100, alice.uuid.bytes),
        (2, b"2" * 100, alice.uuid.bytes),
    ]
    assert [one.server_timestamp for one in page.messages] == [world.store.now_ms] * 2
    assert not page.more


@pytest.mark.requirement("SYN-8")
async def test_a_deleted_message_is_gone_for_this_device_and_for_no_other(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob, eve = world.person(), world.person(devices=2), world.person()
    guid = (await send(client, alice, bob, body(message(device=1), message(device=2)))).json()["guid"]
    deletes = [(eve, 1, 404), (bob, 1, 204), (bob, 1, 404)]
    for who, device, status in deletes:
        assert (await client.delete(f"/v1/messages/{guid}", headers=who.authorization(device))).status_code == status
    assert not world.store.of(bob.mailbox(1))
    assert len(world.store.of(bob.mailbox(2))) == 1


async def test_bytes_of_bodies_and_answers_are_given_back(world: HttpWorld, client: httpx.AsyncClient) -> None:
    alice, bob = world.person(), world.person()
    await send(client, alice, bob)
    await send(client, alice, bob, {"messages": 1})
    await client.get("/v1/messages", headers=bob.authorization())
    await client.get("/v1/messages", headers=bob.authorization() | {"Accept": PROTOBUF})
    assert world.app.app.state.bodies.held == 0  # type: ignore[attr-defined]
