"""Brings a database to the schema of this code. Owns the record of what was applied; never edits an applied file, never goes back.

Files are `NNNN_name.sql`, numbered without gaps, each applied in one transaction together with its record. Any number of nodes may call
`migrate` at once: one works, the others wait on an advisory lock and then find nothing to do.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple

import asyncpg

from veredus.server.store.locks import MIGRATIONS, locked

RECORD = """
CREATE TABLE IF NOT EXISTS schema_migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


class MigrationError(Exception):
    """The database and this code do not belong together; a person must look."""


class Migration(NamedTuple):
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """The migrations this code carries, in order."""
    files = sorted((entry for entry in resources.files(__name__).iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    found = [Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8")) for entry in files]
    if [each.number for each in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migrations are not numbered 1, 2, 3 …; is the installation complete?")
    return found


async def migrate(dsn: str) -> None:
    """Apply what is missing. Raises `MigrationError` when the database is newer than the code or an applied file has changed since,
    `StoreUnavailable` when it cannot be reached."""
    async with locked(dsn, MIGRATIONS) as connection:
        await apply(connection, available())


async def apply(connection: asyncpg.Connection, migrations: list[Migration]) -> None:
    """Apply these beyond what is recorded, under a lock the caller holds."""
    await connection.execute(RECORD)
    known = {each.number: each for each in migrations}
    rows = await connection.fetch("SELECT number, checksum FROM schema_migration ORDER BY number")
    applied: dict[int, str] = {row["number"]: row["checksum"] for row in rows}
    for number, checksum in applied.items():
        if number not in known:
            raise MigrationError(f"the database has migration {number}, this code ends at {max(known, default=0)}: run newer code")
        if known[number].checksum != checksum:
            raise MigrationError(f"{known[number].name} was changed after it was applied")
    for each in migrations:
        if each.number in applied:
            continue
        async with connection.transaction():
            await connection.execute(each.sql)
            await connection.execute(
                "INSERT INTO schema_migration (number, name, checksum) VALUES ($1, $2, $3)", each.number, each.name, each.checksum
            )
