"""HTTP down to PostgreSQL: accounts, secrets, messages and health on the real store."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import pytest
from prometheus_client import CollectorRegistry

from tests.fakes.alone import alone
from tests.fakes.http import PEPPER, body, message
from tests.unit.core.test_credentials import ManualClock
from veredus.core.clock import SystemClock
from veredus.core.identity.authentication import Authenticator
from veredus.core.identity.credentials import DeviceCredentials, DeviceSecrets
from veredus.core.limits import Limits
from veredus.server.http.app import create_app
from veredus.server.http.health import KEPT_SECONDS, Checks
from veredus.server.http.metrics import HttpMetrics
from veredus.server.http.services import HttpServices
from veredus.server.process.embedded import Embedded
from veredus.server.store.accounts import Secret
from veredus.server.store.postgres import Postgres, StoreConfig


@dataclass
class Site:
    """The application on one database, and a client of it."""

    store: Postgres
    secrets: DeviceSecrets
    credentials: DeviceCredentials
    client: httpx.AsyncClient
    health_clock: ManualClock

    async def account(self) -> tuple[UUID, dict[str, str]]:
        """A new account with one device; its UUID and the header of its device."""
        uuid, issued = uuid4(), self.secrets.issue()
        await self.store.accounts.create(uuid.bytes, 1001, Secret(issued.salt, issued.hash))
        return uuid, {"Authorization": "Basic " + b64encode(f"{uuid}:{issued.plain}".encode()).decode()}


@asynccontextmanager
async def site(dsn: str) -> AsyncIterator[Site]:
    limits, clock = Limits(), SystemClock()
    store = Postgres(StoreConfig(dsn=dsn))
    epoch = await store.messages.epoch()
    secrets = DeviceSecrets(PEPPER)
    credentials = DeviceCredentials(store.directory, secrets, limits, clock)
    delivery = alone(store.messages, store.directory, store.wakeups, limits, epoch.bytes)
    health_clock = ManualClock()
    health = Checks({"store": store.messages.epoch}, health_clock)
    health.started()
    app = create_app(HttpServices(Authenticator(credentials), delivery, store.messages, health, HttpMetrics(CollectorRegistry()), limits))
    running = asyncio.ensure_future(delivery.run())
    try:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://veredus.test", timeout=30) as client:
            yield Site(store, secrets, credentials, client, health_clock)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()


@pytest.mark.requirement("MSG-1", "MSG-3", "MSG-16", "MSG-25", "MSG-32", "SYN-1", "SYN-8")
async def test_a_message_goes_in_over_http_and_comes_out_once(database: str) -> None:
    async with site(database) as here:
        (alice, alice_header), (bob, bob_header) = await here.account(), await here.account()
        sent = [await here.client.put(f"/v1/messages/{bob}", json=body(message(bytes(range(256)))), headers=alice_header) for _ in range(2)]
        assert [one.status_code for one in sent] == [200, 200]
        assert sent[0].json() == sent[1].json()
        page = (await here.client.get("/v1/messages", headers=bob_header)).json()
        assert page == {
            "messages": [
                {
                    **{"guid": sent[0].json()["guid"], "type": 1, "source": str(alice), "sourceDevice": 1, "timestamp": 1_764_000_000_000},
                    **{
                        "serverTimestamp": sent[0].json()["serverTimestamp"],
                        "content": b64encode(bytes(range(256))).decode(),
                        "urgent": True,
                    },
                }
            ],
            "more": False,
        }
        guid = sent[0].json()["guid"]
        found = [
            (await here.client.delete(f"/v1/messages/{guid}", headers=header)).status_code
            for header in (alice_header, bob_header, bob_header)
        ]
        assert found == [404, 204, 404]
        again = await here.client.put(f"/v1/messages/{bob}", json=body(message(bytes(range(256)))), headers=alice_header)
        assert again.json() == sent[0].json(), "a resend after the acknowledgement"
        assert (await here.client.get("/v1/messages", headers=bob_header)).json()["messages"] == []


@pytest.mark.requirement("MSG-3")
async def test_a_revoked_device_and_a_disabled_account_are_refused_like_strangers(database: str) -> None:
    async with site(database) as here:
        (alice, alice_header), (bob, bob_header) = await here.account(), await here.account()
        for header in (alice_header, bob_header):
            assert (await here.client.get("/v1/messages", headers=header)).status_code == 200
        await here.store.accounts.revoke_device(alice.bytes, 1)
        await here.store.accounts.disable(bob.bytes)
        here.credentials.forget(alice.bytes, 1)
        here.credentials.forget(bob.bytes)
        stranger = await here.client.get("/v1/messages")
        for header in (alice_header, bob_header):
            refused = await here.client.get("/v1/messages", headers=header)
            assert (refused.status_code, refused.content) == (401, stranger.content)


@pytest.mark.requirement("INF-17")
async def test_health_follows_the_store_and_a_send_meanwhile_is_refused_and_may_be_repeated(
    own_stores: Embedded, own_database: str
) -> None:
    async with site(own_database) as here:
        (_, alice_header), (bob, _) = await here.account(), await here.account()
        assert (await here.client.get("/health")).status_code == 200
        assert (await here.client.put(f"/v1/messages/{bob}", json=body(), headers=alice_header)).status_code == 200
        await asyncio.to_thread(own_stores.postgres.stop)
        refused = await here.client.put(f"/v1/messages/{bob}", json=body(timestamp=2), headers=alice_header)
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers
        here.health_clock.seconds += KEPT_SECONDS
        failing = await here.client.get("/health")
        assert (failing.status_code, failing.json()["failing"]) == (503, ["store"])
        assert (await here.client.get("/health/live")).status_code == 200
        await asyncio.to_thread(own_stores.postgres.start)
        assert (await here.client.put(f"/v1/messages/{bob}", json=body(timestamp=2), headers=alice_header)).status_code == 200
        here.health_clock.seconds += KEPT_SECONDS
        assert (await here.client.get("/health")).status_code == 200
