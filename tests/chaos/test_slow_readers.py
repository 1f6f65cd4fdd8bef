"""Devices that do not take what is sent to them, on a real worker: it stays within its memory and serves everybody else (P6)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.ground import ROOT, WorkerProcess, ground
from tests.integration.raw_device import Devices, Memory, Pair, RawDevice, flood
from tests.integration.ws_peer import BINARY, CONTINUATION, PING, frame
from veredus.client import Credentials
from veredus.core.errors import Code
from veredus.core.limits import MIB

SMALL_MESSAGES = 100_000
SMALL = 1024
LARGE_MESSAGES = 1_500
LARGE = 9_000  # 13 MB together: more than the kernel, the outbox and the window take
# What a worker may grow by, whoever does not read; less than what is sent (98 MiB). A lane pauses its one sender at 8 MiB; a batch of 4 MiB
# is held about three times on its way to the store; 65,536 recent keys take some 25 MiB; outbox and page are 1 MiB each. 45 MiB measured.
BOUND = 80 * MIB


class Scene:
    """A worker, somebody who sends, somebody who is slow, and two who want nothing but to talk."""

    def __init__(self, devices: Devices, worker: WorkerProcess, who: list[Credentials]) -> None:
        self.devices = devices
        self.pid = worker.pid
        self.slow = who[1]
        self._who = who
        self.sender: RawDevice
        self.pair: Pair

    async def begin(self) -> None:
        self.sender, one, other = [await self.devices.connect(self._who[index]) for index in (0, 2, 3)]
        self.pair = Pair(one, other)
        await flood(self.sender, self._who[4].account, 1000, SMALL)  # what a worker that has worked needs anyhow
        self.memory = Memory(self.pid)

    @asynccontextmanager
    async def others_served(self) -> AsyncIterator[None]:
        """All the while the block runs the pair writes to each other; the worker's memory is judged at the end."""
        done = asyncio.Event()
        talk = asyncio.ensure_future(self.pair.talk(done))
        try:
            yield
        finally:
            done.set()
            await talk
        growth = self.memory.growth
        print(f"{self.pair}; memory grew by {growth / MIB:.1f} MiB")
        assert growth < BOUND


@asynccontextmanager
async def scene(folder: Path, dsn: str, redis_url: str) -> AsyncIterator[Scene]:
    async with ground(folder, dsn, redis_url) as place:
        who = await place.accounts(5)
        worker = await place.worker()
        async with Devices(place.port) as devices:
            made = Scene(devices, worker, who)
            await made.begin()
            yield made


@pytest.mark.requirement("WS-12", "SYN-6")
async def test_a_device_that_reads_nothing_costs_the_worker_little_and_loses_nothing(database: str, redis_url: str, tmp_path: Path) -> None:
    async with scene(tmp_path, database, redis_url) as world:
        slow = await world.devices.connect(world.slow)
        slow.read_nothing()
        async with world.others_served():
            await flood(world.sender, slow.account, SMALL_MESSAGES, SMALL)
        counted = await world.devices.metrics()
        assert counted["veredus_lagging_total"] >= 1
        async with world.others_served():
            slow.read_again()
            await slow.read_in_order(SMALL_MESSAGES)
            assert not [item for item in await slow.barrier() if item[0] == "delivery"]


@pytest.mark.requirement("WS-12")
async def test_a_client_that_is_stopped_as_a_process_gets_everything_when_it_goes_on(database: str, redis_url: str, tmp_path: Path) -> None:
    async with scene(tmp_path, database, redis_url) as world:
        device = [str(world.devices.address[1]), str(world.slow.account), str(world.slow.device)]
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.stopped_reader", *device, str(LARGE_MESSAGES),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        reader = WorkerProcess(client)
        try:
            assert client.stdin is not None
            client.stdin.write(world.slow.password.encode() + b"\n")
            await reader.line("connected")
            reader.signal(signal.SIGSTOP)
            async with world.others_served():
                await flood(world.sender, world.slow.account, LARGE_MESSAGES, LARGE, together=50)
            assert (await world.devices.metrics())["veredus_lagging_total"] >= 1
            reader.signal(signal.SIGCONT)
            await reader.line("all")
            assert await reader.ended() == 0
        finally:
            reader.kill()
            await reader.ended()


@pytest.mark.requirement("WS-12")
async def test_a_malicious_reader_harms_nobody_but_itself(database: str, redis_url: str, tmp_path: Path) -> None:
    async with scene(tmp_path, database, redis_url) as world:
        async with world.others_served():
            await flood(world.sender, world.slow.account, 100, SMALL)
            await acknowledge_what_was_not_sent(world)
            await send_endless_tiny_frames(world)
            await ping_without_reading(world)
            await open_and_close(world)
        honest = await world.devices.connect(world.slow)
        await honest.read_in_order(100)


async def acknowledge_what_was_not_sent(world: Scene) -> None:
    """Refused, told, counted; nothing is removed."""
    liar = await world.devices.connect(world.slow)
    await liar.next("drained")
    before = (await world.devices.metrics())["veredus_unknown_acknowledgements_total"]
    liar.acknowledge(101)
    liar.acknowledge(2**63)
    liar.say(acks=[{"tags": [500], "guids": [bytes(16)]}])
    errors = [item.code for name, item in await liar.barrier() if name == "error"]
    assert set(errors) == {Code.UNKNOWN_DELIVERY}
    assert (await world.devices.metrics())["veredus_unknown_acknowledgements_total"] == before + 4
    liar.drop()


async def send_endless_tiny_frames(world: Scene) -> None:
    """Empty frames, and one message in 60,000 pieces of a byte."""
    drip = await world.devices.connect(world.slow)
    empty = frame(BINARY)
    for _ in range(50):
        drip.peer.send(empty * 1000)
        await drip.peer.writer.drain()
    await drip.barrier()
    drip.peer.send(frame(BINARY, b"\xfa", fin=False))
    piece = frame(CONTINUATION, b"\x01", fin=False)
    for _ in range(60):
        drip.peer.send(piece * 1000)
        await drip.peer.writer.drain()
    drip.drop()


async def ping_without_reading(world: Scene) -> None:
    """Asks for a hundred bytes again and again, and takes none of them."""
    deaf = await world.devices.connect(world.slow)
    deaf.read_nothing()
    ping = frame(PING, bytes(100))
    for _ in range(100):
        deaf.peer.send(ping * 1000)
        await deaf.peer.writer.drain()
    deaf.drop()


async def open_and_close(world: Scene) -> None:
    """Two hundred times, each right after Hello, with a mailbox to be sent."""
    for _ in range(200):
        (await world.devices.connect(world.slow)).drop()
