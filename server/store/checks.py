"""Refuses servers that could lose what was acknowledged. Looks only; never changes a setting."""

from __future__ import annotations

import asyncpg

# 15: the oldest server the SQL is written and tested for (hashed NOT IN, DETACH … CONCURRENTLY without its early faults).
OLDEST = 150000

# All of these wait for the local flush; the last three also say what is awaited of a standby.
DURABLE = frozenset({"on", "local", "remote_write", "remote_apply"})

QUERY = """
SELECT current_setting('server_version_num')::int AS version, current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit,
       pg_is_in_recovery() AS standby
"""


class UnsafeStore(Exception):
    """The server's settings break P1: acknowledged messages could be lost. The text names the settings."""


def judge(version: int, fsync: str, full_page_writes: str, synchronous_commit: str, standby: bool) -> list[str]:
    """What is wrong with a server, in words; empty when nothing is."""
    faults = []
    if version < OLDEST:
        faults.append(f"server version {version} is older than {OLDEST}")
    if fsync != "on":
        faults.append("fsync is off")
    if full_page_writes != "on":
        faults.append("full_page_writes is off")
    if synchronous_commit not in DURABLE:
        faults.append(f"synchronous_commit is {synchronous_commit}")
    if standby:
        faults.append("the server is a standby")
    return faults


async def verify(connection: asyncpg.Connection) -> None:
    """Look at one connection's server, and at what this role and database override. Raises `UnsafeStore`."""
    row = await connection.fetchrow(QUERY)
    assert row is not None
    faults = judge(*row.values())
    if faults:
        raise UnsafeStore("; ".join(faults))
