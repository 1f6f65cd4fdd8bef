"""Puts the adapters of one PostgreSQL together on their connections. Owns the connections' number and settings, and their end."""

from __future__ import annotations

import msgspec

from veredus.core.limits import Limits
from veredus.server.store.accounts import Accounts
from veredus.server.store.commit import Committer
from veredus.server.store.directory import PostgresDirectory
from veredus.server.store.messages import PostgresMessageStore
from veredus.server.store.pool import BATCH, POINT, RANGE, Connections, PoolConfig
from veredus.server.store.pushes import PostgresPushes
from veredus.server.store.wakeups import PostgresWakeups
from veredus.server.store.windows import Windows


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's share of the server: its connections add up to the three numbers."""

    dsn: str
    commits: int = 3  # one a lane, and one to settle an unknown result on
    reads: int = 4
    removes: int = 2
    limits: Limits = Limits()
    deadline_seconds: float = 10.0  # after it a statement's connection is given up; commits become RESULT_UNKNOWN
    connect_seconds: float = 5.0


class Postgres:
    """The store of one worker. Connections are opened when first needed; `start` opens one, so that a bad server is met at once."""

    def __init__(self, config: StoreConfig) -> None:
        self._commits = _group(config, "commit", config.commits, BATCH)
        self._reads = _group(config, "read", config.reads, POINT)
        self._removes = _group(config, "remove", config.removes, POINT)
        self._ranges = _group(config, "sweep", 1, RANGE)
        self.windows = Windows(self._reads)
        self.messages = PostgresMessageStore(Committer(self._commits, self.windows), self._reads, self._removes, config.limits)
        self.directory = PostgresDirectory(self._reads)
        self.accounts = Accounts(self._removes)
        self.wakeups = PostgresWakeups(self._removes, self._ranges)
        self.pushes = PostgresPushes(self._removes)

    async def start(self) -> None:
        """Refuse a server that could lose what was acknowledged (P1) or has no schema. Raises `StoreUnavailable`."""
        await self.messages.epoch()

    async def close(self) -> None:
        """Let what runs end, then close."""
        for connections in (self._commits, self._removes, self._reads, self._ranges):
            await connections.close()


def _group(config: StoreConfig, purpose: str, size: int, settings: dict[str, str]) -> Connections:
    return Connections(
        PoolConfig(
            dsn=config.dsn,
            size=size,
            settings=settings,
            name=f"veredus {purpose}",
            connect_seconds=config.connect_seconds,
            deadline_seconds=config.deadline_seconds,
        )
    )
