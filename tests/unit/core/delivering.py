"""A worker's message path on fakes, for tests of the core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from tests.fakes.bus import MemoryBus
from tests.fakes.presence import MemoryPresence
from tests.fakes.store import MemoryDirectory, MemoryStore
from tests.fakes.wakeups import MemoryWakeups
from tests.fakes.wire import MemoryWire
from veredus.core.clock import Clock, SystemClock
from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.core.messaging.context import Context
from veredus.core.messaging.delivery import Delivery
from veredus.core.messaging.ratelimit import Throttle, Unlimited
from veredus.core.messaging.relay import Relay
from veredus.core.messaging.routing import Routing
from veredus.core.messaging.session import Session
from veredus.core.model import Account, Device, EnvelopeType, Location, Principal, Reply
from veredus.ext.envelope import Inbound, Send


@dataclass(eq=False)
class RecordingOrigin:
    """An origin that is no connection, as an HTTP request is."""

    replies: list[Reply] = field(default_factory=list)
    refusal: Code = Code.OK
    fresh: bool = False
    unknown: bool = False
    reading: bool = True

    def answer(self, replies: Sequence[Reply]) -> None:
        self.replies += replies

    def result_unknown(self) -> None:
        self.unknown = True

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True


class World:
    """Accounts, a store, and one or more workers on it."""

    def __init__(self, limits: Limits | None = None, clock: Clock | None = None, throttle: Throttle | None = None) -> None:
        self.store = MemoryStore()
        self.directory = MemoryDirectory(self.store)
        self.bus = MemoryBus()
        self.wakeups = MemoryWakeups(self.store)
        self.limits = limits or Limits()
        self.clock = clock or SystemClock()
        self.throttle = throttle or Unlimited()
        self._here: dict[int, Location] = {}
        self._devices = 0
        self.delivery, self.presence = self.worker("one")
        self.context = self.delivery._context

    def worker(self, name: str) -> tuple[Delivery, MemoryPresence]:
        """Build a worker; `run` it to use it."""
        context = Context(limits=self.limits, clock=self.clock, throttle=self.throttle)
        presence = MemoryPresence(name, self._here)
        relay = Relay(name, self.bus, presence, self.wakeups, Routing(context), context)
        self.bus.workers[name] = relay
        return Delivery(self.store, self.directory, presence, relay, b"e" * 16, context), presence

    def account(self, devices: int = 1) -> list[Principal]:
        """A new account; a principal for each of its devices."""
        uuid, account_id = uuid4().bytes, len(self.store.accounts) + 1
        made: dict[int, Device] = {}
        for number in range(1, devices + 1):
            self._devices += 1
            made[number] = Device(self._devices, number, 1000 + number)
        self.store.accounts[uuid] = Account(account_id, uuid, 1, made)
        return [Principal(uuid, number, account_id, device.id) for number, device in made.items()]

    def change_devices(self, account: bytes, numbers: Sequence[int]) -> None:
        """Replace an account's devices by these."""
        old = self.store.accounts[account]
        made = {}
        for number in numbers:
            self._devices += 1
            made[number] = old.devices.get(number) or Device(self._devices, number, 1000 + number)
        self.store.accounts[account] = Account(old.id, account, old.devices_version + 1, made)

    def connect(self, principal: Principal, to: Delivery | None = None) -> tuple[Session, MemoryWire]:
        wire = MemoryWire()
        return (to or self.delivery).open(principal, wire), wire

    async def online(self, principal: Principal, to: Delivery | None = None) -> tuple[Session, MemoryWire]:
        """Connected, and its stored messages sent."""
        session, wire = self.connect(principal, to)
        await until(lambda: bool(wire.drained_at))
        return session, wire


@asynccontextmanager
async def running(limits: Limits | None = None, clock: Clock | None = None) -> AsyncIterator[World]:
    """A world with one worker running."""
    world = World(limits, clock)
    async with at_work(world.delivery):
        yield world


@asynccontextmanager
async def at_work(delivery: Delivery) -> AsyncIterator[Delivery]:
    """Run a worker; leaving kills it."""
    task = asyncio.ensure_future(delivery.run())
    try:
        yield delivery
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: object, turns: int = 2000) -> None:
    """Let the loop turn until a condition holds; pauses a little after the first turns for timers inside."""
    for turn in range(turns):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0 if turn < 200 else 0.002)
    raise AssertionError("it never came to that")


def send(
    sender: Principal,
    to: Principal,
    content: bytes = b"hello",
    *,
    client_id: bytes | None = None,
    devices: Sequence[int] = (1,),
    registrations: Sequence[int] = (),
    type: int = EnvelopeType.CIPHERTEXT,
    types: Sequence[int] = (),
    ephemeral: bool = False,
) -> Send:
    numbers, own = list(registrations) or [0] * len(devices), list(types) or [0] * len(devices)
    contents = [(device, number, content, each) for device, number, each in zip(devices, numbers, own, strict=True)]
    return Send.build(
        sender.account, sender.device, client_id or uuid4().bytes, to.account, type, 5, True, ephemeral, contents, 262_144, 16
    )


def inbound(*sends: Send, tags: Sequence[int] = (), up_to: int = 0, resume: bool = False, sync: bool = False) -> Inbound:
    """What a socket read brings, from values."""
    made = Inbound()
    made.sends.extend(sends)
    made.ack_tags.extend(tags)
    made.ack_up_to = up_to
    made.resume = resume
    made.sync = sync
    return made
