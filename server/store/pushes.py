"""Pushes in PostgreSQL: which of those that are due may be sent now, what came of them, whose job is missing. The adapter of `PushStore`.

All of it is columns of `device`, so that one row lock decides: whoever moves `push_next_at` on has the push, everybody else finds it moved.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from veredus.core.model import Push, PushRecord
from veredus.server.store.pool import Connections
from veredus.server.store.wakeups import asked

# BEGIN and RECORD ask by coalesce(), which says nothing to the planner: it would else walk the index of all pushes that are due.

# $1 devices, $2 those online, $3 lease, $4 hold, $5 tries a minute. Nobody to tell, or nothing to tell him of: no push is due any more.
BEGIN = """
WITH t AS MATERIALIZED (
    SELECT d.id, clock_timestamp() AS now, date_trunc('minute', clock_timestamp()) AS minute,
           d.revoked_at IS NULL AND EXISTS (SELECT FROM account a WHERE a.id = d.account AND a.disabled_at IS NULL OFFSET 0)
           AND EXISTS (SELECT FROM mailbox m WHERE m.device = d.id OFFSET 0) AS wanted,
           d.id = ANY ($2::bigint[]) AND d.push_held_at IS NULL AS hold,
           CASE WHEN d.push_minute = date_trunc('minute', clock_timestamp()) THEN d.push_in_minute ELSE 0 END AS tries
    FROM device d WHERE d.id = ANY ($1::bigint[])
    AND coalesce(d.push_due_id, 0) > 0 AND d.push_next_at <= clock_timestamp() ORDER BY d.id FOR NO KEY UPDATE OF d
), c AS (
    SELECT *, CASE WHEN NOT wanted THEN 'clear' WHEN hold THEN 'hold' WHEN tries >= $5::int THEN 'wait' ELSE 'send' END AS what FROM t
)
UPDATE device d SET
    push_due_id = CASE WHEN c.what = 'clear' THEN NULL ELSE d.push_due_id END,
    push_due_at = CASE WHEN c.what = 'clear' THEN NULL ELSE d.push_due_at END,
    push_held_at = CASE WHEN c.what = 'hold' THEN c.now ELSE d.push_held_at END,
    push_next_at = CASE c.what WHEN 'hold' THEN c.now + make_interval(secs => $4::float8) WHEN 'wait' THEN c.minute + interval '1 minute'
                               ELSE c.now + make_interval(secs => $3::float8) END,
    push_queue_at = CASE c.what WHEN 'hold' THEN c.now + make_interval(secs => $4) WHEN 'wait' THEN c.minute + interval '1 minute'
                                ELSE c.now + make_interval(secs => $3) END,
    push_minute = c.minute,
    push_in_minute = c.tries + CASE WHEN c.what = 'send' THEN 1 ELSE 0 END
FROM c WHERE d.id = c.id RETURNING d.id, d.push_due_id, d.push_urgent, d.push_sent, d.push_failed, c.what"""

# $1 device, $2 due, $3 sent, $4 seconds until the next, infinite for never. A device that came here meanwhile has no due, or another one.
RECORD = """
WITH t AS MATERIALIZED (
    SELECT id, ($3::boolean[])[array_position($1, id)] AS sent,
           clock_timestamp() + make_interval(secs => nullif(($4::float8[])[array_position($1, id)], 'infinity')) AS next
    FROM device
    WHERE id = ANY ($1::bigint[]) AND coalesce(push_due_id, 0) = ($2::bigint[])[array_position($1, id)]
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE device d SET
    push_sent_at = CASE WHEN t.sent THEN clock_timestamp() ELSE d.push_sent_at END,
    push_sent = d.push_sent + t.sent::int,
    push_failed = CASE WHEN t.sent THEN 0 ELSE d.push_failed + 1 END,
    push_next_at = coalesce(t.next, 'infinity'),
    push_queue_at = coalesce(t.next, 'infinity')
FROM t WHERE d.id = t.id"""

# Whoever moves it on makes the job. Rows somebody has locked are being looked after. Not before `push_next_at`: a job would find nothing.
UNQUEUED = """
WITH t AS MATERIALIZED (
    SELECT id FROM device WHERE push_due_id IS NOT NULL AND push_queue_at <= clock_timestamp()
    ORDER BY push_queue_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE device d SET push_queue_at = clock_timestamp() + make_interval(secs => $2::float8) FROM t WHERE d.id = t.id RETURNING d.id"""


class PostgresPushes:
    """`PushStore`, on the connections for small writes."""

    def __init__(self, points: Connections) -> None:
        self._points = points

    async def begin(self, devices: Sequence[int], online: Collection[int], lease: float, hold: float, per_minute: int) -> list[Push]:
        """See `core.ports.PushStore`."""
        found = await asked(self._points, BEGIN, sorted(set(devices)), list(online), lease, hold, per_minute)
        return [
            Push(row["id"], row["push_due_id"], row["push_urgent"], row["push_sent"], row["push_failed"])
            for row in found
            if row["what"] == "send"
        ]

    async def record(self, records: Sequence[PushRecord]) -> None:
        """See `core.ports.PushStore`."""
        waits = [float("inf") if record.wait is None else record.wait for record in records]
        await asked(
            self._points, RECORD, [each.device for each in records], [each.due for each in records], [each.sent for each in records], waits
        )

    async def unqueued(self, limit: int, seconds: float) -> list[int]:
        """See `core.ports.PushStore`."""
        return [row["id"] for row in await asked(self._points, UNQUEUED, limit, seconds)]
