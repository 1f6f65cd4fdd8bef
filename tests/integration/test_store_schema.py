"""The schema: how it comes to be, on how many nodes at once, and what hot tables may not have."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.integration.store_gates import opened, query
from veredus.core.errors import StoreUnavailable
from veredus.server.process.embedded import Embedded
from veredus.server.store import migrations
from veredus.server.store.checks import UnsafeStore, judge, verify
from veredus.server.store.migrations import Migration, MigrationError, apply, available, migrate

HOT = "SELECT c.oid FROM pg_class c WHERE c.relname ~ '^(mailbox|send_key)(_[0-9]+)?$' AND c.relkind IN ('r', 'p')"


@pytest.fixture
async def empty(stores: object) -> AsyncIterator[str]:
    """A database nobody has migrated."""
    embedded: Embedded = stores.embedded  # type: ignore[attr-defined]
    await query(embedded.dsn, "CREATE DATABASE bare")
    yield embedded.dsn_of("bare")
    await query(embedded.dsn, "DROP DATABASE bare WITH (FORCE)")


async def test_eight_nodes_may_migrate_at_once(empty: str) -> None:
    await asyncio.gather(*[migrate(empty) for _ in range(8)])
    rows = await query(empty, "SELECT number, checksum FROM schema_migration ORDER BY number")
    assert [tuple(row) for row in rows] == [(each.number, each.checksum) for each in available()]
    assert len(await query(empty, "SELECT 1 FROM store")) == 1


async def test_migrating_again_changes_nothing(database: str) -> None:
    before = await query(database, "SELECT number, applied_at FROM schema_migration")
    await migrate(database)
    assert await query(database, "SELECT number, applied_at FROM schema_migration") == before


async def test_a_database_newer_than_the_code_is_refused(database: str) -> None:
    await query(database, "INSERT INTO schema_migration (number, name, checksum) VALUES (9999, 'of tomorrow', '')")
    with pytest.raises(MigrationError, match="newer"):
        await migrate(database)


async def test_a_file_changed_after_it_was_applied_is_refused(database: str) -> None:
    await query(database, "UPDATE schema_migration SET checksum = 'other' WHERE number = 1")
    with pytest.raises(MigrationError, match="changed"):
        await migrate(database)


async def test_a_file_that_fails_leaves_nothing_behind(database: str) -> None:
    last = len(available())
    bad = Migration(last + 1, "bad", "CREATE TABLE half_done (); SELECT 1 / 0")
    connection = await asyncpg.connect(database)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await apply(connection, [*available(), bad])
    assert await connection.fetchval("SELECT to_regclass('half_done')") is None
    assert await connection.fetchval("SELECT max(number) FROM schema_migration") == last
    await connection.close()


async def test_a_gap_in_the_numbers_of_the_files_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Folder:
        def joinpath(self) -> None: ...

        def iterdir(self) -> list[object]:
            return [path for path in real.iterdir() if "0001" not in path.name]

    real = resources.files(migrations.__name__)
    monkeypatch.setattr(resources, "files", lambda _: Folder())
    with pytest.raises(MigrationError, match="complete"):
        available()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable):
        await migrate("postgresql://nobody@/nothing?host=/nonexistent")


@pytest.mark.requirement("MSG-11")
async def test_hot_tables_have_no_foreign_keys_no_triggers_no_rules_and_no_default_partition(database: str) -> None:
    assert len(await query(database, HOT)) == 5  # two tables with one and two partitions
    assert (
        await query(database, f"SELECT conname FROM pg_constraint WHERE contype = 'f' AND (conrelid IN ({HOT}) OR confrelid IN ({HOT}))")
        == []
    )
    assert await query(database, f"SELECT tgname FROM pg_trigger WHERE tgrelid IN ({HOT})") == []
    assert await query(database, f"SELECT rulename FROM pg_rewrite WHERE ev_class IN ({HOT})") == []
    assert await query(database, "SELECT 1 FROM pg_partitioned_table WHERE partdefid <> 0") == []


@pytest.mark.requirement("MSG-11")
async def test_a_row_of_a_hot_table_has_an_entry_in_one_index(database: str) -> None:
    """BRIN has none: it summarises ranges of pages, later."""
    keyed = "SELECT i.indrelid, count(*) AS n FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam"
    rows = await query(database, f"{keyed} WHERE i.indrelid IN ({HOT}) AND a.amname NOT IN ('brin') GROUP BY 1")
    assert {row["n"] for row in rows} == {1}
    assert len(rows) == 5


@pytest.mark.requirement("MSG-31")
async def test_content_is_bytes_and_is_not_compressed(database: str) -> None:
    content = "attrelid = 'mailbox_1'::regclass AND attname = 'envelope'"
    [row] = await query(database, f"SELECT atttypid::regtype::text AS type, attstorage FROM pg_attribute WHERE {content}")
    assert (row["type"], row["attstorage"]) == ("bytea", b"e")


async def test_every_partition_is_vacuumed_by_its_own_rules(database: str) -> None:
    await query(database, "SELECT mailbox_create_partition(2), send_window_create(3, decode(repeat('01', 32), 'hex'))")
    rows = await query(database, f"SELECT relname, reloptions FROM pg_class WHERE relkind = 'r' AND oid IN ({HOT})")
    assert len(rows) == 5
    assert all(any(option.startswith("autovacuum_") for option in row["reloptions"] or []) for row in rows)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ((150000, "on", "on", "on", False), None),
        ((180004, "on", "on", "remote_apply", False), None),
        ((149999, "on", "on", "on", False), "older"),
        ((150000, "off", "on", "on", False), "fsync"),
        ((150000, "on", "off", "on", False), "full_page_writes"),
        ((150000, "on", "on", "off", False), "synchronous_commit"),
        ((150000, "on", "on", "on", True), "standby"),
    ],
)
def test_a_server_that_could_lose_what_was_acknowledged_is_found_out(settings: tuple[int, str, str, str, bool], fault: str | None) -> None:
    faults = judge(*settings)
    assert len(faults) == (fault is not None)
    assert fault is None or fault in faults[0]


@contextmanager
def restarted(stores: Embedded, *settings: str) -> Iterator[None]:
    """The same server with other settings, which the embedded one would never take."""
    process = Path("/proc") / str(stores.postgres.pid)
    command = [*(process / "cmdline").read_bytes().decode().rstrip("\0").split("\0"), *settings]
    owner = process.stat()
    stores.postgres.stop()
    become: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    server = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **become)
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_store_refuses_to_start_on_a_server_that_is_not_durable(own_database: str, own_stores: Embedded, setting: str) -> None:
    with restarted(own_stores, f"--{setting}=off"):
        async with asyncio.timeout(30):
            while True:
                try:
                    connection = await asyncpg.connect(own_database)
                    break
                except (OSError, asyncpg.CannotConnectNowError):
                    await asyncio.sleep(0.02)
        with pytest.raises(UnsafeStore, match=f"{setting} is off"):
            await verify(connection)
        await connection.close()
        async with opened(own_database) as world:
            with pytest.raises(StoreUnavailable, match=f"{setting} is off"):
                await world.postgres.start()


async def test_a_store_refuses_a_role_that_commits_asynchronously(database: str) -> None:
    name = (await query(database, "SELECT current_database() AS name"))[0]["name"]
    await query(database, f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with opened(database) as world:
        with pytest.raises(StoreUnavailable, match="synchronous_commit is off"):
            await world.postgres.start()


async def test_a_store_without_a_schema_does_not_start(empty: str) -> None:
    async with opened(empty) as world:
        with pytest.raises(StoreUnavailable):
            await world.postgres.start()
