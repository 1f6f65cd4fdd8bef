"""The SDK, the workload and the terminal client against a real worker on PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from uuid import uuid4

import pytest

from tests.chaos.ground import ground
from tests.checker.workload import Mix, run
from tests.unit.client.test_chat import PROGRAM, opened
from veredus.client import (
    Client,
    Config,
    ConnectionRefused,
    Credentials,
    DevicesMismatch,
    DevicesStale,
    IdempotencyMismatch,
    TooLarge,
    UnknownRecipient,
)
from veredus.core.errors import Code

QUICK = Config(backoff_first_seconds=0.05, backoff_most_seconds=0.5)


@pytest.mark.requirement("MSG-14", "MSG-15", "MSG-25", "MSG-32", "SYN-8", "CON-17")
@pytest.mark.parametrize("seed", [1, 2])
async def test_every_promise_is_kept_under_repeats_reconnects_and_late_acknowledgements(
    database: str, redis_url: str, tmp_path: Path, seed: int
) -> None:
    async with asyncio.timeout(90), ground(tmp_path, database, redis_url) as place:
        devices = await place.accounts(3, devices=2)
        await place.worker()
        report = await run(place.url, devices, seed, 1500, Mix(config=QUICK, reconnect=0.2))
    assert report.kept, report
    assert report.tally.sent > 1300
    assert report.tally.refused > 10
    assert report.tally.reconnects > 0


async def test_each_refusal_reaches_the_caller_as_its_own_error(database: str, redis_url: str, tmp_path: Path) -> None:
    async with asyncio.timeout(60), ground(tmp_path, database, redis_url) as place:
        [alice], [bob, _] = await place.accounts(1), await place.accounts(1, devices=2)
        await place.worker()
        async with Client(place.url, alice) as client:
            with pytest.raises(UnknownRecipient):
                await client.send(uuid4(), "text")
            with pytest.raises(DevicesMismatch) as mismatch:
                await client.send(bob.account, "text", devices=(1, 7))
            assert (mismatch.value.missing, mismatch.value.extra) == ((2,), (7,))
            with pytest.raises(DevicesStale) as stale:
                await client.send(bob.account, "text", devices=(1, 2), registration_ids={1: 101, 2: 7})
            assert stale.value.stale == (2,)
            with pytest.raises(TooLarge):
                await client.send(bob.account, b"x" * 262_145, devices=(1, 2))
            name = uuid4()
            first = await client.send(bob.account, "text", devices=(1, 2), client_id=name)
            assert await client.send(bob.account, "text", devices=(1, 2), client_id=name) == first
            with pytest.raises(IdempotencyMismatch):
                await client.send(bob.account, "another", devices=(1, 2), client_id=name)


async def test_a_device_has_one_connection_and_its_credentials_open_nothing_else(database: str, redis_url: str, tmp_path: Path) -> None:
    async with asyncio.timeout(60), ground(tmp_path, database, redis_url) as place:
        [alice] = await place.accounts(1)
        await place.worker()
        async with Client(place.url, alice) as first, Client(place.url, alice) as second:
            with pytest.raises(ConnectionRefused) as caught:
                await anext(first.messages())
            assert caught.value.code is Code.REPLACED
            await second.drained()
        for wrong in (alice._replace(password="wrong"), alice._replace(device=2), Credentials(uuid4(), 1, alice.password)):
            stranger = Client(place.url, wrong)
            with pytest.raises(ConnectionRefused) as caught:
                await stranger.connect()
            assert caught.value.code is Code.UNAUTHENTICATED
            await stranger.close()


@pytest.mark.requirement("SDK-25")
async def test_a_shutdown_brings_the_client_back_to_the_next_worker_without_loss(database: str, redis_url: str, tmp_path: Path) -> None:
    async with asyncio.timeout(60), ground(tmp_path, database, redis_url) as place:
        [alice, bob] = await place.accounts(2)
        worker = await place.worker()
        async with Client(place.url, alice, config=QUICK) as sender:
            await sender.send(bob.account, "before")
            worker.signal(signal.SIGTERM)
            assert await worker.ended() == 0
            waiting = sender.submit(bob.account, "after")
            await place.worker()
            await waiting
        async with Client(place.url, bob) as receiver:
            await receiver.drained()
            assert [message.text for message in receiver.take()] == ["before", "after"]


async def test_two_windows_talk_through_a_real_worker(database: str, redis_url: str, tmp_path: Path) -> None:
    async with asyncio.timeout(60), ground(tmp_path, database, redis_url) as place:
        [alice, bob] = await place.accounts(2)
        await place.worker()
        commands = [(*PROGRAM, place.url, "--as", f"{who.account}.{who.device}:{who.password}") for who in (alice, bob)]
        async with opened([*commands[0], "--to", str(bob.account)]) as left, opened(commands[1]) as right:
            await left.shows("talking to")
            left.type("good morning\n")
            await left.shows(r"✓ good morning  \d\d:\d\d")
            await right.shows(f"{str(alice.account)[:8]}  good morning")
            right.type("and to you\n")
            await left.shows("and to you")
