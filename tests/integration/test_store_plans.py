"""What a statement touches, counted in pages of 8 KiB on tables that have grown and were then mostly emptied."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from veredus.server.store import statements
from veredus.server.store.directory import ACCOUNTS, CREDENTIALS
from veredus.server.store.messages import PAGE, REMOVE
from veredus.server.store.pool import BATCH, POINT

DEVICES = 1000
PARTITIONS = 6  # as many as there ever are (test_store_partitions)
ROWS = 20_000  # in each

GROW = """
INSERT INTO mailbox (device, id, server_time, guid, urgent, envelope)
SELECT 1 + i % $1::int, (p::bigint << 40) + i, 1, gen_random_uuid(), false, decode(repeat('ab', 300), 'hex')
FROM generate_series(1, $2::int) p, generate_series(1, $3::int) i
"""

FILL = """
INSERT INTO send_key (sender, server_time, client_id, guid, key_window, needs_sync, digest)
SELECT i % 100, 1, gen_random_uuid(), gen_random_uuid(), 1 + i % 3, false, '' FROM generate_series(1, 60000) i
"""

Plan = dict[str, Any]


def nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def kinds(plan: Plan) -> set[str]:
    return {node["Node Type"] for node in nodes(plan)}


def pages(plan: Plan) -> int:
    touched: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return touched


def array(values: list[int]) -> str:
    return "'{" + ",".join(map(str, values)) + "}'"


async def explain(connection: asyncpg.Connection, execute: str) -> Plan:
    """The plan of a prepared statement as it ran."""
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {execute}")
    plan: Plan = json.loads(text)[0]["Plan"]
    return plan


@pytest.fixture
async def grown(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A delivery connection on full partitions, whose plans were made when they were empty, as they are on a quiet night."""
    connection = await asyncpg.connect(database, server_settings=POINT)
    for number in range(2, PARTITIONS + 1):
        await connection.execute("SELECT mailbox_create_partition($1)", number)
    await connection.execute(f"PREPARE page (bigint, bigint, bigint[], bigint, bigint, bigint) AS {PAGE}")
    await connection.execute(f"PREPARE remove (bigint[], bigint[]) AS {REMOVE}")
    await connection.execute("ANALYZE")
    await explain(connection, "page (1, 0, '{}', 100, 100000000000000, 1048576)")
    await explain(connection, "remove ('{1}', '{1}')")
    await connection.execute(GROW, DEVICES, PARTITIONS, ROWS)
    yield connection
    await connection.close()


@pytest.mark.requirement("SYN-8", "MSG-10")
async def test_an_acknowledged_row_costs_at_most_four_pages_wherever_it_is(grown: asyncpg.Connection) -> None:
    rows = await grown.fetch("SELECT device, id FROM mailbox ORDER BY md5(id::text) LIMIT 500")
    plan = await explain(grown, f"remove ({array([row['device'] for row in rows])}, {array([row['id'] for row in rows])})")
    assert pages(plan) <= 4 * len(rows)
    assert await grown.fetchval("SELECT count(*) FROM mailbox") == PARTITIONS * ROWS - 500
    assert not kinds(plan) & {"Seq Scan", "Hash Join", "Merge Join", "Bitmap Heap Scan"}


@pytest.mark.requirement("SYN-1")
async def test_an_empty_page_costs_at_most_twelve_pages_on_a_table_that_was_full(grown: asyncpg.Connection) -> None:
    await grown.execute("DELETE FROM mailbox WHERE device <> 7")
    await grown.execute("VACUUM mailbox")
    plan = await explain(grown, "page (9, 0, '{}', 100, 100000000000000, 1048576)")
    assert pages(plan) <= 12
    assert not kinds(plan) & {"Seq Scan", "Hash Join", "Merge Join", "Bitmap Heap Scan", "Sort"}
    # A reader whose floor is in the newest partition looks at no other.
    assert pages(await explain(grown, f"page (9, {PARTITIONS << 40}, '{{}}', 100, 100000000000000, 1048576)")) <= 3


@pytest.mark.requirement("SYN-2")
async def test_a_page_reads_its_rows_in_order_and_stops_at_the_limit(grown: asyncpg.Connection) -> None:
    first = [row["id"] for row in await grown.fetch("SELECT id FROM mailbox WHERE device = 7 ORDER BY id LIMIT 10")]
    plan = await explain(grown, f"page (7, 0, {array(first)}, 10, 100000000000000, 1048576)")
    assert pages(plan) <= 30
    assert not kinds(plan) & {"Seq Scan", "Hash Join", "Merge Join", "Bitmap Heap Scan", "Sort"}


async def test_accounts_and_credentials_are_looked_up_one_by_one_also_by_a_plan_made_before_there_were_any(database: str) -> None:
    connection = await asyncpg.connect(database, server_settings=POINT)
    await connection.execute("ANALYZE")
    await connection.execute(f"PREPARE accounts (uuid[]) AS {ACCOUNTS}")
    await connection.execute(f"PREPARE credentials (uuid[], int[]) AS {CREDENTIALS}")
    nobody = f"'{{{UUID(int=0)}}}'"
    await explain(connection, f"accounts ({nobody})")
    await explain(connection, f"credentials ({nobody}, '{{1}}')")
    await connection.execute("INSERT INTO account (uuid) SELECT gen_random_uuid() FROM generate_series(1, 5000)")
    await connection.execute(
        "INSERT INTO device (account, number, registration_id, secret_salt, secret_hash) SELECT id, 1, 1, '', '' FROM account"
    )
    uuids = [row["uuid"] for row in await connection.fetch("SELECT uuid FROM account ORDER BY md5(id::text) LIMIT 100")]
    names = "'{" + ",".join(map(str, uuids)) + "}'"
    for execute in (f"accounts ({names})", f"credentials ({names}, {array([1] * 100)})"):
        plan = await explain(connection, execute)
        assert plan["Actual Rows"] == 100
        assert pages(plan) <= 8 * 100
    await connection.close()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["PLAIN", "CAREFUL", "CHANGING", "LOOKUP"])
async def test_a_commit_reads_tables_by_index_alone_whether_they_are_empty_or_full(database: str, name: str, full: bool) -> None:
    """Scans of lists are fine; of tables only `send_state`, which has one row."""
    connection = await asyncpg.connect(database, server_settings=BATCH)
    if full:
        await connection.execute("SELECT send_window_create(3, decode(repeat('01', 32), 'hex'))")
        await connection.execute(FILL)
        await connection.execute("INSERT INTO account (uuid) SELECT gen_random_uuid() FROM generate_series(1, 5000)")
    await connection.execute("ANALYZE")
    prepared = await connection.prepare(getattr(statements, name))
    parameters = len(prepared.get_parameters())
    await connection.execute(f"PREPARE statement AS {getattr(statements, name)}")
    text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE statement ({', '.join(['null'] * parameters)})")
    plan: Plan = json.loads(text)[0]["Plan"]
    scanned = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] in ("Seq Scan", "Bitmap Heap Scan")}
    assert scanned <= {"send_state"}
    assert all("Index Cond" in node for node in nodes(plan) if node["Node Type"] in ("Index Scan", "Index Only Scan"))
    for node in nodes(plan):
        if node["Node Type"] in ("Nested Loop", "Merge Join") and name != "LOOKUP":
            pytest.fail(f"{name}: {node['Node Type']}")
        if node["Node Type"] == "Hash Join":  # of lists only
            assert not [child for child in nodes(node) if child is not node and "Relation Name" in child]
    await connection.close()
