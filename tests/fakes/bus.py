"""The bus in memory, shared by the workers of a test: it can lose, hold back and forget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from veredus.core.model import Item
from veredus.core.ports import BusEvents


@dataclass
class MemoryBus:
    """`workers` are the listeners by name. With `lossy` frames vanish; with `held` they wait until `let_go`."""

    workers: dict[str, BusEvents] = field(default_factory=dict)
    lossy: bool = False
    held: list[tuple[str, list[Item]]] | None = None
    published: list[tuple[str, list[Item]]] = field(default_factory=list)

    async def publish(self, items: Mapping[str, Sequence[Item]]) -> set[str]:
        gone = {worker for worker in items if worker not in self.workers}
        for worker, batch in items.items():
            self.published.append((worker, list(batch)))
            if worker in gone or self.lossy:
                continue
            if self.held is not None:
                self.held.append((worker, list(batch)))
            else:
                self.workers[worker].received(batch)
        return gone

    def let_go(self) -> None:
        """Deliver what was held, and hold no more."""
        held, self.held = self.held or [], None
        for worker, batch in held:
            self.workers[worker].received(batch)
