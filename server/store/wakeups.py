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

# Rows are locked in one order for everybody. A device whose push is due already is left alone: one push brings all of it.
DUE = """
WITH t AS MATERIALIZED (
    SELECT d.id, greatest(t.row_id, (SELECT max(m.id) FROM mailbox m WHERE m.device = d.id AND t.row_id = 0)) AS row_id
    FROM unnest($1::bigint[], $2::bigint[]) t(device, row_id) JOIN device d ON d.id = t.device
    WHERE d.push_due_id IS NULL AND d.revoked_at IS NULL ORDER BY d.id FOR NO KEY UPDATE OF d
)
UPDATE device d SET push_due_id = t.row_id, push_due_at = clock_timestamp() FROM t WHERE d.id = t.id AND t.row_id > 0"""

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

    async def due(self, devices: Mapping[int, int]) -> None:
        """See `core.ports.Wakeups`."""
        ordered = sorted(devices.items())
        await _asked(self._points, DUE, [device for device, _ in ordered], [row for _, row in ordered])

    async def awake(self, devices: Sequence[int]) -> None:
        """See `core.ports.Wakeups`."""
        await _asked(self._points, AWAKE, list(devices))

    async def occupied(self, devices: Sequence[int]) -> set[int]:
        """See `core.ports.Wakeups`."""
        return {record["d"] for record in await _asked(self._points, OCCUPIED, list(devices))}

    async def overdue(self, seconds: float) -> list[tuple[int, int]]:
        """See `core.ports.Wakeups`."""
        for marks in await _asked(self._ranges, MOVE_MARKS, seconds):
            if marks["mark_4"] < marks["mark_2"]:
                found = await _asked(self._ranges, OVERDUE, marks["mark_4"], marks["mark_2"])
                return [(record["device"], record["id"]) for record in found]
        return []


async def _asked(connections: Connections, sql: str, *args: object) -> list[asyncpg.Record]:
    """The rows of a statement. One whose result is unknown counts as not done: all of these may be done twice."""
    try:
        return await connections.fetch(sql, *args)
    except (Lost, asyncpg.PostgresError) as error:
        raise StoreUnavailable(f"cannot look after wake-ups ({type(error).__name__})") from None
