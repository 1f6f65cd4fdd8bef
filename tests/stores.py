"""Fixtures: real PostgreSQL and Redis for tests. One pair of servers for the whole run, a database and a Redis number per test.

`stores` is shared: never stop it. A test that stops or kills servers takes `own_stores`. Pub/Sub has no numbers in Redis: channels are
shared by all of them.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio

from veredus.server.process import binaries, servers
from veredus.server.process.embedded import Embedded

TEMPLATE = "veredus_template"
REDIS_NUMBERS = 64  # what the embedded Redis has


class Stores:
    """The run's servers and the databases made on them."""

    def __init__(self, embedded: Embedded) -> None:
        self.embedded = embedded
        self._made = 0
        self._numbers = 0
        self._template: str | None = None

    async def new_database(self) -> str:
        """A fresh, migrated database; returns its name."""
        template = self._template or await self._make_template()
        self._made += 1
        name = f"test_{self._made}"
        await self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    async def drop_database(self, name: str) -> None:
        await self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def new_redis_url(self) -> str:
        """A Redis database number, used again after all others were."""
        self._numbers += 1
        return f"{self.embedded.redis_url}?db={self._numbers % REDIS_NUMBERS}"

    async def _make_template(self) -> str:
        await self._run(f"CREATE DATABASE {TEMPLATE}")
        await migrate(self.embedded.dsn_of(TEMPLATE))
        self._template = TEMPLATE
        return TEMPLATE

    async def _run(self, statement: str) -> None:
        connection = await asyncpg.connect(self.embedded.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def migrate(dsn: str) -> None:
    """Bring a database to the newest schema, as `veredus migrate` does."""
    if importlib.util.find_spec("veredus.server.store.migrations") is None:
        return
    from veredus.server.store import migrations

    await migrations.migrate(dsn)


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """Both servers, shared by the whole run."""
    with temporary_folder() as folder, Embedded(folder / "data") as embedded:
        yield Stores(embedded)


@pytest.fixture
def own_stores() -> Iterator[Embedded]:
    """Both servers of this test alone: `.postgres` and `.redis` have `stop()`, `start()`, `kill()`; `.dsn` is an empty database."""
    with temporary_folder() as folder, Embedded(folder / "data") as embedded:
        yield embedded


class SecondRedis:
    """A Redis beside the embedded one."""

    def __init__(self, folder: Path) -> None:
        self._server = servers.Redis(binaries.redis().program, folder / "redis", folder, folder / "redis.log")
        self.redis_url = f"unix://{self._server.socket}"
        self.stop = self._server.stop
        self.kill = self._server.kill

    @property
    def pid(self) -> int:
        return self._server.pid

    def start(self) -> None:
        """From the main thread: the server ends with the thread that started it."""
        self._server.start(lambda: True)


@pytest.fixture
def second_redis() -> Iterator[SecondRedis]:
    """A running Redis of this test alone."""
    with temporary_folder() as folder:
        second = SecondRedis(folder)
        second.start()
        yield second
        second.stop()


@pytest.fixture
async def own_database(own_stores: Embedded) -> str:
    """The migrated database of `own_stores`."""
    await migrate(own_stores.dsn)
    return own_stores.dsn


@pytest.fixture
async def database(stores: Stores) -> AsyncIterator[str]:
    """The DSN of a fresh, migrated database of this test alone."""
    name = await stores.new_database()
    yield stores.embedded.dsn_of(name)
    await stores.drop_database(name)


@pytest.fixture
async def redis_url(stores: Stores) -> str:
    """The URL of an empty Redis database of this test alone."""
    url = stores.new_redis_url()
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.flushdb()
    return url


class temporary_folder:
    """A temporary folder that the servers' user can go through when the tests run as root (pytest's own is closed to others)."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="veredus-test-", dir="/tmp"))  # short: unix sockets go inside
        self.path.chmod(0o711)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
