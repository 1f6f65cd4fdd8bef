"""Mailboxes and idempotency keys in PostgreSQL: the adapter of `MessageStore`. Owns paging and removing; `commit.py` commits."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg
from asyncpg.pgproto.pgproto import UUID as FastUUID

from veredus.core.errors import StoreUnavailable
from veredus.core.limits import Limits
from veredus.core.model import Outcome, Page, Row, Submission
from veredus.server.store.commit import Committer
from veredus.server.store.pool import Connections, Lost

# The snapshot is the statement's own, and there is a row to carry it even when the mailbox is empty.
#
# Page.xmax is above every transaction that had begun. pg_snapshot_xmax is not: it is one past the newest transaction that had *ended*, so
# a running one may be at or above it, and a later snapshot's xmin reaches it while that one still runs. age() counts from the next id to
# be given out, which is read after the snapshot was taken; the sum is that next id in 64 bits. (docs/decisions/0010)
PAGE = """
SELECT pg_snapshot_xmin(s.now)::text::bigint AS xmin,
       pg_snapshot_xmax(s.now)::text::bigint + age(pg_snapshot_xmax(s.now)::xid) AS xmax,
       r.id, r.guid, r.server_time, r.envelope, r.found
FROM (SELECT pg_current_snapshot() AS now) s LEFT JOIN LATERAL (
    SELECT * FROM (
        SELECT *, count(*) OVER () AS found, sum(octet_length(envelope)) OVER (ORDER BY id) - octet_length(envelope) AS before
        FROM (
            SELECT id, guid, server_time, envelope FROM mailbox
            WHERE device = $1 AND id > $2 AND id <> ALL ($3::bigint[])
              AND server_time > extract(epoch FROM statement_timestamp()) * 1000 - $5::bigint
            ORDER BY id LIMIT $4
        ) f
    ) p WHERE before < $6::bigint ORDER BY id
) r ON true"""

# Sizes come from the pointers to stored values: an envelope beyond the page's bytes is not read. What is over its time is not seen any
# more, though its partition may stand for a while (partitions.py).
DAY_MS = 86_400_000

# Row by row through the primary key of the one partition each id is in. The comparison of devices is written so that it can use an index
# but not order a join: a plan made while the table is empty would otherwise read the whole index at every call, and be kept.
REMOVE = """
DELETE FROM mailbox m USING (SELECT device, id FROM unnest($1::bigint[], $2::bigint[]) t(device, id) OFFSET 0) t
WHERE m.device = ANY (ARRAY[t.device]) AND m.id = t.id"""

REMOVE_GUID = "DELETE FROM mailbox WHERE device = $1 AND guid = $2"

EPOCH = "SELECT epoch FROM store"

# Deadlocks between removes of the same rows are all but excluded by their order.
ROUNDS = 3


class PostgresMessageStore:
    """`MessageStore` on three groups of connections, so that a slow page holds up no commit."""

    def __init__(self, committer: Committer, reads: Connections, removes: Connections, limits: Limits) -> None:
        self._committer = committer
        self._reads = reads
        self._removes = removes
        self._retention_ms = limits.retention_days * DAY_MS
        self._page_bytes = limits.page_bytes

    async def commit(self, batch: Sequence[Submission]) -> list[Outcome]:
        return await self._committer.commit(batch) if batch else []

    async def page(self, device: int, floor: int, skip: Sequence[int], limit: int) -> Page:
        try:
            records = await self._reads.fetch(PAGE, device, floor, skip, limit, self._retention_ms, self._page_bytes)
        except (Lost, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"cannot read a mailbox ({type(error).__name__})") from None
        rows = tuple([Row(row["id"], row["guid"].bytes, row["server_time"], row["envelope"]) for row in records if row["id"] is not None])
        found = records[0]["found"] or 0
        return Page(rows, records[0]["xmin"], records[0]["xmax"], len(rows) == found < limit)

    async def remove(self, rows: Sequence[tuple[int, int]]) -> int:
        if not rows:
            return 0
        ordered = sorted(rows)  # one order for everybody who locks rows
        return await self._delete(REMOVE, [device for device, _ in ordered], [row for _, row in ordered])

    async def remove_guid(self, device: int, guid: bytes) -> bool:
        return await self._delete(REMOVE_GUID, device, FastUUID(guid)) > 0

    async def epoch(self) -> UUID:
        try:
            row = await self._reads.fetchrow(EPOCH)
        except (Lost, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"cannot read the epoch ({type(error).__name__})") from None
        if row is None:
            raise StoreUnavailable("the store has no epoch; run veredus migrate")
        return UUID(bytes=row["epoch"].bytes)

    async def _delete(self, sql: str, *args: object) -> int:
        """A lost connection may have deleted or not; that is as good as not, since to delete again is harmless."""
        for _ in range(ROUNDS):
            try:
                return int((await self._removes.execute(sql, *args)).split()[-1])
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                continue
            except (Lost, asyncpg.PostgresError) as error:
                raise StoreUnavailable(f"cannot delete rows ({type(error).__name__})") from None
        raise StoreUnavailable("cannot delete rows: deadlocks")
