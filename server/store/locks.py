"""Advisory locks: who may do what only one at a time, across all nodes. A lock ends with its connection, however that ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from veredus.core.errors import StoreUnavailable

# Arbitrary constants of ours ("VEREDUS" in ASCII and a number): every node must use the same, nobody else should.
MIGRATIONS = 0x5645524544555331
SEQUENCES = 0x5645524544555332
WINDOWS = 0x5645524544555333

# Long enough for a healthy statement before us to end, short enough that those who queue behind us do not notice.
LOCK_TIMEOUT = "2s"


@asynccontextmanager
async def locked(dsn: str, lock: int) -> AsyncIterator[asyncpg.Connection]:
    """A connection of its own that holds `lock`, waiting for it if need be. Raises `StoreUnavailable`."""
    try:
        connection = await asyncpg.connect(dsn, timeout=5, server_settings={"application_name": "veredus job"})
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreUnavailable(f"cannot connect ({type(error).__name__})") from None
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", lock)
        await connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        yield connection
    finally:
        await connection.close(timeout=5)
