"""The HTTP application over the real core and a store in memory, reached through ASGI without a socket."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
from prometheus_client import CollectorRegistry

from tests.fakes.alone import alone
from tests.fakes.store import MemoryDirectory, MemoryStore
from tests.fakes.wakeups import MemoryWakeups
from veredus.core.clock import SystemClock
from veredus.core.errors import Code, StoreUnavailable
from veredus.core.identity.authentication import Authenticator
from veredus.core.identity.credentials import DeviceCredentials, DeviceSecrets
from veredus.core.limits import Limits
from veredus.core.messaging.delivery import Delivery
from veredus.core.model import Account, CredentialRow, Device, Principal
from veredus.core.ports import Origin, Peer, Wire
from veredus.ext.envelope import Send
from veredus.server.http.app import create_app
from veredus.server.http.metrics import HttpMetrics
from veredus.server.http.services import HttpServices, Probe
from veredus.server.ws.gate import Admission, Refusal, UpgradeRequest
from veredus.server.ws.port import Port, PortConfig

PEPPER = b"p" * 32


@dataclass
class Person:
    """An account and the secrets of its devices."""

    uuid: UUID
    account_id: int
    passwords: dict[int, str]

    def authorization(self, device: int = 1) -> dict[str, str]:
        login = f"{self.uuid}.{device}:{self.passwords[device]}"
        return {"Authorization": "Basic " + b64encode(login.encode()).decode()}

    def mailbox(self, device: int = 1) -> int:
        return self.account_id * 100 + device


class Mailboxes(MemoryStore):
    """The memory store; also its single deletes fail when it is away."""

    async def remove_guid(self, device: int, guid: bytes) -> bool:
        if not self.available:
            raise StoreUnavailable
        return await super().remove_guid(device, guid)


@dataclass
class TestHealth:
    """Fails what it is told."""

    __test__ = False
    failing_parts: dict[Probe, Sequence[str]] = field(default_factory=dict)

    async def failing(self, probe: Probe) -> Sequence[str]:
        return self.failing_parts.get(probe, [])


class Switch:
    """Sends go to the delivery, or to what a test puts in its place."""

    def __init__(self, delivery: Delivery) -> None:
        self.target: Any = delivery
        self.origins: list[Origin] = []

    def accept(self, origin: Origin, principal: Principal, sends: Sequence[Send]) -> None:
        self.origins.append(origin)
        self.target.accept(origin, principal, sends)


class HttpWorld:
    """People, a store and the application between them."""

    def __init__(self, limits: Limits | None = None, *, metrics_exposed: bool = False) -> None:
        self.limits = limits or Limits()
        self.store = Mailboxes()
        self.rows: dict[tuple[bytes, int], CredentialRow] = {}
        self.secrets = DeviceSecrets(PEPPER)
        self.credentials = DeviceCredentials(self, self.secrets, self.limits, SystemClock())
        self.delivery = alone(self.store, MemoryDirectory(self.store), MemoryWakeups(self.store), self.limits)
        self.sends = Switch(self.delivery)
        self.health = TestHealth()
        self.metrics = HttpMetrics(CollectorRegistry(), exposed=metrics_exposed)
        self.services = HttpServices(Authenticator(self.credentials), self.sends, self.store, self.health, self.metrics, self.limits)
        self.app = create_app(self.services)
        self.people = 0

    async def credential(self, account: bytes, device: int) -> CredentialRow | None:
        return self.rows.get((account, device))

    def person(self, devices: int = 1) -> Person:
        """A new account with devices 1 to `devices`, registration ids 1001, 1002, …"""
        self.people += 1
        person = Person(uuid4(), self.people, {})
        numbers = range(1, devices + 1)
        for number in numbers:
            issued = self.secrets.issue()
            person.passwords[number] = issued.plain
            self.rows[person.uuid.bytes, number] = CredentialRow(person.account_id, person.mailbox(number), issued.salt, issued.hash)
        self.store.accounts[person.uuid.bytes] = Account(
            person.account_id, person.uuid.bytes, 1, {number: Device(person.mailbox(number), number, 1000 + number) for number in numbers}
        )
        return person

    def counted(self, code: str) -> float:
        """How often the edge refused with this code."""
        return self.metrics.registry.get_sample_value("veredus_http_refusals_total", {"code": code}) or 0.0


def message(content: bytes = b"hello", device: int = 1, **other: object) -> dict[str, object]:
    """One device's content, as clients write it."""
    return {"type": 1, "destinationDeviceId": device, "destinationRegistrationId": 0, "content": b64encode(content).decode()} | other


def body(*messages: dict[str, object], timestamp: int = 1_764_000_000_000, **other: object) -> dict[str, object]:
    """The body of a send to these devices (device 1 when none is named)."""
    return {"messages": list(messages) or [message()], "timestamp": timestamp, "urgent": True, "online": False} | other


@asynccontextmanager
async def serving(world: HttpWorld) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the world's application, with the delivery at work."""
    running = asyncio.ensure_future(world.delivery.run())
    try:
        transport = httpx.ASGITransport(app=world.app, raise_app_exceptions=True)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://veredus.test", timeout=30) as client:
            yield client
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class NoGate:
    """Lets nobody become a WebSocket."""

    async def admit(self, request: UpgradeRequest) -> Admission | Refusal:
        return Refusal(Code.FORBIDDEN)

    def open(self, principal: Principal, wire: Wire) -> Peer:
        raise AssertionError("nobody was let in")


@asynccontextmanager
async def listening(world: HttpWorld) -> AsyncIterator[str]:
    """The world on a worker's port, on uvloop; gives the URL."""
    port = Port(PortConfig(), world.limits, world.app, NoGate(), SystemClock())
    await port.start()
    running = asyncio.ensure_future(world.delivery.run())
    try:
        host, number = port.addresses[0]
        yield f"http://{host}:{number}"
    finally:
        await port.stop(grace_seconds=0.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
