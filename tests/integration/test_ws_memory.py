"""What connections cost in memory: idle ones, after bursts and large messages, and with messages begun and never ended (P6)."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.integration.ws_child import Child, child
from tests.integration.ws_peer import BINARY, CONTINUATION, PING, PONG, Peer, frame, on_uvloop, serving, upgrade

KIB = 1024
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def raw(server: Child, count: int) -> list[socket.socket]:
    """Upgraded connections without a client library's weight."""
    loop = asyncio.get_running_loop()
    sockets = []
    for _ in range(count):
        opened = socket.socket()
        opened.setblocking(False)
        await loop.sock_connect(opened, server.address)
        await loop.sock_sendall(opened, upgrade())
        assert (await loop.sock_recv(opened, 4096)).startswith(b"HTTP/1.1 101")
        sockets.append(opened)
    return sockets


async def settled(server: Child, name: str, value: int) -> dict[str, int]:
    """Counters once one of them has come to a value."""
    async with asyncio.timeout(20):
        while (counters := await server.counters())[name] != value:
            await asyncio.sleep(0.05)
    return counters


async def quiet(server: Child) -> dict[str, int]:
    """Counters once the server has nothing left to read."""
    async with asyncio.timeout(30):
        counters, before = await server.counters(), -1
        while counters["reads"] != before:
            before = counters["reads"]
            await asyncio.sleep(0.2)
            counters = await server.counters()
    return counters


@on_uvloop
async def test_an_idle_connection_costs_a_few_kilobytes() -> None:
    async with child() as server:
        warm = await raw(server, 50)
        await server.counters()
        before = server.memory
        sockets = await raw(server, 2000)
        await server.counters()
        each = (server.memory - before) / 2000
        print(f"idle connection: {each:.0f} bytes")
        assert each < 7 * KIB
        for opened in warm + sockets:
            opened.close()
        await settled(server, "open", 0)


@on_uvloop
async def test_large_messages_and_bursts_leave_nothing_behind() -> None:
    async with child() as server:
        peers = [await Peer.open(server.address) for _ in range(200)]
        await server.counters()
        before = server.memory
        large = frame(BINARY, bytes(MIB))
        burst = frame(PONG, bytes(16)) * (4 * MIB // 22)  # nobody answers these
        for peer in peers:
            peer.send(large)
            assert len((await peer.frame()).payload) == MIB
        for peer in peers:
            peer.send(burst, frame(PING, b"done"))
            assert (await peer.frame()).payload == b"done"
        assert (await server.counters())["open"] == 200
        grown = server.memory - before
        print(f"after large messages and bursts: {grown / 200:.0f} bytes a connection")
        assert grown < 6 * MIB  # 200 connections, one worker's buffers and the allocator's slack included
        for peer in peers:
            peer.drop()


@on_uvloop
async def test_ten_thousand_half_sent_frames_stay_within_the_budget() -> None:
    budget = 64 * MIB
    async with child(partial_bytes_per_worker=budget) as server:
        sockets = await raw(server, 10_000)
        await server.counters()
        before = server.memory
        loop = asyncio.get_running_loop()
        half = frame(BINARY, bytes(20_000))[:-1]
        for opened in sockets:
            await loop.sock_sendall(opened, half)
        counters = await quiet(server)
        grown = server.memory - before
        print(f"half-sent frames: {grown / MIB:.1f} MiB more, charged {counters['partial_peak'] / MIB:.1f} MiB")
        assert counters["partial_peak"] <= budget
        assert grown < budget + 16 * MIB
        assert counters["partial_refused"] > 0
        for opened in sockets:
            opened.close()
        counters = await settled(server, "open", 0)
        assert counters["partial_bytes"] == 0


@on_uvloop
async def test_over_the_budget_a_message_is_refused_and_counted_and_others_go_on() -> None:
    async with serving(limits={"partial_bytes_per_worker": 100_000}) as served:
        holding = await Peer.open(served.address)
        holding.send(frame(BINARY, bytes(60_000), fin=False))
        await served.until(lambda: served.station.budget.used >= 60_000)
        greedy = await Peer.open(served.address)
        greedy.send(frame(BINARY, bytes(80_000), fin=False))
        assert await greedy.closed_with() == 4503
        assert served.station.counters()["partial_refused"] == 1
        small = await Peer.open(served.address)
        small.send(frame(BINARY, b"needs no budget"))
        assert (await small.frame()).payload == b"needs no budget"
        holding.send(frame(CONTINUATION, b"end"))
        assert len((await holding.frame()).payload) == 60_003
        assert served.station.budget.used == 0
        await small.leave()
        await holding.leave()


@on_uvloop
async def test_what_a_peer_announces_costs_nothing_before_it_comes() -> None:
    async with serving() as served:
        peer = await Peer.open(served.address)
        peer.send(frame(BINARY, bytes(3000), length=2 * MIB))
        await served.until(lambda: served.station.counters()["reads"] > 0)
        assert served.station.budget.used < 16 * KIB
        peer.drop()
