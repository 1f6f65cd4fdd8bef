"""The SDK, the workload and the terminal client against the real server: one port, the core, PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest

from tests.checker.workload import Mix, Workload, run
from tests.fakes.presence import MemoryPresence
from tests.integration.ws_peer import hello_app, on_uvloop
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
from veredus.core.clock import SystemClock
from veredus.core.errors import Code
from veredus.core.identity.credentials import DeviceCredentials, DeviceSecrets
from veredus.core.limits import Limits
from veredus.core.messaging.context import Context
from veredus.core.messaging.delivery import Delivery
from veredus.server.process.embedded import Embedded
from veredus.server.store.accounts import Secret
from veredus.server.store.postgres import Postgres, StoreConfig
from veredus.server.ws.gate import BasicGate
from veredus.server.ws.port import Port, PortConfig

PEPPER = bytes(range(32))
REGISTRATION = 1001
QUICK = Config(backoff_first_seconds=0.05, backoff_most_seconds=0.5)


@dataclass
class Site:
    """A server on one database."""

    url: str
    store: Postgres
    port: Port

    async def account(self, devices: int = 1) -> list[Credentials]:
        """A new account with so many devices."""
        uuid, secrets = uuid4(), DeviceSecrets(PEPPER)
        found = []
        for number in range(1, devices + 1):
            issued = secrets.issue()
            secret = Secret(issued.salt, issued.hash)
            if number == 1:
                await self.store.accounts.create(uuid.bytes, REGISTRATION, secret)
            else:
                await self.store.accounts.add_device(uuid.bytes, REGISTRATION, secret, max_devices=6)
            found.append(Credentials(uuid, number, issued.plain))
        return found


@asynccontextmanager
async def site(dsn: str, config: PortConfig | None = None) -> AsyncIterator[Site]:
    limits, clock = Limits(), SystemClock()
    store = Postgres(StoreConfig(dsn=dsn))
    epoch = await store.messages.epoch()
    delivery = Delivery(store.messages, store.directory, MemoryPresence(), epoch.bytes, Context(limits=limits))
    credentials = DeviceCredentials(store.directory, DeviceSecrets(PEPPER), limits, clock)
    port = Port(config or PortConfig(), limits, hello_app, BasicGate(credentials, delivery.open), clock)
    running = asyncio.ensure_future(delivery.run())
    await port.start()
    host, number = port.addresses[0]
    try:
        yield Site(f"ws://{host}:{number}/v1/websocket", store, port)
    finally:
        await port.stop(grace_seconds=1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()


@pytest.mark.requirement("MSG-14", "MSG-15", "MSG-25", "MSG-32", "SYN-8", "CON-17", "CON-18")
@pytest.mark.parametrize("seed", [1, 2])
@on_uvloop
async def test_every_promise_is_kept_under_repeats_reconnects_and_late_acknowledgements(database: str, seed: int) -> None:
    async with asyncio.timeout(60), site(database) as here:
        devices = [device for _ in range(3) for device in await here.account(devices=2)]
        report = await run(here.url, devices, seed, 1500, Mix(config=QUICK, reconnect=0.05))
    assert report.kept, report
    assert report.tally.sent > 1300
    assert report.tally.refused > 10
    assert report.tally.reconnects > 0


@on_uvloop
async def test_every_promise_is_kept_while_postgresql_stops_and_starts(own_stores: Embedded, own_database: str) -> None:
    async with asyncio.timeout(90), site(own_database) as here:
        devices = [device for _ in range(2) for device in await here.account(devices=2)]
        workload = Workload(here.url, devices, 3, Mix(config=QUICK, reconnect=0.02))
        running = asyncio.create_task(workload.run(1200))
        for sent in (200, 600):
            await workload.reached(sent)
            await asyncio.to_thread(own_stores.postgres.kill if sent == 200 else own_stores.postgres.stop)
            await asyncio.to_thread(own_stores.postgres.start)
        report = await running
    assert report.kept, report
    assert report.tally.sent > 1000


@on_uvloop
async def test_each_refusal_reaches_the_caller_as_its_own_error(database: str) -> None:
    async with asyncio.timeout(30), site(database) as here:
        [alice], [bob, _] = await here.account(), await here.account(devices=2)
        async with Client(here.url, alice) as client:
            with pytest.raises(UnknownRecipient):
                await client.send(uuid4(), "text")
            with pytest.raises(DevicesMismatch) as mismatch:
                await client.send(bob.account, "text", devices=(1, 7))
            assert (mismatch.value.missing, mismatch.value.extra) == ((2,), (7,))
            with pytest.raises(DevicesStale) as stale:
                await client.send(bob.account, "text", devices=(1, 2), registration_ids={1: REGISTRATION, 2: 7})
            assert stale.value.stale == (2,)
            with pytest.raises(TooLarge):
                await client.send(bob.account, b"x" * 262_145, devices=(1, 2))
            name = uuid4()
            first = await client.send(bob.account, "text", devices=(1, 2), client_id=name)
            assert await client.send(bob.account, "text", devices=(1, 2), client_id=name) == first
            with pytest.raises(IdempotencyMismatch):
                await client.send(bob.account, "another", devices=(1, 2), client_id=name)


@on_uvloop
async def test_a_second_client_of_a_device_replaces_the_first_which_does_not_come_back(database: str) -> None:
    async with asyncio.timeout(30), site(database) as here:
        [alice] = await here.account()
        async with Client(here.url, alice) as first, Client(here.url, alice) as second:
            with pytest.raises(ConnectionRefused) as caught:
                await anext(first.messages())
            assert caught.value.code is Code.REPLACED
            await second.drained()


@on_uvloop
async def test_wrong_credentials_are_refused_whoever_they_name(database: str) -> None:
    async with asyncio.timeout(30), site(database) as here:
        [alice] = await here.account()
        for wrong in (alice._replace(password="wrong"), alice._replace(device=2), Credentials(uuid4(), 1, alice.password)):
            client = Client(here.url, wrong)
            with pytest.raises(ConnectionRefused) as caught:
                await client.connect()
            assert caught.value.code is Code.UNAUTHENTICATED
            await client.close()


@on_uvloop
async def test_a_shutdown_brings_the_clients_back_to_the_next_server_without_loss(database: str) -> None:
    async with asyncio.timeout(30), site(database) as first:
        [alice], [bob] = await first.account(), await first.account()
        waiting = Client(first.url, alice, config=QUICK)
        await waiting.connect()
        await waiting.send(bob.account, "before")
        await first.port.stop(reconnect_within_ms=10)
        sending = waiting.submit(bob.account, "after")
        host, number = first.url.removeprefix("ws://").partition("/")[0].split(":")
        async with site(database, PortConfig(host=host, port=int(number))) as second:
            assert (await sending).server_timestamp
            async with Client(second.url, bob) as receiver:
                await receiver.drained()
                assert [message.text for message in receiver.take()] == ["before", "after"]
            await waiting.close()


@on_uvloop
async def test_two_windows_talk_through_the_real_server(database: str) -> None:
    async with asyncio.timeout(30), site(database) as here:
        [alice], [bob] = await here.account(), await here.account()
        commands = ((*PROGRAM, here.url, "--as", _shown(alice), "--to", str(bob.account)), (*PROGRAM, here.url, "--as", _shown(bob)))
        async with opened(commands[0]) as left, opened(commands[1]) as right:
            await left.shows("talking to")
            left.type("good morning\n")
            await left.shows(r"✓ good morning  \d\d:\d\d")
            await right.shows(f"{str(alice.account)[:8]}  good morning")
            right.type("and to you\n")
            await left.shows("and to you")


def _shown(credentials: Credentials) -> str:
    """As `veredus account create` prints them."""
    return f"{credentials.account}.{credentials.device}:{credentials.password}"
