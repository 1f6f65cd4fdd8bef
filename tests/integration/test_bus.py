"""The bus on a real Redis: what arrives, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from veredus.core.clock import SystemClock
from veredus.core.model import Item, ItemKind
from veredus.server.cluster.bus import RedisBus
from veredus.server.cluster.redis import connect
from veredus.server.secret import Secret


class Told:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[Sequence[Item]] = asyncio.Queue()

    def received(self, items: Sequence[Item]) -> None:
        self.queue.put_nowait(items)

    def interrupted(self) -> None: ...


async def test_items_arrive(redis_url: str) -> None:
    one, two = connect(Secret(redis_url)), connect(Secret(redis_url))
    a, b = RedisBus(one, "a", "1", SystemClock()), RedisBus(two, "b", "1", SystemClock())
    told = Told()
    a.listen(Told())
    b.listen(told)
    await a.start()
    await b.start()
    assert await a.publish({"b": [Item(ItemKind.ROW, 7, 1, b"g" * 16, 5, b"x")], "c": [Item(ItemKind.DOORBELL, 7)]}) == {"c"}
    (item,) = await told.queue.get()
    assert (item.device, item.envelope) == (7, b"x")
    await a.close()
    await b.close()
    await one.aclose()
    await two.aclose()
