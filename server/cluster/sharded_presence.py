"""`core.ports.Presence` on several Redis servers: each holds the devices that the ring gives it. Owns the division, nothing else.

Every shard is a `RedisPresence` of its own, with the worker's lease, its claims, its marker and its sweep: so an answer about a device
needs that device's server alone, and a server that is away, wiped or restarted is noticed, bridged and filled again beside the others.
A batch is one set of commands for each server it touches, all at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from veredus.core.clock import Clock
from veredus.core.model import Account, Location
from veredus.server.cluster.presence import Counters, Events, RedisPresence, new_incarnation
from veredus.server.cluster.shards import Shards
from veredus.server.cluster.timing import Timing

Part = tuple[RedisPresence, list[int]]


class ShardedPresence:
    """Presence of one worker on all servers."""

    def __init__(self, shards: Shards, worker: str, events: Events, clock: Clock, timing: Timing | None = None) -> None:
        """See `RedisPresence`."""
        self.worker = worker
        self.incarnation = new_incarnation()
        self.counters = Counters()  # of all servers together
        self._ring = shards.ring
        self._parts = [RedisPresence(client, worker, events, clock, timing, self.incarnation) for client in shards.clients.values()]
        for part in self._parts:
            part.counters = self.counters

    @property
    def settled(self) -> bool:
        """Every server is there and knows everything."""
        return all(part.settled for part in self._parts)

    async def start(self) -> None:
        """Take the lease on every server, or go on trying beside the rest."""
        await asyncio.gather(*(part.start() for part in self._parts))

    async def close(self) -> None:
        """Give the leases up: every device claimed here is absent at once."""
        await asyncio.gather(*(part.close() for part in self._parts))

    async def claim(self, devices: Sequence[int]) -> list[Location | None]:
        """See `core.ports.Presence`."""
        parts = self._split(devices)
        if len(parts) == 1:
            return await parts[0][0].claim(devices)
        answers = await asyncio.gather(*(part.claim(some) for part, some in parts))
        displaced: dict[int, Location | None] = {}
        for (_, some), others in zip(parts, answers, strict=True):
            displaced |= zip(some, others, strict=True)
        return [displaced[device] for device in devices]

    async def release(self, devices: Sequence[int]) -> None:
        """See `core.ports.Presence`. Returns at once."""
        for part, some in self._split(devices):
            await part.release(some)

    async def locate(self, devices: Sequence[int]) -> Mapping[int, Location]:
        """See `core.ports.Presence`. Two reads for each server; devices of one that is away are not found."""
        parts = self._split(devices)
        if len(parts) == 1:
            return await parts[0][0].locate(devices)
        found: dict[int, Location] = {}
        for located in await asyncio.gather(*(part.locate(some) for part, some in parts)):
            found.update(located)
        return found

    async def is_online(self, account: Account, number: int) -> bool:
        """Whether a device of an account is connected anywhere (PRE-1). No while its server is away."""
        device = account.devices.get(number)
        return device is not None and device.id in await self.locate([device.id])

    def _split(self, devices: Sequence[int]) -> list[Part]:
        """Every server that holds some of these devices, and which."""
        return [(part, some) for part, some in zip(self._parts, self._ring.split(devices), strict=True) if some]
