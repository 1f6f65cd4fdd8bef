"""Moves the windows of idempotency keys on, a state at a time (`windows.py` has the theory). Owns `send_state` and `send_window`.

Any node may run it at any time, and die anywhere in it: every step is one transaction that begins from what the store says, an advisory
lock keeps to one job at a time, and a step is void when the state has moved under it. A job that does not run lets keys live longer.

What must have ended before a step. A commit decides what to write by the version in its own snapshot, so a statement that began before the
step goes by the old state, for as long as its transaction lives. PostgreSQL takes a statement's table locks before its snapshot and keeps
them until its transaction has ended. So: whoever holds a writer's lock on `send_key` after a step was committed may go by the state before;
whoever takes one later cannot. The transactions that hold one are noted once and waited for. (Snapshots would
be the wrong thing to watch: a commit that waits for its flush has none any more, and every long query of the database has one.)
"""

from __future__ import annotations

import asyncio
import secrets
from typing import NamedTuple

import asyncpg

from veredus.server.store.locks import WINDOWS, locked
from veredus.server.store.retire import retire

# How often the ends of transactions are looked for. They last milliseconds; nobody waits for this job.
POLL_SECONDS = 0.02

# Virtual transaction ids name prepared transactions too ('-1/xid').
WRITERS = """
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND relation = 'send_key'::regclass AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

STATE = """
SELECT s.version, s.current, s.changing, w.opened_at + make_interval(hours => $1) <= clock_timestamp() AS due
FROM send_state s LEFT JOIN send_window w ON w.number = s.current
"""


class State(NamedTuple):
    """`send_state`, and whether the current window's time is over by the database clock."""

    version: int
    current: int
    changing: bool
    due: bool


class WindowJob:
    """One run a minute or so keeps windows at their length. `hours` is the length of a window."""

    def __init__(self, dsn: str, hours: int = 24) -> None:
        self._dsn = dsn
        self._hours = hours

    async def run(self) -> None:
        """Do what is due; return when it is done, which takes as long as the longest commit running. Raises `StoreUnavailable` or the
        server's error; what was done stands and the next run goes on from there."""
        async with locked(self._dsn, WINDOWS) as connection:
            state = await self._state(connection)
            if state.due and not state.changing:
                state = await self._begin(connection, state)
            if state.changing:
                await writers_gone(connection)
                state = await self._finish(connection, state)
            await self._forget(connection, state)

    async def _state(self, connection: asyncpg.Connection) -> State:
        row = await connection.fetchrow(STATE, self._hours)
        assert row is not None
        return State(*row.values())

    async def _begin(self, connection: asyncpg.Connection, state: State) -> State:
        """steady W → changing W. The next window is there before anybody is told to write it."""
        if not await connection.fetchval("SELECT count(*) FROM send_window WHERE number = $1", state.current + 1):
            await connection.execute("SELECT send_window_create($1, $2)", state.current + 1, secrets.token_bytes(32))
        await connection.execute("UPDATE send_state SET version = version + 1, changing = true WHERE version = $1", state.version)
        return await self._state(connection)

    async def _finish(self, connection: asyncpg.Connection, state: State) -> State:
        """changing W → steady W + 1."""
        async with connection.transaction():
            await connection.execute("UPDATE send_window SET opened_at = clock_timestamp() WHERE number = $1", state.current + 1)
            await connection.execute(
                "UPDATE send_state SET version = version + 1, current = current + 1, changing = false WHERE version = $1", state.version
            )
        return await self._state(connection)

    async def _forget(self, connection: asyncpg.Connection, state: State) -> None:
        """Drop the windows before the previous one, each with its seal. Nobody looks at them once those from before have ended."""
        oldest = state.current - 1
        old = [row["number"] for row in await connection.fetch("SELECT number FROM send_window WHERE number < $1 ORDER BY 1", oldest)]
        if not old:
            return
        await writers_gone(connection)
        for number in old:
            await retire(connection, "send_key", f"send_key_{number}")
            await connection.execute("DELETE FROM send_window WHERE number = $1", number)
        await connection.execute("VACUUM send_window")  # a deleted row stays readable in the file until then


async def writers_gone(connection: asyncpg.Connection) -> None:
    """Return when every transaction that held a writer's lock on `send_key` at the call has ended."""
    before = {row["virtualtransaction"] for row in await connection.fetch(WRITERS)}
    while before:
        await asyncio.sleep(POLL_SECONDS)
        before &= {row["virtualtransaction"] for row in await connection.fetch(WRITERS)}
