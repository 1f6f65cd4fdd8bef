"""The partitions of the mailbox. Owns their making and dropping, and the jumps of the id sequence from one to the next.

When a partition's time is over the next one is made first, in a transaction of its own; only then the sequence moves into it. (Not made
earlier: a page of an empty mailbox visits every partition above its floor.) When the first step fails the ids stay where they are, and
there is room for 2^40 of them: rows live longer, nothing else. When the job stops after the second step, the next run finds by the
sequence where things are. Rows go with their partition once it has been closed for the retention time, so a row nobody acknowledges lives
for that time at least and a partition's width longer at most.
"""

from __future__ import annotations

import asyncpg

from veredus.server.store.locks import SEQUENCES, locked
from veredus.server.store.retire import retire

SHIFT = 40  # of an id's bits: 10^12 ids a partition, and 8,000 partitions until ids pass 2^53, which JSON readers can hold

# The sequence never moves back, whoever calls nextval meanwhile: a partition's ids are far more than can be drawn between the two.
MOVE = "SELECT setval('mailbox_id', $1, false) FROM mailbox_id WHERE last_value < $1"

# From the sequence, not from what an earlier run wrote: the sequence is what the rows went by.
SETTLE = """
UPDATE mailbox_partition SET opened_at = CASE WHEN number = $1 THEN coalesce(opened_at, clock_timestamp()) ELSE opened_at END,
                             closed_at = CASE WHEN number < $1 THEN coalesce(closed_at, clock_timestamp()) ELSE closed_at END
WHERE (number = $1 AND opened_at IS NULL) OR (number < $1 AND closed_at IS NULL)
"""

DUE = "SELECT opened_at + make_interval(days => $2) <= clock_timestamp() FROM mailbox_partition WHERE number = $1"

EXPIRED = "SELECT number FROM mailbox_partition WHERE closed_at + make_interval(days => $1) < clock_timestamp() ORDER BY number"


class PartitionJob:
    """One run an hour or so keeps partitions at their width. Any node may run it at any time."""

    def __init__(self, dsn: str, retention_days: int = 30, width_days: int = 7) -> None:
        self._dsn = dsn
        self._retention_days = retention_days
        self._width_days = width_days

    async def run(self) -> None:
        """Do what is due. Raises `StoreUnavailable` or the server's error; what was done stands and the next run goes on from there."""
        async with locked(self._dsn, SEQUENCES) as connection:
            current = await self._settle(connection)
            if await connection.fetchval(DUE, current, self._width_days):
                if not await connection.fetchval("SELECT count(*) FROM mailbox_partition WHERE number = $1", current + 1):
                    await connection.execute("SELECT mailbox_create_partition($1)", current + 1)
                await connection.execute(MOVE, (current + 1) << SHIFT)
                await self._settle(connection)
            for row in await connection.fetch(EXPIRED, self._retention_days):
                await retire(connection, "mailbox", f"mailbox_{row['number']}")
                await connection.execute("DELETE FROM mailbox_partition WHERE number = $1", row["number"])

    async def _settle(self, connection: asyncpg.Connection) -> int:
        """Write down which partition the sequence is in; return its number."""
        current: int = await connection.fetchval("SELECT last_value >> $1 FROM mailbox_id", SHIFT)
        await connection.execute(SETTLE, current)
        return current
