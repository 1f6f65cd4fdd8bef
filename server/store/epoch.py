"""The store's epoch. Owns what must happen when the past may have changed: restore, or promotion without proof of zero lag."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from veredus.server.store.locks import SEQUENCES, locked

# More than any store hands out between a backup's end and its loss being noticed matters not: what must not happen is that a number given
# out before is given out again. Cached presence, devices_version and positions of the lost future name numbers below this.
FORWARD = 1_000_000

MOVE = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, coalesce(last_value, start_value) + $1)
FROM pg_sequences WHERE schemaname = current_schema()
"""


async def new_epoch(dsn: str) -> UUID:
    """Give the store a new epoch and move all its sequences forward, sequences first. Run it with the workers stopped."""
    async with locked(dsn, SEQUENCES) as connection, connection.transaction():
        await connection.execute(MOVE, FORWARD)
        return await _renew(connection)


async def _renew(connection: asyncpg.Connection) -> UUID:
    value = await connection.fetchval("UPDATE store SET epoch = gen_random_uuid(), since = clock_timestamp() RETURNING epoch")
    return UUID(bytes=value.bytes)
