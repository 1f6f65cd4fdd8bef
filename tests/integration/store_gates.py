"""Tools of the store's tests: a world on PostgreSQL, statements held open, and a way to wait until one is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from uuid import uuid4

import asyncpg

from veredus.core.model import Account, Submission
from veredus.server.store.accounts import Secret
from veredus.server.store.commit import Committer
from veredus.server.store.pool import BATCH, Connections
from veredus.server.store.postgres import Postgres, StoreConfig
from veredus.server.store.windows import Windows

SECRET = Secret(b"salt", b"hash")

STUCK = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'veredus commit'
"""


class PostgresWorld:
    """Accounts made by the product's own code."""

    def __init__(self, dsn: str, postgres: Postgres) -> None:
        self.dsn = dsn
        self.postgres = postgres
        self.store = postgres.messages

    async def account(self, devices: int = 1) -> Account:
        uuid = uuid4().bytes
        await self.postgres.accounts.create(uuid, 11, SECRET)
        for _ in range(devices - 1):
            assert await self.postgres.accounts.add_device(uuid, 12, SECRET, 6)
        return (await self.postgres.directory.accounts([uuid]))[uuid]

    async def move(self, account: Account) -> Account:
        assert await self.postgres.accounts.add_device(account.uuid, 13, SECRET, 6)
        return (await self.postgres.directory.accounts([account.uuid]))[account.uuid]


@asynccontextmanager
async def opened(dsn: str, **settings: float) -> AsyncIterator[PostgresWorld]:
    """A worker's store on a migrated database."""
    postgres = Postgres(StoreConfig(dsn=dsn, **settings))  # type: ignore[arg-type]
    try:
        yield PostgresWorld(dsn, postgres)
    finally:
        await postgres.close()


class OneConnection:
    """`Connections` on a single connection a test holds a transaction on."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.fetch = connection.fetch
        self.fetchrow = connection.fetchrow
        self.execute = connection.execute


class Held:
    """Commits inside a transaction that ends when the test says so."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.transaction = connection.transaction()
        connections = cast(Connections, OneConnection(connection))
        self.windows = Windows(connections)
        self.committer = Committer(connections, self.windows)

    async def commit(self, *batch: Submission) -> None:
        """Store without committing."""
        await self.committer.commit(batch)


@asynccontextmanager
async def held(dsn: str) -> AsyncIterator[Held]:
    """Another worker, in the middle of its transaction. Rolled back at the end unless committed before."""
    connection = await asyncpg.connect(dsn, server_settings=BATCH)
    try:
        other = Held(connection)
        await other.windows.state()
        await other.transaction.start()
        yield other
    finally:
        connection.terminate()


async def until_stuck(dsn: str, count: int = 1) -> None:
    """Return when `count` commits of the store wait for somebody's transaction."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(20):
            while await connection.fetchval(STUCK) != count:
                await asyncio.sleep(0.005)  # PostgreSQL tells nobody when a backend begins to wait
    finally:
        await connection.close()


async def query(dsn: str, sql: str, *args: object) -> list[asyncpg.Record]:
    """One statement on a connection of its own."""
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(sql, *args))
    finally:
        await connection.close()
