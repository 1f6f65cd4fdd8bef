"""One device of a workload: a sender and a receiver that make trouble by a seeded script."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from uuid import UUID

import msgspec

from tests.checker.history import History
from tests.checker.recorder import Recorder
from veredus.client import Client, Config, Credentials, IdempotencyMismatch, Message, SendRefused, Sent

OVERSIZE = 262_145  # MSG-5


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload is made of: chances for one step of a sender (`slow_ack`: for one message of a receiver), sizes, times."""

    repeat: float = 0.05  # an answered send again, same body
    other_body: float = 0.03  # an answered client id with another body
    oversize: float = 0.01
    reconnect: float = 0.01
    slow_ack: float = 0.1  # kept for later and then acknowledged out of order
    held: int = 50  # messages kept for later at most
    burst: int = 24  # sends in one loop iteration at most
    under_way: int = 64  # sends of one device without an answer at most
    content_bytes: tuple[int, int] = (40, 400)
    quiescence_seconds: float = 60.0  # P5
    drain_seconds: float = 60.0
    config: Config = Config(backoff_first_seconds=0.05, backoff_most_seconds=1.0)


class Order(NamedTuple):
    """A send as the workload made it."""

    client_id: UUID
    destination: UUID
    contents: dict[int, bytes]


@dataclass
class Tally:
    """What happened, over all players."""

    sent: int = 0
    refused: int = 0
    repeats: int = 0
    reconnects: int = 0
    received: int = 0


@dataclass
class Scene:
    """What the players of one workload share."""

    url: str
    devices: dict[UUID, list[int]]  # of every account that may be sent to
    mix: Mix
    history: History
    tally: Tally = field(default_factory=Tally)
    expected: dict[tuple[UUID, int], set[UUID]] = field(default_factory=lambda: defaultdict(set))  # what each device must get
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Player:
    """A device with its script."""

    def __init__(self, scene: Scene, credentials: Credentials, seed: str) -> None:
        self.credentials = credentials
        self.got: set[UUID] = set()
        self._scene = scene
        self._seed = seed
        self._random = random.Random(seed)
        self._made = 0
        self._lives = 0
        self._held: list[Message] = []
        self._answered: list[Order] = []
        self.client = self.new_client()

    def new_client(self) -> Client:
        """The device's next life. Only one client at a time, or they replace each other."""
        self._lives += 1
        recorder = Recorder(self._scene.history, f"{self._seed}#{self._lives}")
        return Client(self._scene.url, self.credentials, observer=recorder, config=self._scene.mix.config)

    async def play(self, messages: int) -> None:
        """Send so many messages, make trouble between, and wait for the last answer."""
        mix, under_way = self._scene.mix, set[asyncio.Future[Sent]]()
        left = messages
        while left > 0:
            if self._chance(mix.reconnect):
                self._scene.tally.reconnects += 1
                self.client.reconnect()
            if self._answered and self._chance(mix.repeat + mix.other_body):
                under_way |= self._again(self._random.choice(self._answered))
            burst = min(left, self._random.randint(1, mix.burst))
            left -= burst
            for _ in range(burst):
                under_way |= self._new()
            bound = self._random.randint(0, mix.under_way)
            while len(under_way) > bound:
                under_way = self._checked(*await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED))
        if under_way:
            self._checked(*await asyncio.wait(under_way))

    async def receive(self) -> None:
        """Take messages until the client is closed; acknowledge most at once, some later and in another order."""
        async for message in self.client.messages():
            await self.take(message)
            if len(self._held) > self._scene.mix.held:
                await self.release()

    async def take(self, message: Message) -> None:
        """Take one message, and acknowledge it or keep it for later."""
        self.got.add(message.guid)
        self._scene.tally.received += 1
        self._scene.changed.set()
        if self._chance(self._scene.mix.slow_ack):
            self._held.append(message)
        else:
            await message.ack()

    async def release(self) -> None:
        """Acknowledge everything kept for later."""
        self._random.shuffle(self._held)
        for message in self._held:
            await message.ack()
        self._held.clear()

    def missing(self) -> int:
        """How many messages for this device were answered with SENT and have not come."""
        return len(self._scene.expected[self.credentials.account, self.credentials.device] - self.got)

    def _new(self) -> set[asyncio.Future[Sent]]:
        self._made += 1
        destination = self._random.choice(list(self._scene.devices))
        contents = self._contents(destination, OVERSIZE if self._chance(self._scene.mix.oversize) else 0)
        if not contents:
            return set()  # oneself, with no other device
        order = Order(UUID(int=self._random.getrandbits(128), version=4), destination, contents)
        return self._submit(order, self._settled)

    def _again(self, order: Order) -> set[asyncio.Future[Sent]]:
        mix = self._scene.mix
        if self._chance(mix.other_body / (mix.repeat + mix.other_body)):
            self._made += 1
            order = order._replace(contents=self._contents(order.destination, 0))
        self._scene.tally.repeats += 1
        return self._submit(order, self._repeated)

    def _submit(self, order: Order, then: Callable[[Order, asyncio.Future[Sent]], None]) -> set[asyncio.Future[Sent]]:
        try:
            future = self.client.submit(order.destination, order.contents, client_id=order.client_id)
        except IdempotencyMismatch:  # its other body is still on the way: the SDK says no by itself
            self._scene.tally.refused += 1
            return set()
        future.add_done_callback(partial(then, order))
        return {future}

    def _settled(self, order: Order, future: asyncio.Future[Sent]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        self._scene.tally.sent += 1
        self._answered.append(order)
        for number in order.contents:
            self._scene.expected[order.destination, number].add(future.result().guid)
        self._scene.changed.set()

    def _repeated(self, order: Order, future: asyncio.Future[Sent]) -> None:
        self._scene.changed.set()

    def _checked(self, done: set[asyncio.Future[Sent]], under_way: set[asyncio.Future[Sent]]) -> set[asyncio.Future[Sent]]:
        """Refusals are part of the script; anything else that a send raised ends the workload."""
        for future in done:
            error = future.exception()
            if isinstance(error, SendRefused):
                self._scene.tally.refused += 1
            elif error is not None:
                raise error
        return under_way

    def _contents(self, destination: UUID, size: int) -> dict[int, bytes]:
        """A content of its own for every device, so that the checker can tell what is what."""
        own = self.credentials.device if destination == self.credentials.account else 0
        low, high = self._scene.mix.content_bytes
        size = size or self._random.randint(low, high)
        numbers = [number for number in self._scene.devices[destination] if number != own]
        return {number: f"{self._seed}/{self._made}/{number} ".encode().ljust(size, b".") for number in numbers}

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability
