"""A worker's message path on fakes, for tests of the core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from tests.fakes.presence import MemoryPresence
from tests.fakes.store import MemoryDirectory, MemoryStore
from tests.fakes.wire import MemoryWire
from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.core.messaging.context import Context
from veredus.core.messaging.delivery import Delivery
from veredus.core.messaging.routing import Routing
from veredus.core.messaging.session import Session
from veredus.core.model import Account, Device, EnvelopeType, Principal, Reply
from veredus.ext.envelope import Inbound, Send


@dataclass(eq=False)
class RecordingOrigin:
    """An origin that is no connection, as an HTTP request is."""

    replies: list[Reply] = field(default_factory=list)
    refusal: Code = Code.OK
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
    """Accounts, a store and one worker's delivery."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.store = MemoryStore()
        self.directory = MemoryDirectory(self.store)
        self.presence = MemoryPresence()
        self.context = Context(limits=limits or Limits())
        self.delivery = Delivery(self.store, self.directory, self.presence, Routing(self.context), b"e" * 16, self.context)
        self._devices = 0

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

    def connect(self, principal: Principal) -> tuple[Session, MemoryWire]:
        wire = MemoryWire()
        return self.delivery.open(principal, wire), wire

    async def online(self, principal: Principal) -> tuple[Session, MemoryWire]:
        """Connected, and its stored messages sent."""
        session, wire = self.connect(principal)
        await until(lambda: bool(wire.drained_at))
        return session, wire


@asynccontextmanager
async def running(limits: Limits | None = None) -> AsyncIterator[World]:
    world = World(limits)
    task = asyncio.ensure_future(world.delivery.run())
    try:
        yield world
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
