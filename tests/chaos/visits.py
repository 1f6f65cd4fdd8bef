"""Devices that come, send, receive, acknowledge and go, in every way a connection can begin and end. Judges nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import cycle
from uuid import uuid4

from tests.integration.ws_peer import BINARY, CLOSE, PING, PONG, Peer, frame, upgrade
from veredus.client import Credentials
from veredus.core.model import EnvelopeType
from veredus.ext.frames import ServerInbound, encode_ack, encode_send, parse_server_frame

PATH = "/v1/websocket"
LINGER_NOT = struct.pack("ii", 1, 0)  # close sends RST


class Pair:
    """Two devices that write to each other in turn: each finds what the other left and leaves something itself."""

    def __init__(self, port: int, one: Credentials, other: Credentials) -> None:
        self._address = ("127.0.0.1", port)
        self._devices = (one, other)
        self._visits = 0
        self._endings = cycle((leave, reset, leave, drop))
        self._nuisances = cycle((wrong_password, stranger, half_a_head, silent, gone_while_judged, malformed, half_a_message))
        self.sent: set[bytes] = set()
        self.received: set[bytes] = set()

    async def visit(self) -> None:
        """One connection that does everything; every fourth time there comes one beside it that does not."""
        me, other = self._devices[self._visits % 2], self._devices[1 - self._visits % 2]
        self._visits += 1
        peer = await opened(self._address, me)
        tags: list[int] = []
        await self._until(peer, lambda inbound: inbound.drained is not None, tags)
        peer.send(
            frame(BINARY, encode_send(uuid4().bytes, other.account.bytes, EnvelopeType.CIPHERTEXT, 1, False, False, [(1, 0, b"c" * 300)]))
        )
        await self._until(peer, lambda inbound: bool(inbound.results), tags)
        if tags:
            peer.send(frame(BINARY, encode_ack(tags=tags)))
        await next(self._endings)(peer)
        if self._visits % 4 == 0:
            await next(self._nuisances)(self._address, other)

    async def settle(self) -> None:
        """Each takes what is left for it, so that nothing is left."""
        for me in self._devices:
            peer = await opened(self._address, me)
            tags: list[int] = []
            await self._until(peer, lambda inbound: inbound.drained is not None, tags)
            if tags:
                peer.send(frame(BINARY, encode_ack(tags=tags)))
            await leave(peer)

    async def _until(self, peer: Peer, wanted: Callable[[ServerInbound], bool], tags: list[int]) -> None:
        while True:
            got = await peer.frame()
            if got.opcode == PING:
                peer.send(frame(PONG, got.payload))
                continue
            assert got.opcode == BINARY, got
            inbound = parse_server_frame(got.payload)
            for delivery in inbound.deliveries:
                tags.append(delivery.tag)
                self.received.add(delivery.envelope.guid)
            self.sent.update(result.guid for result in inbound.results if result.code == 0)
            if wanted(inbound):
                return


def message(recipient: Credentials) -> bytes:
    contents = [(recipient.device, 0, b"c" * 300)]
    return encode_send(uuid4().bytes, recipient.account.bytes, EnvelopeType.CIPHERTEXT, 1, False, False, contents)


async def opened(address: tuple[str, int], me: Credentials) -> Peer:
    return await Peer.open(address, PATH, replace={"Authorization": me.authorization()})


# ---- how a connection ends


async def leave(peer: Peer) -> None:
    await peer.leave_after_rest()


async def reset(peer: Peer) -> None:
    raw: socket.socket = peer.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    peer.drop()


async def drop(peer: Peer) -> None:
    peer.drop()


# ---- connections that come to nothing

Nuisance = Callable[[tuple[str, int], Credentials], Awaitable[None]]


async def wrong_password(address: tuple[str, int], device: Credentials) -> None:
    await _refused(address, device._replace(password="wrong"))


async def stranger(address: tuple[str, int], device: Credentials) -> None:
    await _refused(address, device._replace(account=uuid4()))


async def _refused(address: tuple[str, int], who: Credentials) -> None:
    peer = await Peer.connect(address)
    peer.send(upgrade(PATH, replace={"Authorization": who.authorization()}))
    assert (await peer.answer()).status == 401
    peer.drop()


async def half_a_head(address: tuple[str, int], device: Credentials) -> None:
    peer = await Peer.connect(address)
    peer.send(upgrade(PATH)[:60])
    await peer.writer.drain()
    peer.drop()


async def silent(address: tuple[str, int], device: Credentials) -> None:
    (await Peer.connect(address)).drop()


async def gone_while_judged(address: tuple[str, int], device: Credentials) -> None:
    peer = await Peer.connect(address)
    peer.send(upgrade(PATH, replace={"Authorization": device.authorization()}))
    await reset(peer)


async def malformed(address: tuple[str, int], device: Credentials) -> None:
    peer = await opened(address, device)
    peer.send(frame(BINARY, b"\xff\xff\xff"))
    while (await peer.frame()).opcode != CLOSE:
        pass
    peer.drop()


async def half_a_message(address: tuple[str, int], device: Credentials) -> None:
    peer = await opened(address, device)
    peer.send(frame(BINARY, b"c" * 20_000, fin=False), frame(0, b"c" * 100, length=5_000, fin=False))
    await peer.writer.drain()
    await reset(peer)


async def visits(pairs: list[Pair], number: int) -> None:
    """So many visits in all, all pairs at once."""

    async def some(pair: Pair) -> None:
        for _ in range(number // len(pairs)):
            await pair.visit()

    async with asyncio.TaskGroup() as group:
        for pair in pairs:
            group.create_task(some(pair))
