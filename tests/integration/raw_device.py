"""A device by hand: protobuf frames over `Peer`, which reads, acknowledges and misbehaves exactly when a test says so.

`veredus.client` would acknowledge and reconnect by itself. Here is also what looks at a worker from outside: its memory, its metrics.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

from tests.integration.ws_peer import BINARY, PING, PONG, Peer, frame, upgrade
from tests.proto import frames
from veredus.client import Credentials

PATH = "/v1/websocket"
PATIENCE = 20.0  # for what a loaded machine has to do; never waited for when all is well
SMALL_BUFFER = 32 * 1024  # of the kernel on a device's side, so that what is not read is soon noticed


class RawDevice:
    """One connection of one device. Contents begin with four bytes: their place in the sender's order."""

    def __init__(self, peer: Peer, credentials: Credentials) -> None:
        self.peer = peer
        self.account = credentials.account
        self.device = credentials.device
        self._waiting: list[Any] = []

    @classmethod
    async def connect(cls, address: tuple[str, int], credentials: Credentials) -> RawDevice:
        """Connect, upgrade and read Hello."""
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, address)
        peer = Peer(*await asyncio.open_connection(sock=opened, limit=64 * 1024))
        name = f"{credentials.account}.{credentials.device}:{credentials.password}"
        basic = "Basic " + base64.b64encode(name.encode()).decode()
        peer.send(upgrade(PATH, replace={"Authorization": basic}))
        answer = await peer.answer()
        assert answer.status == 101, answer
        made = cls(peer, credentials)
        assert (await made.next("hello")).max_devices
        return made

    # ---- reading

    def read_nothing(self) -> None:
        """Leave what comes to the kernel, until `read_again`."""
        self.peer.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_again(self) -> None:
        self.peer.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def next(self, kind: str) -> Any:
        """The next item of this kind; those of other kinds before it are dropped."""
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._waiting:
                    name, item = self._waiting.pop(0)
                    if name == kind:
                        return item
                await self._read(kind)

    async def several(self, kind: str) -> list[Any]:
        """All items of this kind that the next frame with any of them has."""
        found = [await self.next(kind)]
        while self._waiting and self._waiting[0][0] == kind:
            found.append(self._waiting.pop(0)[1])
        return found

    async def _read(self, kind: str) -> None:
        came = await self.peer._frame()
        if came.opcode in {PING, PONG}:
            self._waiting.append(("pong" if came.opcode == PONG else "ping", came.payload))
            return
        assert came.opcode == BINARY, (f"while waiting for {kind}", came)
        said = frames.ServerFrame.FromString(came.payload)
        if said.HasField("hello"):
            self._waiting.append(("hello", said.hello))
        self._waiting += [("result", item) for item in said.results]
        self._waiting += [("delivery", item) for item in said.deliveries]
        if said.HasField("drained"):
            self._waiting.append(("drained", said.drained))
        self._waiting += [("error", item) for item in said.errors]

    async def deliveries(self, count: int) -> list[Any]:
        """The next so many, unacknowledged."""
        return [await self.next("delivery") for _ in range(count)]

    async def read_in_order(self, count: int, first_tag: int = 1) -> None:
        """Read and acknowledge deliveries 0 to `count`, each once and in order."""
        place = 0
        while place < count:
            came = await self.several("delivery")
            for delivery in came:
                assert delivery.tag == first_tag + place
                assert int.from_bytes(delivery.envelope.content[:4], "big") == place
                place += 1
            self.acknowledge(came[-1].tag)

    # ---- writing

    def say(self, **items: Any) -> None:
        """One ClientFrame."""
        self.peer.send(frame(BINARY, frames.ClientFrame(**items).SerializeToString()))

    def acknowledge(self, up_to: int) -> None:
        self.say(acks=[frames.Ack(up_to=up_to)])

    def ping(self) -> None:
        self.peer.send(frame(PING, b"barrier"))

    async def barrier(self) -> list[Any]:
        """What came before the server had surely handled everything said before.

        Twice, since a pong is queued at once, and messages are handled at the end of the read that brought them.
        """
        return await self._until_pong() + await self._until_pong()

    async def _until_pong(self) -> list[Any]:
        self.peer.send(frame(PING, b"barrier"))
        before: list[Any] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                while self._waiting:
                    item = self._waiting.pop(0)
                    if item[0] == "pong":
                        return before
                    before.append(item)
                await self._read("pong")

    def drop(self) -> None:
        self.peer.drop()


class Devices:
    """Connects devices to one worker; all of them are gone after the block."""

    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)
        self._opened: list[RawDevice] = []

    async def connect(self, credentials: Credentials) -> RawDevice:
        device = await RawDevice.connect(self.address, credentials)
        self._opened.append(device)
        return device

    async def metrics(self) -> dict[str, float]:
        return await metrics(self.address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for device in self._opened:
            device.drop()


def send_to(destination: UUID, place: int, size: int, client_id: bytes = b"") -> Any:
    """A send whose content of `size` bytes begins with its place in the order."""
    content = frames.DeviceContent(device=1, content=place.to_bytes(4, "big").ljust(size, b"."))
    return frames.Send(client_id=client_id or uuid4().bytes, destination_account=destination.bytes, type=1, contents=[content])


async def flood(sender: RawDevice, destination: UUID, count: int, size: int, together: int = 200) -> None:
    """Send so many in order, as fast as the server reads them; returns when each was answered SENT."""

    async def write() -> None:
        for first in range(0, count, together):
            sender.say(sends=[send_to(destination, place, size) for place in range(first, min(first + together, count))])
            await sender.peer.writer.drain()

    writing = asyncio.ensure_future(write())
    try:
        for _ in range(count):
            result = await sender.next("result")
            assert result.code == 0, result.code
    finally:
        writing.cancel()


class Pair:
    """Two devices that write to each other on the same worker all the while; `latencies` in seconds, from send to delivery."""

    def __init__(self, one: RawDevice, other: RawDevice) -> None:
        self._one = one
        self._other = other
        self.latencies: list[float] = []

    async def talk(self, until: asyncio.Event) -> None:
        """One message after the other, each waited for; every one must come, and in order."""
        place = 0
        while not until.is_set():
            begun = time.perf_counter()
            self._one.say(sends=[send_to(self._other.account, place, 64)])
            delivery = await self._other.next("delivery")
            self.latencies.append(time.perf_counter() - begun)
            assert int.from_bytes(delivery.envelope.content[:4], "big") == place
            self._other.acknowledge(delivery.tag)
            place += 1

    def __str__(self) -> str:
        ordered = sorted(self.latencies)
        p50, p99 = (ordered[int(len(ordered) * part)] * 1000 for part in (0.5, 0.99))
        return f"{len(ordered)} messages of others meanwhile: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {ordered[-1] * 1000:.1f} ms"


class Memory:
    """A process's resident memory, from `__init__` on."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")  # the peak is counted from now
        self._before = self._read("VmRSS")

    @property
    def growth(self) -> int:
        """Bytes by which it grew at its highest."""
        return self._read("VmHWM") - self._before

    def _read(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
        raise AssertionError(name)


async def metrics(address: tuple[str, int]) -> dict[str, float]:
    """What the worker counted."""
    peer = await Peer.connect(address)
    peer.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await peer.answer()
    peer.drop()
    assert answer.status == 200, answer
    lines: Sequence[str] = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
