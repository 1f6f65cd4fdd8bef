"""Counts what a worker holds: tasks, file descriptors, connections to the stores, keys in Redis, memory. Judges nothing.

Connections to the stores are pooled and opened when a moment needs one more, so they are counted apart from the other descriptors: they
are held against the pools' sizes, all else against the count before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
import redis.asyncio
from prometheus_client.parser import text_string_to_metric_families

from veredus.server.cluster import keys
from veredus.server.cluster.timing import Timing

LEASE_MS = int(Timing().lease * 1000)
QUIET_SECONDS = 30.0  # for things to come to rest; never waited for when all is well
T = TypeVar("T")


@dataclass(frozen=True)
class Stores:
    """What the stores hold for everybody."""

    keys: tuple[str, ...]  # in Redis: those that stay, and the leases
    passing: int  # keys: the others, which expire
    entries: int  # devices in the presence hash
    postgres: int  # connections
    redis: int

    @property
    def leases(self) -> set[str]:
        return {name for name in self.keys if name.startswith(keys.LEASE)}


@dataclass(frozen=True)
class Held:
    """What one worker holds at rest; equal before and after."""

    sessions: int
    connections: int
    partial_bytes: int
    tasks: int
    descriptors: int  # those that are no connections to stores
    entries: int
    keys: tuple[str, ...]


class Census:
    """Looks at the stores of one test, and at workers on them."""

    def __init__(self, dsn: str, redis_url: str) -> None:
        self._dsn = dsn
        self._redis_url = redis_url

    async def stores(self) -> Stores:
        async with redis.asyncio.Redis.from_url(self._redis_url, decode_responses=True) as client:
            names = sorted([name async for name in client.scan_iter(count=1000)])
            stay = tuple([name for name in names if name.startswith(keys.LEASE) or await client.pttl(name) == -1])
            entries = [name for name in await _of(client.hkeys(keys.DEVICES)) if name.isdecimal()]
            database = str(client.connection_pool.connection_kwargs["db"])
            others = [each for each in await client.client_list() if each["db"] == database]
        found = await self._value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        return Stores(stay, len(names) - len(stay), len(entries), int(found), len(others) - 1)

    async def of_worker(self, pid: int, url: str) -> Held:
        series = await scrape(url)
        stores = await self.stores()
        own = descriptors(pid) - stores.postgres - stores.redis
        what = {name: int(series[f"veredus_websocket_total{name}"]) for name in ("open", "partial_bytes")}
        sessions, tasks = int(series["veredus_sessions"]), int(series["veredus_tasks"])
        return Held(sessions, what["open"], what["partial_bytes"], tasks, own, stores.entries, stores.keys)

    async def expire(self, names: Iterable[str]) -> None:
        """Let time pass for these keys, which must be expiring."""
        async with redis.asyncio.Redis.from_url(self._redis_url) as client:
            for name in names:
                assert 0 < await client.pttl(name) <= LEASE_MS, name
                await client.pexpire(name, 1)

    async def _value(self, statement: str) -> Any:
        connection = await asyncpg.connect(self._dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


async def scrape(url: str) -> dict[str, float]:
    """The worker's series by name, what is labelled `what` with the label's value behind it. Over a connection that ends with it."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/metrics", headers={"Connection": "close"})
    samples = (sample for family in text_string_to_metric_families(answer.raise_for_status().text) for sample in family.samples)
    return {sample.name + sample.labels.get("what", ""): sample.value for sample in samples}


async def comes_true(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    """Look until it is so, or give back what it is when it does not become so: the caller's assertion then shows it."""
    seen = await look()
    with suppress(TimeoutError):
        async with asyncio.timeout(QUIET_SECONDS):
            while not wanted(seen):
                await asyncio.sleep(0.1)  # another process' state: there is no event to wait for
                seen = await look()
    return seen


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processes_of_session(leader: int) -> set[int]:
    """All processes of a session, zombies with them: what a supervisor started and nobody reaped is here."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # After the command's name in brackets: state, parent, group, session.
                if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                    found.add(int(entry.name))
    return found


async def _of(command: Any) -> Any:
    """redis-py types its commands as maybe-awaitable."""
    return await command
