"""PostgreSQL stopped, killed and started under load, Redis likewise (P1, P2, P3, P7)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.ground import ground
from tests.checker.workload import Mix, Report, Workload
from veredus.server.process.embedded import Embedded

MIX = Mix(quiescence_seconds=40.0, drain_seconds=40.0)


async def disturbed(stores: Embedded, dsn: str, folder: Path, store: str, how: str) -> Report:
    """A workload during which a store goes away twice and comes back."""
    server = getattr(stores, store)
    async with ground(folder, dsn, stores.redis_url) as place:
        accounts = await place.accounts(4)
        await place.worker()
        workload = Workload(place.url, accounts, seed=23, mix=MIX)
        async with asyncio.timeout(110):
            running = asyncio.ensure_future(workload.run(800))
            for sent in (150, 450):
                await workload.reached(sent)
                await asyncio.to_thread(getattr(server, how))
                await asyncio.to_thread(server.start)
            return await running


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_postgresql_going_away_under_load_costs_time_and_nothing_else(
    how: str, own_stores: Embedded, own_database: str, tmp_path: Path
) -> None:
    report = await disturbed(own_stores, own_database, tmp_path, "postgres", how)
    assert report.kept, str(report)


async def test_redis_going_away_under_load_costs_nothing(own_stores: Embedded, own_database: str, tmp_path: Path) -> None:
    report = await disturbed(own_stores, own_database, tmp_path, "redis", "kill")
    assert report.kept, str(report)
