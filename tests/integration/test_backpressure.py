"""The window of unacknowledged deliveries, and a lane that is full: bounded from end to end, in order afterwards (P6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.chaos.ground import ground
from tests.integration.raw_device import Devices, RawDevice, flood, send_to
from tests.integration.store_gates import until_stuck
from tests.proto import frames
from veredus.core.errors import Code
from veredus.core.limits import KIB, Limits

LIMITS = Limits()
LANE = 256 * KIB
SEND = 16 * KIB
SENDS = 40  # 640 KiB: more than the lane takes at once


@asynccontextmanager
async def two_devices(folder: Path, dsn: str, redis_url: str, limits: str = "") -> AsyncIterator[tuple[RawDevice, RawDevice, Devices]]:
    """A worker, one who sends and one who receives."""
    async with ground(folder, dsn, redis_url, *([limits] if limits else [])) as place:
        one, other = await place.accounts(2)
        await place.worker()
        async with Devices(place.port) as world:
            sender, reader = await world.connect(one), await world.connect(other)
            await reader.next("drained")
            yield sender, reader, world


@pytest.mark.requirement("SYN-5", "WS-12")
async def test_a_device_that_reads_and_never_acknowledges_gets_the_window_and_no_more(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    window = LIMITS.window
    async with two_devices(tmp_path, database, redis_url) as (sender, reader, world):
        await flood(sender, reader.account, window + 500, 32)
        assert [delivery.tag for delivery in await reader.deliveries(window)] == list(range(1, window + 1))
        assert await barrier_without_deliveries(reader)
        reader.acknowledge(window // 2 - 1)  # not half of it yet: no reason to look into the mailbox
        while (await world.metrics())["veredus_removed_total"] < window // 2 - 1:
            await asyncio.sleep(0.005)  # nothing tells of a removal but its counter
        assert await barrier_without_deliveries(reader)
        reader.acknowledge(window // 2)
        more = await reader.deliveries(500)
        assert [int.from_bytes(delivery.envelope.content[:4], "big") for delivery in more] == list(range(window, window + 500))


@pytest.mark.requirement("SYN-5", "WS-12")
async def test_large_messages_fill_the_window_by_their_bytes(database: str, redis_url: str, tmp_path: Path) -> None:
    size = 100_000
    fitting = 104  # envelopes of a little over 100,000 bytes in 10 MiB
    async with two_devices(tmp_path, database, redis_url) as (sender, reader, _):
        sending = asyncio.ensure_future(flood(sender, reader.account, 120, size, together=10))
        came = await reader.deliveries(fitting)
        await sending
        assert await barrier_without_deliveries(reader)
        assert sum(delivery.envelope.ByteSize() for delivery in came) <= LIMITS.window_bytes + 10 * fitting
        assert sum(delivery.envelope.ByteSize() for delivery in came) + size > LIMITS.window_bytes
        reader.acknowledge(came[-1].tag)
        rest = await reader.deliveries(120 - fitting)
        assert [int.from_bytes(delivery.envelope.content[:4], "big") for delivery in rest] == list(range(fitting, 120))


async def barrier_without_deliveries(reader: RawDevice) -> bool:
    return not [name for name, _ in await reader.barrier() if name == "delivery"]


@pytest.mark.requirement("WS-12")
async def test_a_flood_that_meets_busy_is_told_when_to_come_back_and_goes_on_in_order(
    database: str, redis_url: str, tmp_path: Path
) -> None:
    limits = f"limits: {{lane_bytes: {LANE}, lane_pause_bytes: {LANE // 2}, messages_per_minute: 0}}\n"
    async with two_devices(tmp_path, database, redis_url, limits) as (sender, reader, world):
        sends = [send_to(reader.account, place, SEND) for place in range(SENDS)]
        gate = await asyncpg.connect(database)
        try:
            transaction = gate.transaction()
            await transaction.start()
            await gate.execute("LOCK TABLE mailbox IN SHARE MODE")  # lets everybody read and nobody write
            sender.say(sends=sends[:1])
            await until_stuck(database)
            sender.say(sends=sends[1:])
            refused: list[Any] = []
            while len(refused) < SENDS - 1 - LANE // (SEND + 100):
                refused.append(await sender.next("result"))
            await transaction.rollback()
        finally:
            await gate.close()
        waiting = SENDS - 1 - len(refused)
        assert 0 < waiting * SEND <= LANE
        assert {result.code for result in refused} == {Code.BUSY}
        assert {result.retry_after_ms for result in refused} == {LIMITS.retry_after_ms}
        assert [result.client_id for result in refused] == [send.client_id for send in sends[1 + waiting :]]  # nothing overtakes
        assert [(await sender.next("result")).code for _ in range(1 + waiting)] == [Code.OK] * (1 + waiting)
        repeats = await until_taken(sender, sends[1 + waiting :])
        await reader.read_in_order(SENDS)
        counted = await world.metrics()
        assert counted["veredus_refused_total"] == len(refused) + repeats
        assert counted["veredus_delivered_total"] == SENDS


async def until_taken(sender: RawDevice, refused: list[Any]) -> int:
    """Send again in order what was refused, as a client does; returns how many were refused once more."""
    again = 0
    while refused:
        sender.say(resume=frames.Resume(), sends=refused)
        codes = {result.client_id: result.code for result in [await sender.next("result") for _ in refused]}
        assert set(codes.values()) <= {Code.OK, Code.BUSY}
        left = [send for send in refused if codes[send.client_id] == Code.BUSY]
        assert left == refused[len(refused) - len(left) :]  # the first are taken
        assert len(left) < len(refused)
        again += len(left)
        refused = left
    return again
