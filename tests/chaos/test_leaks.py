"""Nothing is left behind (P6, P7): what is held after a thousand connections and after fifty restarts is what was held before."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from tests.chaos.census import Census, Held, comes_true, descriptors, processes_of_session, resident_bytes
from tests.chaos.ground import ROOT, START_SECONDS, ground
from tests.chaos.visits import Pair, opened, visits
from tests.supervised import Supervised
from veredus.client import Credentials
from veredus.server.cluster.redis import CONNECTIONS
from veredus.server.store.postgres import StoreConfig

PAIRS = 10
CROWD = 12
# Silent clients are closed within some seconds, so that the test sees it.
SHORT = "limits: {messages_per_minute: 1000, server_ping_seconds: 1.0, pong_seconds: 3.0, closing_seconds: 1.0}\n"
# A send leaves a remembered key behind (`seen_entries`, below 1 KiB each), the allocator its own unrest: 0.9 MiB were seen. A connection
# with its buffers is 10 KiB: one in three that stayed would be too many.
GROWTH_BYTES = 4 * 1024 * 1024

WORKERS = 2
ROLLS = 12  # each replaces both workers
MASSACRES = 13  # each kills both
DEVICES = 6


@asynccontextmanager
async def crowd(port: int, devices: Sequence[Credentials]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Clients in a process of their own, connected."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.crowd", str(port),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps([device.authorization() for device in devices]).encode() + b"\n")
        assert await asyncio.wait_for(process.stdout.readline(), START_SECONDS) == b"open\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_thousand_connections_leave_nothing_behind(database: str, redis_url: str, tmp_path: Path) -> None:
    census = Census(database, redis_url)
    async with ground(tmp_path, database, redis_url, SHORT) as place:
        accounts = await place.accounts(2 * PAIRS + 2 * CROWD)
        worker = await place.worker()
        pairs = [Pair(place.port, accounts[2 * each], accounts[2 * each + 1]) for each in range(PAIRS)]

        async def look() -> Held:
            return await census.of_worker(worker.pid, f"http://127.0.0.1:{place.port}")

        async with asyncio.timeout(100):
            await visits(pairs, 280)  # every ending and nuisance; caches and pools are as full as they get
            await asyncio.gather(*(pair.settle() for pair in pairs))
            before = await comes_true(look, lambda held: not held.sessions and not held.entries and held.connections <= 1)
            resident = resident_bytes(worker.pid)
            async with crowd(place.port, accounts[-CROWD:]) as stopped, crowd(place.port, accounts[-2 * CROWD : -CROWD]) as killed:
                stopped.send_signal(signal.SIGSTOP)
                running = asyncio.ensure_future(visits(pairs, 1000))
                killed.kill()
                await running
                await asyncio.gather(*(pair.settle() for pair in pairs))
                after = await comes_true(look, lambda held: held == before)  # while the stopped clients still stand there
        assert asdict(after) == asdict(before)
        assert before.entries == before.sessions == 0
        for pair in pairs:
            assert pair.received == pair.sent
            assert len(pair.sent) == 1280 // PAIRS
        assert resident_bytes(worker.pid) - resident < GROWTH_BYTES
        pools, stores = StoreConfig(dsn=""), await census.stores()
        assert stores.passing <= len(accounts) + 1  # what each sent lately, and what the worker told of it last
        assert stores.postgres <= pools.commits + 1 + pools.reads + pools.removes + 1


async def test_fifty_restarts_leave_nothing_behind(database: str, redis_url: str, tmp_path: Path) -> None:
    census = Census(database, redis_url)
    async with ground(tmp_path, database, redis_url) as place:
        devices = await place.accounts(DEVICES)
        supervised = Supervised(tmp_path, WORKERS, restart_seconds_max=0.02).with_workers_of(place.file).listen_on(place.port)
        with supervised as service:
            await asyncio.to_thread(service.started)
            supervisor = service.process.pid
            before, held = await census.stores(), descriptors(supervisor)
            async with asyncio.timeout(100):
                for turn in range(MASSACRES):
                    if turn:
                        await roll(service)
                    peers = [await opened(("127.0.0.1", place.port), device) for device in devices]
                    await kill(service)
                    for peer in peers:
                        peer.drop()
            assert service.count("serving") == WORKERS + 50
            assert processes_of_session(supervisor) == {supervisor, *service.serving().values()}
            assert descriptors(supervisor) == held
            left = await census.stores()
            assert left.entries == DEVICES  # of the last killed: as many as there are devices, not as there were connections
            leases = {name for name in left.leases if any(f":{pid}:" in f"{name}:" for pid in service.serving().values())}
            assert len(leases) == WORKERS
            await census.expire(left.leases - leases)
            after = await comes_true(census.stores, lambda stores: not stores.entries and stores.postgres <= before.postgres)
            assert after.entries == 0  # swept
            assert after.postgres <= before.postgres
            assert after.redis <= WORKERS * (CONNECTIONS + 2)  # the pool of each, and its bus
            assert set(after.keys) - leases == set(before.keys) - before.leases
            service.signal(signal.SIGTERM)
            assert await asyncio.to_thread(service.end) == 0
        assert processes_of_session(supervisor) == set()
        assert (await comes_true(census.stores, lambda stores: not stores.postgres)).postgres == 0
        assert not (await census.stores()).leases


async def kill(service: Supervised) -> None:
    """All workers at once; back when their successors serve."""
    seen = len(service.events)
    killed = service.serving()
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    for index in killed:
        await asyncio.to_thread(service.wait_for, "serving", since=seen, index=index)


async def roll(service: Supervised) -> None:
    seen = len(service.events)
    service.signal(signal.SIGHUP)
    await asyncio.to_thread(service.wait_for_log, "the rolling restart is done", seen)
