"""Connections to PostgreSQL for delivery. Owns their settings, their number and the deadline of a statement.

It never sends a cancel request. A cancelled commit may have been made durable all the same, and while one waits for a synchronous standby
a cancel would even report success without it. asyncpg cancels on its own timeouts and when the awaiting task is cancelled, so neither
reaches it here: every statement runs in a task nobody cancels, and a statement over its deadline loses its connection instead, which the
server takes no notice of until the statement has ended.

asyncpg's own pool asks the server to reset a connection after every use: a round trip for nothing, since statements here leave no state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import msgspec

from veredus.core.errors import StoreUnavailable
from veredus.server.store.checks import UnsafeStore, verify

T = TypeVar("T")

# Every delivery connection. Tables that are usually empty and suddenly full make the planner's estimates worthless, so plans are forced:
# generic (never planned again per call), by index, without compiling. Read committed is what the statements are proven for: each begins
# with its locks and only then takes its snapshot (`window_job.py`), and ON CONFLICT waits instead of failing.
BASE = {
    "default_transaction_isolation": "read committed",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_mergejoin": "off",
    "statement_timeout": "0",  # would cancel commits
}

# Reads and removes join a list with a table: row by row through the index. A hash join would read the whole key of a "small" table.
POINT = BASE | {"enable_hashjoin": "off"}

# Commits reach tables by correlated lookups alone; what they join is lists of one batch, where a nested loop is quadratic.
BATCH = BASE | {"enable_nestloop": "off"}

# The sweep reads a range of ids through a BRIN index, which only a bitmap scan can use.
RANGE = BASE | {"enable_bitmapscan": "on", "enable_indexscan": "off", "enable_indexonlyscan": "off"}

# The server went away under the statement: FATAL errors whose transaction may or may not have been committed before.
SHUTDOWN = frozenset({"57P01", "57P02", "57P03", "57P05"})

READ_ONLY = "25006"


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A group of connections of one purpose."""

    dsn: str
    size: int
    settings: dict[str, str]
    name: str = "veredus"  # application_name, for who looks into pg_stat_activity
    connect_seconds: float = 5.0  # also the longest wait for a free connection
    deadline_seconds: float = 10.0  # far above any healthy commit; a dead host is noticed no other way


class Lost(Exception):
    """The connection was lost, or the deadline passed, after the statement was handed over: it may have taken effect."""


class Connections:
    """A bounded set of connections, opened when needed, each running one autocommit statement at a time."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._idle: list[asyncpg.Connection] = []
        self._free = asyncio.Semaphore(config.size)
        self._running: set[asyncio.Task[Any]] = set()

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows of a statement. Raises `StoreUnavailable` (never begun), `Lost`, or the server's own error (had no effect)."""
        return await self._run(lambda connection: connection.fetch(sql, *args))

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """The first row. Raises as `fetch`."""
        return await self._run(lambda connection: connection.fetchrow(sql, *args))

    async def execute(self, sql: str, *args: object) -> str:
        """The command tag. Raises as `fetch`."""
        return await self._run(lambda connection: connection.execute(sql, *args))

    async def close(self) -> None:
        """Let running statements end, each within its deadline, then close. Nothing may be called after."""
        while self._running:
            await asyncio.wait(set(self._running))
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.close(timeout=self._config.connect_seconds)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def _run(self, call: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        connection = await self._take()
        task = asyncio.get_running_loop().create_task(self._statement(connection, call))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _statement(self, connection: asyncpg.Connection, call: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        timer = asyncio.get_running_loop().call_later(self._config.deadline_seconds, connection.terminate)
        try:
            return await call(connection)
        except asyncpg.PostgresError as error:
            if connection.is_closed() or error.sqlstate in SHUTDOWN or error.sqlstate[:2] == "08":
                connection.terminate()
                raise Lost(type(error).__name__) from None
            if error.sqlstate == READ_ONLY:  # demoted under us: this connection is of no more use
                connection.terminate()
            raise
        except asyncio.CancelledError:  # only a loop that is being torn down does this; asyncpg has queued a cancel request: drop it
            connection.terminate()
            raise
        except Exception as error:
            if isinstance(error, ValueError | TypeError):  # an argument that could not be encoded: nothing was sent
                raise
            # Whatever else asyncpg says of a connection that ended under it. InternalClientError, for one: the server's farewell was read
            # before this statement began, and is taken for an answer under way.
            connection.terminate()
            raise Lost(type(error).__name__) from None
        finally:
            timer.cancel()
            if not connection.is_closed():
                self._idle.append(connection)
            self._free.release()

    async def _take(self) -> asyncpg.Connection:
        try:
            async with asyncio.timeout(self._config.connect_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailable("no connection came free in time") from None
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await connect(self._config)
        except BaseException:
            self._free.release()
            raise


async def connect(config: PoolConfig) -> asyncpg.Connection:
    """A verified connection of these settings. Raises `StoreUnavailable`."""
    try:
        connection = await asyncpg.connect(
            config.dsn,
            timeout=config.connect_seconds,
            max_cached_statement_lifetime=0,  # the same few statements for ever
            server_settings={"application_name": config.name, **config.settings},
        )
    except Exception as error:  # a server that dies while it answers makes asyncpg fail in many ways
        raise StoreUnavailable(f"cannot connect ({type(error).__name__})") from None
    try:
        async with asyncio.timeout(config.connect_seconds):
            await verify(connection)
    except UnsafeStore as error:
        connection.terminate()
        raise StoreUnavailable(str(error)) from None
    except Exception as error:
        connection.terminate()
        raise StoreUnavailable(f"cannot connect ({type(error).__name__})") from None
    except BaseException:
        connection.terminate()
        raise
    return connection
