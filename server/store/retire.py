"""Takes a partition away while its siblings are being read and written. Owns the order of steps; the callers know when it is time."""

from __future__ import annotations

import asyncpg

ATTACHED = """
SELECT i.inhdetachpending FROM pg_inherits i WHERE i.inhrelid = to_regclass($1) AND i.inhparent = $2::text::regclass
"""


async def retire(connection: asyncpg.Connection, table: str, partition: str) -> None:
    """Detach and drop a partition; safe to repeat after it stopped anywhere. Names are ours, never from outside.

    A plain DROP locks the whole table and everybody queues behind it; CONCURRENTLY waits by itself, in two transactions. When the first
    was committed and the second was not, FINALIZE is what goes on.
    """
    row = await connection.fetchrow(ATTACHED, partition, table)
    if row is not None:
        how = "FINALIZE" if row["inhdetachpending"] else "CONCURRENTLY"
        await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {partition} {how}")
    await connection.execute(f"DROP TABLE IF EXISTS {partition}")
