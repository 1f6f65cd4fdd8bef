"""The SQL of a commit, as text. Owns how a batch becomes rows; knows nothing of Python objects or errors.

Parameters are columns of the batch. Fixed-size columns are read by subscript, `($6::bigint[])[i]`, which costs a third of `unnest`; the
two of variable size, where a subscript would search from the start, come from `unnest … WITH ORDINALITY`, whose rows come in input order,
and so `nextval` is called in input order.

Tables are only reached by correlated lookups (`OFFSET 0` keeps the planner from turning them into joins): each is one index descent.

    plain      steady state, expecting no repeats: a known key is an error and the whole statement has no effect. 3 µs a row cheaper.
    careful    steady state: known keys are left out and reported
    changing   as careful, in both windows
    lookup     what became of the keys a careful statement left out. A statement of its own: the first cannot see a concurrent winner.

A transaction has its own id before it draws its first mailbox id (`xact`): readers tell by transaction ids whether a smaller mailbox id
may still appear, and nextval alone does not give a transaction one.

An account whose version moved is found by a plain look, without a lock. That is enough: a batch whose snapshot is older than a change of
devices is the same as a batch that came before it, and a change that had been answered when the send came in is in every later snapshot.
"""

from __future__ import annotations

# $1 version of send_state, $2 window to write, $3 previous window
# by account:  $4 account, $5 devices_version
# by send:     $6 key sender (0: sealed), $7 client id in $2, $8 client id in $3 (empty: as $7), $9 guid, $10 digest,
#              $11 flags (NEEDS_SYNC, URGENT), $12 account
# by row:      $13 envelope, $14 device, $15 number of its send from 1 (empty: one row a send)
# changing:    $16 window to write as well, $17 client id in $16 (empty: as $7)
# Every column costs 0.2 µs a row to encode, hence the empty ones and the flags.
NEEDS_SYNC = 1
URGENT = 2

_BATCH = """
WITH w AS MATERIALIZED (
    SELECT (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS ms, pg_current_xact_id() AS xact FROM send_state WHERE version = $1
), stale AS MATERIALIZED (
    SELECT coalesce(array_agg(t.account), '{}') AS ids FROM unnest($4::bigint[], $5::bigint[]) t(account, version)
    WHERE (SELECT a.devices_version FROM account a WHERE a.id = t.account) IS DISTINCT FROM t.version
), left_out AS MATERIALIZED (
    SELECT coalesce(array_agg(i), '{}') AS ords FROM generate_series(1, cardinality($6::bigint[])) i
    WHERE ($12::bigint[])[i] = ANY ((SELECT ids FROM stale)::bigint[])
       OR EXISTS (SELECT FROM send_key p WHERE p.key_window = $3::int AND p.sender = ($6::bigint[])[i]
                  AND p.client_id = coalesce(($8::uuid[])[i], ($7::uuid[])[i]) OFFSET 0)
)"""

_KEYS = """, {name} AS (
    INSERT INTO send_key (sender, server_time, client_id, guid, key_window, needs_sync, digest)
    SELECT ($6::bigint[])[i], (SELECT ms FROM w), {client}, ($9::uuid[])[i], {window}::int, ($11::int[])[i] & 1 <> 0, d.digest
    FROM unnest($10::bytea[]) WITH ORDINALITY d(digest, i)
    WHERE (SELECT ms FROM w) IS NOT NULL AND i <> ALL ((SELECT ords FROM {out})::int[])
    ORDER BY ($6::bigint[])[i], {client}{conflict}
)"""

_LOST = """, {name} AS MATERIALIZED (
    SELECT coalesce(array_agg(i), '{{}}') AS ords
    FROM generate_series(1, cardinality($6::bigint[])) i LEFT JOIN {keys} k ON k.guid = ($9::uuid[])[i] WHERE k.guid IS NULL
)"""

_ROWS = """, m AS (
    INSERT INTO mailbox (device, id, server_time, sender, guid, client_id, key_window, urgent, envelope)
    SELECT ($14::bigint[])[r.ord], nextval('mailbox_id'), (SELECT ms FROM w), nullif(($6::bigint[])[i], 0), ($9::uuid[])[i],
           CASE WHEN ($6::bigint[])[i] <> 0 THEN {client} END, CASE WHEN ($6::bigint[])[i] <> 0 THEN {window}::int END,
           ($11::int[])[i] & 2 <> 0, r.envelope
    FROM (SELECT e.envelope, e.ord, coalesce(($15::int[])[e.ord], e.ord) AS i FROM unnest($13::bytea[]) WITH ORDINALITY e(envelope, ord)) r
    WHERE (SELECT xact FROM w) IS NOT NULL AND i <> ALL ((SELECT ords FROM {out})::int[])
    RETURNING id
)
SELECT (SELECT ms FROM w) AS ms, (SELECT ords FROM {out}) AS lost, array_agg(id) AS ids FROM m"""

_HERE = {"client": "($7::uuid[])[i]", "window": "$2"}
_NEXT = {"client": "coalesce(($17::uuid[])[i], ($7::uuid[])[i])", "window": "$16"}

_CONFLICT = "\n    ON CONFLICT DO NOTHING RETURNING guid"

PLAIN = _BATCH + _KEYS.format(name="k", out="left_out", conflict="", **_HERE) + _ROWS.format(out="left_out", **_HERE)

CAREFUL = (
    _BATCH
    + _KEYS.format(name="k", out="left_out", conflict=_CONFLICT, **_HERE)
    + _LOST.format(name="lost", keys="k")
    + _ROWS.format(out="lost", **_HERE)
)

CHANGING = (
    _BATCH
    + _KEYS.format(name="k", out="left_out", conflict=_CONFLICT, **_HERE)
    + _LOST.format(name="known", keys="k")
    + _KEYS.format(name="n", out="known", conflict=_CONFLICT, **_NEXT)
    + _LOST.format(name="lost", keys="n")
    + _ROWS.format(out="lost", **_NEXT)
)

# $1 version of send_state; windows newest first, null where there is none: $2, $4, $6, with the client ids there in $3, $5, $7;
# by send: $8 key sender, $9 account, $10 devices_version
LOOKUP = """
SELECT EXISTS (SELECT FROM send_state WHERE version = $1) AS valid, k.digest, k.guid, k.server_time, k.needs_sync,
       (SELECT a.devices_version FROM account a WHERE a.id = ($9::bigint[])[i]) IS NOT DISTINCT FROM ($10::bigint[])[i] AS fresh
FROM generate_series(1, cardinality($8::bigint[])) i LEFT JOIN LATERAL (
    SELECT * FROM send_key WHERE key_window = $2::int AND sender = ($8::bigint[])[i] AND client_id = ($3::uuid[])[i]
    UNION ALL
    SELECT * FROM send_key WHERE key_window = $4::int AND sender = ($8::bigint[])[i] AND client_id = ($5::uuid[])[i]
    UNION ALL
    SELECT * FROM send_key WHERE key_window = $6::int AND sender = ($8::bigint[])[i] AND client_id = ($7::uuid[])[i]
    ORDER BY key_window DESC LIMIT 1
) k ON true ORDER BY i"""
