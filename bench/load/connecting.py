"""Opens the connections of a generator, a bounded number at a time, and hears of their end. Sends nothing."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import picows

from veredus.bench.load.plan import Account, Order
from veredus.ext.generator import Device
from veredus.ext.hist import Histogram

CONNECT_SECONDS = 30.0
REPEAT_SECONDS = 1.0  # after a refusal that is worth a repeat, as the server's default asks
FRAME_BYTES = 16 << 20  # above the largest batch a server sends (10 MB)


class Crowd:
    """The devices of one generator and what became of their connections."""

    def __init__(self, order: Order, clock: Callable[[], int]) -> None:
        self.broken = 0
        self.latency = Histogram()  # nanoseconds from the beginning of a connection to Drained
        self._order = order
        self._clock = clock
        self._trust = ssl.create_default_context(cafile=order.ca) if order.url.startswith("wss:") else None
        self._drained: dict[Device, asyncio.Future[None]] = {}
        self._leaving = False

    def told(self, device: Device, event: str) -> None:
        """A device's news."""
        if event == "drained":
            waiting = self._drained.pop(device, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        elif event == "refused":
            asyncio.get_running_loop().call_later(REPEAT_SECONDS, device.resume)
        elif event == "lost":
            waiting = self._drained.pop(device, None)
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionError(f"the server closed with {device.close_code}"))
            self.broken += not self._leaving

    async def connect(self, devices: Sequence[Device], accounts: Sequence[Account]) -> None:
        """Connect these devices as these accounts and wait until each was sent what is stored for it."""
        self._leaving = False
        work = iter(zip(devices, accounts, strict=True))
        await asyncio.gather(*[self._connect_some(work) for _ in range(min(self._order.plan.at_once, len(devices)))])

    async def leave(self, devices: Iterable[Device]) -> None:
        """Drop these connections."""
        self._leaving = True
        for device in devices:
            device.close()
        await asyncio.sleep(0)

    async def _connect_some(self, work: Iterable[tuple[Device, Account]]) -> None:
        for device, account in work:
            begun = self._clock()
            drained = asyncio.get_running_loop().create_future()
            self._drained[device] = drained
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._upgrade(device, account)
                await drained
            self.latency.record(self._clock() - begun)

    async def _upgrade(self, device: Device, account: Account) -> None:
        token = base64.b64encode(f"{account.uuid}.1:{account.password}".encode()).decode()
        await picows.ws_connect(
            partial(_same, device), self._order.url, ssl_context=self._trust, max_frame_size=FRAME_BYTES, max_redirects=0,
            read_buffer_init_size=4096, websocket_handshake_timeout=CONNECT_SECONDS,
            extra_headers={"Authorization": f"Basic {token}", "Sec-WebSocket-Protocol": "signalservice"},
        )  # fmt: skip


def _same(device: Device) -> Device:
    return device
