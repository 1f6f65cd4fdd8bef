"""The limit of messages on a real worker, as clients meet it over WebSocket and HTTP."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from tests.chaos.ground import Ground, ground
from tests.fakes.http import body
from tests.stores import Stores
from veredus.client import Client, Credentials
from veredus.server.cluster.limiter import PREFIX

LIMIT = "limits: {messages_per_minute: 600, messages_burst: 3}\n"  # one in a tenth of a second
SLOW = "limits: {messages_per_minute: 1, messages_burst: 3}\n"


async def metric(place: Ground, name: str) -> float:
    async with httpx.AsyncClient() as web:
        text = (await web.get(f"http://127.0.0.1:{place.port}/metrics")).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} "))


@pytest.mark.requirement("RL-1", "RL-7", "RL-9")
async def test_http_answers_429_with_the_time_to_wait(database: str, redis_url: str, stores: Stores, tmp_path: Path) -> None:
    own_url = stores.new_redis_url()
    more = SLOW + f"ratelimit_redis_url: {own_url!r}\n"
    async with asyncio.timeout(60), ground(tmp_path, database, redis_url, more) as place:
        alice, bob = await place.accounts(2)
        await place.worker()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{place.port}", timeout=30) as web:
            answers = [await send(web, alice, bob, number) for number in range(5)]
            reverse = await send(web, bob, alice, 0)
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        refused = answers[3].json()
        assert (refused["name"], refused["reason"]) == ("RATE_LIMITED", "too many requests")
        assert 0 < refused["retryAfterMs"] <= 60_000
        assert int(answers[3].headers["Retry-After"]) == math.ceil(refused["retryAfterMs"] / 1000)
        assert reverse.status_code == 200, "bob has a limit of his own"
        assert await metric(place, "veredus_rate_limited_total") == 2
        async with Redis.from_url(own_url) as own, Redis.from_url(redis_url) as other:
            while len([key async for key in own.scan_iter(f"{PREFIX}*")]) < 3:
                await asyncio.sleep(0.01)  # the test's timeout bounds it
            assert not [key async for key in other.scan_iter(f"{PREFIX}*")], "limits are agreed on the Redis of their own"


async def send(web: httpx.AsyncClient, sender: Credentials, to: Credentials, number: int) -> httpx.Response:
    return await web.put(f"/v1/messages/{to.account}", json=body(timestamp=number), headers={"Authorization": sender.authorization()})


@pytest.mark.requirement("RL-1", "RL-9")
async def test_a_websocket_client_over_the_limit_waits_and_loses_nothing(database: str, redis_url: str, tmp_path: Path) -> None:
    async with asyncio.timeout(60), ground(tmp_path, database, redis_url, LIMIT) as place:
        alice, bob = await place.accounts(2)
        await place.worker()
        async with Client(place.url, alice) as sender:
            await asyncio.gather(*[sender.submit(bob.account, f"message {number}") for number in range(12)])
        assert await metric(place, "veredus_rate_limited_total") > 0
        async with Client(place.url, bob) as receiver:
            await receiver.drained()
            assert [message.text for message in receiver.take()] == [f"message {number}" for number in range(12)]
