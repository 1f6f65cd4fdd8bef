"""Presence in memory, shared by the workers of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from veredus.core.model import Location


@dataclass
class MemoryPresence:
    """One worker's view of `here`, which several may share. `gate` holds `locate` back; `broken` makes every call fail."""

    worker: str = "one"
    here: dict[int, Location] = field(default_factory=dict)
    broken: bool = False
    gate: asyncio.Event | None = None
    located: asyncio.Event = field(default_factory=asyncio.Event)
    settled: bool = True

    async def claim(self, devices: Sequence[int]) -> list[Location | None]:
        self._check()
        displaced = [self.here.get(device) for device in devices]
        self.here.update({device: Location(self.worker, "1", 1) for device in devices})
        return displaced

    async def release(self, devices: Sequence[int]) -> None:
        self._check()
        for device in devices:
            if (location := self.here.get(device)) is not None and location.worker == self.worker:
                del self.here[device]

    async def locate(self, devices: Sequence[int]) -> Mapping[int, Location]:
        self.located.set()
        if self.gate is not None:
            await self.gate.wait()
        self._check()
        return {device: self.here[device] for device in devices if device in self.here}

    def _check(self) -> None:
        if self.broken:
            raise ConnectionError("presence is away")
