"""The HTTP application on a worker's port: slow and vanishing callers, early refusals, slow readers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from tests.fakes.http import HttpWorld, Person, body, listening, message
from tests.integration.ws_peer import on_uvloop
from veredus.core.limits import Limits
from veredus.server.http.app import create_app


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def until(happened: Callable[[], bool]) -> None:
    """Lets the loop run until something is so; the test's own time limit ends it."""
    while not happened():  # what is looked at has no event: a sum of bytes, a counter
        await asyncio.sleep(0)


def head(world: HttpWorld, sender: Person, recipient: Person, *more: str) -> bytes:
    lines = [f"PUT /v1/messages/{recipient.uuid} HTTP/1.1", "Host: veredus.test", "Content-Type: application/json", *more]
    lines += [f"{name}: {value}" for name, value in sender.authorization().items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One answer with a Content-Length."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(status.split()[1]), headers, await reader.readexactly(int(headers.get("content-length", 0)))


def held(world: HttpWorld, what: str = "bodies") -> int:
    count: int = world.app.app.state[what].held  # type: ignore[attr-defined]
    return count


@on_uvloop
async def test_a_body_that_stops_coming_is_answered_408_and_hung_up_on() -> None:
    world = HttpWorld(Limits(partial_seconds=0.05))
    async with listening(world) as url, connection(url) as (reader, writer):
        writer.write(head(world, world.person(), world.person(), "Content-Length: 1000") + b"{")
        status, headers, _ = await answer(reader)
        assert (status, headers["connection"], await reader.read()) == (408, "close", b"")
        await until(lambda: held(world) == 0)


@pytest.mark.requirement("MSG-5")
@on_uvloop
async def test_a_body_announced_too_large_is_answered_before_it_comes() -> None:
    world = HttpWorld()
    async with listening(world) as url, connection(url) as (reader, writer):
        writer.write(head(world, world.person(), world.person(), "Content-Length: 1000000000"))
        status, headers, _ = await answer(reader)
        assert (status, headers["connection"], await reader.read()) == (413, "close", b"")


@on_uvloop
async def test_a_caller_that_vanishes_half_way_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    world = HttpWorld()
    alice, bob = world.person(), world.person()
    with caplog.at_level(logging.WARNING):
        async with listening(world) as url:
            async with connection(url) as (_, writer):
                writer.write(head(world, alice, bob, "Content-Length: 1000") + b"x" * 500)
                await until(lambda: held(world) == 500)
            await until(lambda: held(world) == 0)
    assert not world.store.mailbox
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@on_uvloop
async def test_a_caller_that_vanishes_before_the_answer_has_still_sent_his_message() -> None:
    world = HttpWorld()
    alice, bob = world.person(), world.person()
    world.store.before_commit = asyncio.Event()
    content = httpx.Request("PUT", "http://x", json=body()).content
    async with listening(world) as url:
        async with connection(url) as (_, writer):
            writer.write(head(world, alice, bob, f"Content-Length: {len(content)}") + content)
            await world.store.began.wait()
        world.store.before_commit.set()
        await world.store.stored.wait()
        assert len(world.store.of(bob.mailbox())) == 1


@on_uvloop
async def test_requests_on_one_connection_are_answered_in_order_also_after_a_refusal_that_read_nothing() -> None:
    world = HttpWorld()
    alice, bob = world.person(), world.person()
    content = httpx.Request("PUT", "http://x", json=body()).content
    good = head(world, alice, bob, f"Content-Length: {len(content)}") + content
    stranger = good.replace(alice.passwords[1].encode(), b"wrong").replace(b"Authorization", b"X-Nothing")
    async with listening(world) as url, connection(url) as (reader, writer):
        writer.write(stranger + good + stranger + good)
        found = [(await answer(reader))[0] for _ in range(4)]
    assert found == [401, 200, 401, 200]
    assert len(world.store.of(bob.mailbox())) == 1


async def full_mailbox(world: HttpWorld, url: str) -> bytes:
    """Stores more than a page can hold; returns the request that reads it."""
    alice, bob = world.person(), world.person()
    async with httpx.AsyncClient(base_url=url) as client:
        for number in range(40):
            wanted = body(message(b"x" * world.limits.content_bytes), timestamp=number)
            assert (await client.put(f"/v1/messages/{bob.uuid}", json=wanted, headers=alice.authorization())).status_code == 200
    return b"GET /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: " + bob.authorization()["Authorization"].encode() + b"\r\n\r\n"


@pytest.mark.parametrize("leaves", [False, True])
@on_uvloop
async def test_a_slow_reader_of_a_large_page_is_charged_until_he_has_read_it_or_left(leaves: bool) -> None:
    world = HttpWorld()
    async with listening(world) as url:
        wanted = await full_mailbox(world, url)
        async with connection(url) as (reader, writer):
            writer.write(wanted)
            _, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            assert held(world, "answers") > 9_000_000
            if not leaves:
                await reader.readexactly(int(dict(line.split(": ", 1) for line in lines)["content-length"]))
                await until(lambda: held(world, "answers") == 0)
        await until(lambda: held(world, "answers") == 0)


@on_uvloop
async def test_a_reader_that_does_not_read_is_hung_up_on() -> None:
    world = HttpWorld()
    async with listening(world) as url:
        wanted = await full_mailbox(world, url)
    world.app = create_app(replace(world.services, limits=Limits(partial_seconds=0.05, message_bytes=10**8)))
    async with listening(world) as url, connection(url) as (_, writer):
        writer.write(wanted)
        await until(lambda: world.counted("TIMEOUT") == 1)
        assert held(world, "answers") == 0


@on_uvloop
async def test_more_pages_than_memory_is_set_aside_for_are_refused_as_busy() -> None:
    world = HttpWorld(Limits(http_answers_bytes=15_000_000))
    async with listening(world) as url:
        wanted = await full_mailbox(world, url)
        async with connection(url) as (reader, writer), connection(url) as (other_reader, other_writer):
            writer.write(wanted)
            await reader.readuntil(b"\r\n\r\n")
            other_writer.write(wanted)
            assert (await answer(other_reader))[0] == 503


@pytest.mark.parametrize(
    "request_head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
)
@on_uvloop
async def test_what_is_not_http_is_answered_400_and_the_server_lives(request_head: bytes) -> None:
    world = HttpWorld()
    async with listening(world) as url:
        async with connection(url) as (reader, writer):
            writer.write(request_head)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health/live")).status_code == 200


@on_uvloop
async def test_no_log_names_who_sends_to_whom(caplog: pytest.LogCaptureFixture) -> None:
    world = HttpWorld()
    alice, bob = world.person(), world.person()
    with caplog.at_level(logging.DEBUG):
        async with listening(world) as url, connection(url) as (reader, writer):
            for wanted in (body(), body(timestamp=-1), {}):
                content = httpx.Request("PUT", "http://x", json=wanted).content
                writer.write(head(world, alice, bob, f"Content-Length: {len(content)}") + content)
                await answer(reader)
    for private in (str(alice.uuid), str(bob.uuid), alice.passwords[1], "aGVsbG8"):
        assert private not in caplog.text
