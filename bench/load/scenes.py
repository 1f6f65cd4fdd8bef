"""The workloads: who sends to whom, when a run is over, and what must be true then. Owns no figures but those it finds wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from veredus.bench.load.connecting import Crowd
from veredus.bench.load.pace import Pace
from veredus.bench.load.plan import Account, Figures, Order
from veredus.ext.generator import Device, Run

SETTLE_SECONDS = 30.0  # what was sent must have arrived by then
POLL_SECONDS = 0.02
LAST_LOOKS = 20  # acknowledgements are carried out behind the answer: a device that is quickly back may see a message once more
LOOK_SECONDS = 0.25


class Scene(Protocol):
    """A workload as a generator plays it, in the order of these methods."""

    async def prepare(self) -> None:
        """Connect, store what has to be stored."""
        ...

    async def start(self) -> None:
        """Come to speed; measuring begins afterwards."""
        ...

    async def work(self) -> None:
        """What is measured, when it has an end of its own; else cancelled when time is up."""
        ...

    async def finish(self) -> Figures:
        """Stop, wait until everything sent has arrived, and check it: the figures that should be 0, and those of the whole run."""
        ...


class Pairs:
    """Every sender has one recipient and keeps a window of sends under way, or all senders together keep a rate."""

    def __init__(self, order: Order, run: Run, crowd: Crowd, clock: Callable[[], int]) -> None:
        plan = order.plan
        self._run, self._crowd, self._plan = run, crowd, plan
        self._to, self._from = order.accounts[: plan.pairs], order.accounts[plan.pairs :]
        self._recipients = [Device(run, number, plan.pairs, crowd.told) for number in range(plan.pairs)]
        self._senders = [Device(run, number, plan.pairs, crowd.told) for number in range(plan.pairs)]
        for sender, account in zip(self._senders, self._to, strict=True):
            sender.aim(UUID(account.uuid).bytes, plan.window)
        self._pace = Pace(plan.rate, clock, self._due) if plan.rate else None

    async def prepare(self) -> None:
        await self._crowd.connect([*self._recipients, *self._senders], [*self._to, *self._from])

    async def start(self) -> None:
        if self._pace is not None:
            self._pace.start()
        else:
            for sender in self._senders:
                sender.start()

    async def work(self) -> None:
        await asyncio.Event().wait()

    async def finish(self) -> Figures:
        if self._pace is not None:
            self._pace.stop()
        for sender in self._senders:
            sender.halt()
        await settled(lambda: not any(sender.waiting for sender in self._senders) and self._run.delivered >= self._run.accepted)
        figures = faults(self._run, self._crowd)
        for sender, recipient in zip(self._senders, self._recipients, strict=True):
            figures.lost += recipient.lost_of(sender.number, sender.accepted)
            figures.failed += sender.waiting
        await self._crowd.leave([*self._senders, *self._recipients])
        figures.left = await left_over(self._run, self._crowd, self._to)
        return figures

    def _due(self, number: int, intended: int) -> None:
        self._senders[number % len(self._senders)].send(intended)


class Drain:
    """Messages are stored for devices that are away; then all of these connect and are sent what is theirs."""

    def __init__(self, order: Order, run: Run, crowd: Crowd, clock: Callable[[], int]) -> None:
        plan = order.plan
        self._run, self._crowd, self._plan = run, crowd, plan
        self._to, self._from = order.accounts[: plan.connections], order.accounts[plan.connections :]
        senders = len(self._from)
        self._recipients = [Device(run, number, senders, crowd.told) for number in range(plan.connections)]
        self._senders = [Device(run, number, senders, crowd.told) for number in range(senders)]
        self._aims = [range(number, plan.connections, senders) for number in range(senders)]
        for sender, aim in zip(self._senders, self._aims, strict=True):
            sender.aim(b"".join([UUID(self._to[number].uuid).bytes for number in aim]), plan.window, plan.stored * len(aim))

    async def prepare(self) -> None:
        await self._crowd.connect(self._senders, self._from)
        for sender in self._senders:
            sender.start()
        while not all(sender.finished for sender in self._senders):
            if self._crowd.broken or self._run.failed:
                raise RuntimeError("the messages could not be stored")
            await asyncio.sleep(POLL_SECONDS)
        await self._crowd.leave(self._senders)

    async def start(self) -> None:
        """Nothing comes to speed: the connecting is part of what is measured."""

    async def work(self) -> None:
        await self._crowd.connect(self._recipients, self._to)
        await settled(lambda: self._run.delivered >= self._run.accepted)

    async def finish(self) -> Figures:
        figures = faults(self._run, self._crowd)
        for sender, aim in zip(self._senders, self._aims, strict=True):
            figures.lost += sum(self._recipients[number].lost_of(sender.number, self._plan.stored) for number in aim)
        await self._crowd.leave(self._recipients)
        figures.left = await left_over(self._run, self._crowd, self._to)
        return figures


class Connect:
    """Every account connects, is sent what is stored for it (nothing), and stays until all are there."""

    def __init__(self, order: Order, run: Run, crowd: Crowd, clock: Callable[[], int]) -> None:
        self._run, self._crowd, self._accounts = run, crowd, order.accounts
        self._devices = [Device(run, number, 1, crowd.told) for number in range(len(order.accounts))]

    async def prepare(self) -> None:
        """Nothing: connecting is what is measured."""

    async def start(self) -> None:
        """Nothing."""

    async def work(self) -> None:
        await self._crowd.connect(self._devices, self._accounts)

    async def finish(self) -> Figures:
        figures = faults(self._run, self._crowd)
        figures.connected = len(self._devices)
        # Here the latency of "sent" is that of connecting: from the first packet to Drained.
        figures.sent_latency, figures.sent_slowest = self._crowd.latency.counts(), self._crowd.latency.largest
        await self._crowd.leave(self._devices)
        return figures


class Idle(Connect):
    """As many connections as asked for, half of them before `start`, that do nothing."""

    async def prepare(self) -> None:
        half = len(self._devices) // 2
        await self._crowd.connect(self._devices[:half], self._accounts[:half])

    async def start(self) -> None:
        half = len(self._devices) // 2
        await self._crowd.connect(self._devices[half:], self._accounts[half:])

    async def work(self) -> None:
        await asyncio.Event().wait()


def make(order: Order, run: Run, crowd: Crowd, clock: Callable[[], int]) -> Scene:
    """The scene of an order's workload."""
    kinds: dict[str, type[Pairs] | type[Drain] | type[Connect]] = {"drain": Drain, "connect": Connect, "idle": Idle}
    return kinds.get(order.plan.workload, Pairs)(order, run, crowd, clock)


def faults(run: Run, crowd: Crowd) -> Figures:
    """What should all be 0 at the end, except `refused`; the scene adds what it knows."""
    return Figures(
        accepted=run.accepted, delivered=run.delivered, refused=run.refused, failed=run.failed, duplicated=run.duplicated,
        reordered=run.reordered, foreign=run.foreign, malformed=run.malformed, errors=run.errors, broken=crowd.broken,
    )  # fmt: skip


async def settled(condition: Callable[[], bool]) -> None:
    """Until it holds, at most SETTLE_SECONDS: what is still open then shows in the figures."""
    for _ in range(int(SETTLE_SECONDS / POLL_SECONDS)):
        if condition():
            return
        await asyncio.sleep(POLL_SECONDS)


async def left_over(run: Run, crowd: Crowd, accounts: Sequence[Account]) -> int:
    """Reconnect until the queues are empty: how many deliveries the last look still brought."""
    received = 0
    for _ in range(LAST_LOOKS):
        devices = [Device(run, number, 1, crowd.told) for number in range(len(accounts))]
        await crowd.connect(devices, accounts)
        received = sum(device.received for device in devices)
        await asyncio.sleep(LOOK_SECONDS if received else 0)  # acknowledged by then
        await crowd.leave(devices)
        if not received:
            break
    return received
