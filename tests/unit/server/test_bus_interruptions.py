"""Interruptions are told at once, then together, and never not at all."""

from __future__ import annotations

import asyncio

from veredus.server.cluster.bus_interruptions import Interruptions


async def test_the_first_is_told_at_once_and_all_that_follow_soon_together() -> None:
    told: list[str] = []
    again = asyncio.Event()

    def call() -> None:
        told.append("told")
        if len(told) == 2:
            again.set()

    interruptions = Interruptions(0.05, call)
    interruptions.report()
    assert told == ["told"]
    for _ in range(5):
        interruptions.report()
    assert told == ["told"]
    assert interruptions.pending
    await again.wait()
    assert not interruptions.pending


async def test_one_after_the_calm_is_told_at_once() -> None:
    told: list[str] = []
    interruptions = Interruptions(0.0, lambda: told.append("told"))
    interruptions.report()
    interruptions.report()
    assert told == ["told", "told"]


async def test_nobody_is_told_after_the_close() -> None:
    told: list[str] = []
    interruptions = Interruptions(0.01, lambda: told.append("told"))
    interruptions.report()
    interruptions.report()
    interruptions.close()
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, later.set)
    await later.wait()
    assert told == ["told"]
