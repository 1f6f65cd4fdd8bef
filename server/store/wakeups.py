"""Wake-ups in PostgreSQL: whose push is due, whose mailbox holds anything, who has waited too long. The adapter of `Wakeups`.

The sweep. Rows that nobody told their device of are found by age, and age by id: every half minute somebody notes how far ids have come.
What lies between the marks of one and three half minutes ago was stored 30 to 90 s ago; what is still there has not been acknowledged. The
row of marks is the ownership too: whoever moves it on sweeps, everybody else finds it moved. A sweeper that dies has moved the marks, and
the next one's range overlaps by half, so each row is looked for twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from veredus.core.errors import StoreUnavailable
from veredus.server.store.pool import Connections, Lost

PATIENCE_SECONDS = 30.0  # what is not urgent is told of so much later, with whatever came meanwhile
QUEUED_SECONDS = 30.0  # a job that was made and has led to nothing by then is made again

# Rows are locked in one order for everybody. A device whose push is due already is left alone, since one push brings all of it, unless
# - it was told, or could not be, and has taken what it was to be told of without a connection (over HTTP): that is a new due, or
# - it was told, or will be, that it is not urgent, and now something urgent came.
# What is not urgent waits for $3 seconds for more. The newest 20 rows say what is urgent: a mailbox of thousands is not read for it.
# A due being cleared at the same moment (`pushes.BEGIN`) is not seen: that row is found by the sweep.
# First a look without locks, each device by one descent of an index (OFFSET 0), then locks for those that need a change and that nobody
# has changed meanwhile.
DUE = """
WITH c AS MATERIALIZED (
    SELECT d.id, d.push_due_id, r.newest, u.urgent
    FROM unnest($1::bigint[], $2::bigint[]) t(device, row_id)
    JOIN LATERAL (
        SELECT *, push_sent + push_failed > 0
                  AND NOT EXISTS (SELECT FROM mailbox m WHERE m.device = t.device AND m.id <= push_due_id OFFSET 0) AS taken
        FROM device WHERE id = t.device AND revoked_at IS NULL OFFSET 0
    ) d ON true
    JOIN LATERAL (
        SELECT greatest(t.row_id, (SELECT max(m.id) FROM mailbox m WHERE m.device = t.device AND t.row_id = 0)) AS newest OFFSET 0
    ) r ON true
    JOIN LATERAL (
        SELECT coalesce(bool_or(m.urgent), false) AS urgent FROM (
            SELECT urgent FROM mailbox WHERE device = t.device AND (d.push_due_id IS NULL OR NOT d.push_urgent OR d.taken)
            ORDER BY id DESC LIMIT 20
        ) m OFFSET 0
    ) u ON true
    WHERE r.newest > 0 AND (d.push_due_id IS NULL OR NOT d.push_urgent AND u.urgent OR d.taken)
), l AS MATERIALIZED (
    SELECT id FROM device WHERE id = ANY ((SELECT array_agg(id) FROM c)::bigint[])
    AND (push_due_id IS NULL OR push_due_id = ANY ((SELECT array_agg(push_due_id) FROM c)::bigint[]))
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE device d SET push_due_id = c.newest, push_due_at = clock_timestamp(), push_urgent = c.urgent, push_sent = 0, push_failed = 0,
    push_held_at = NULL, push_next_at = clock_timestamp() + make_interval(secs => CASE WHEN c.urgent THEN 0 ELSE $3::float8 END),
    push_queue_at = clock_timestamp() + make_interval(secs => CASE WHEN c.urgent THEN $4::float8 ELSE $3 END)
FROM c WHERE d.id = c.id AND c.id = ANY ((SELECT array_agg(id) FROM l)::bigint[]) RETURNING d.id, c.urgent"""

# A device that is here and has looked into its mailbox needs no push any more.
AWAKE = """
WITH t AS MATERIALIZED (
    SELECT id FROM device WHERE id = ANY ($1::bigint[]) AND push_due_id IS NOT NULL ORDER BY id FOR NO KEY UPDATE
)
UPDATE device d SET push_due_id = NULL, push_due_at = NULL FROM t WHERE d.id = t.id"""

OCCUPIED = "SELECT d FROM unnest($1::bigint[]) d WHERE EXISTS (SELECT FROM mailbox m WHERE m.device = d OFFSET 0)"

# In new values: mark_2 was noted at least SWEEP_SECONDS ago, mark_4 three times as long.
MOVE_MARKS = """
UPDATE mailbox_sweep s SET swept_at = clock_timestamp(), mark_1 = (SELECT last_value FROM mailbox_id),
                           mark_2 = s.mark_1, mark_3 = s.mark_2, mark_4 = s.mark_3
WHERE s.swept_at <= clock_timestamp() - make_interval(secs => $1) RETURNING mark_4, mark_2"""

OVERDUE = "SELECT device, max(id) AS id FROM mailbox WHERE id > $1 AND id <= $2 GROUP BY device"


class PostgresWakeups:
    """`Wakeups` on the connections for small writes, and some with settings of their own for the sweep's range."""

    def __init__(self, points: Connections, ranges: Connections) -> None:
        self._points = points
        self._ranges = ranges

    async def due(self, devices: Mapping[int, int]) -> list[int]:
        """See `core.ports.Wakeups`."""
        ordered = sorted(devices.items())
        names, rows = [device for device, _ in ordered], [row for _, row in ordered]
        return [
            record["id"] for record in await asked(self._points, DUE, names, rows, PATIENCE_SECONDS, QUEUED_SECONDS) if record["urgent"]
        ]

    async def awake(self, devices: Sequence[int]) -> None:
        """See `core.ports.Wakeups`."""
        await asked(self._points, AWAKE, list(devices))

    async def occupied(self, devices: Sequence[int]) -> set[int]:
        """See `core.ports.Wakeups`."""
        return {record["d"] for record in await asked(self._points, OCCUPIED, list(devices))}

    async def overdue(self, seconds: float) -> list[tuple[int, int]]:
        """See `core.ports.Wakeups`."""
        for marks in await asked(self._ranges, MOVE_MARKS, seconds):
            if marks["mark_4"] < marks["mark_2"]:
                found = await asked(self._ranges, OVERDUE, marks["mark_4"], marks["mark_2"])
                return [(record["device"], record["id"]) for record in found]
        return []


async def asked(connections: Connections, sql: str, *args: object) -> list[asyncpg.Record]:
    """The rows of a statement. One whose result is unknown counts as not done: all of these may be done twice."""
    try:
        return await connections.fetch(sql, *args)
    except (Lost, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"cannot look after wake-ups ({type(error).__name__})") from None
