"""Wake-ups over the memory store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.fakes.store import MemoryStore
from veredus.core.errors import StoreUnavailable


@dataclass
class MemoryWakeups:
    """Records the pushes that became due."""

    store: MemoryStore
    pushes: dict[int, int] = field(default_factory=dict)
    late: list[tuple[int, int]] = field(default_factory=list)

    async def due(self, devices: Mapping[int, int]) -> list[int]:
        if not self.store.available:
            raise StoreUnavailable
        new = {device: row for device, row in devices.items() if row or self.store.of(device)}
        self.pushes.update(new)
        return list(new)

    async def awake(self, devices: Sequence[int]) -> None:
        for device in devices:
            self.pushes.pop(device, None)

    async def occupied(self, devices: Sequence[int]) -> set[int]:
        if not self.store.available:
            raise StoreUnavailable
        return {device for device in devices if self.store.of(device)}

    async def overdue(self, seconds: float) -> list[tuple[int, int]]:
        return self.late
