"""Health checks: what is asked of whom, how often, and that a hanging part is a name and not a hang."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.core.test_credentials import ManualClock
from veredus.server.http import health
from veredus.server.http.health import Checks
from veredus.server.http.services import Probe


class Part:
    """Something that is well, fails or hangs."""

    def __init__(self) -> None:
        self.asked = 0
        self.fault: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> None:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault


def parts() -> tuple[Part, Part, ManualClock, Checks]:
    store, keys, clock = Part(), Part(), ManualClock()
    return store, keys, clock, Checks({"store": store, "keys": keys}, clock)


@pytest.mark.requirement("INF-17")
async def test_a_worker_is_ready_between_its_start_and_its_end_while_its_parts_are_well() -> None:
    store, _, clock, checks = parts()
    assert [await checks.failing(probe) for probe in Probe] == [(), ("startup",), ("startup",)]
    assert store.asked == 0
    checks.started()
    assert [await checks.failing(probe) for probe in Probe] == [(), (), ()]
    store.fault = ConnectionError("postgresql://user:secret@10.0.0.1")
    clock.seconds += 1
    assert [await checks.failing(probe) for probe in Probe] == [(), ("store",), ()]
    checks.leaving()
    assert await checks.failing(Probe.READY) == ("shutdown", "store")


async def test_many_questions_cost_one_look_a_second() -> None:
    store, keys, clock, checks = parts()
    checks.started()
    store.gate = asyncio.Event()
    asked = [asyncio.ensure_future(checks.failing(Probe.READY)) for _ in range(20)]
    await asyncio.sleep(0)
    asked.pop().cancel()
    store.gate.set()
    assert await asyncio.gather(*asked) == [()] * 19
    assert await checks.failing(Probe.READY) == ()
    assert (store.asked, keys.asked) == (1, 1)
    clock.seconds += health.KEPT_SECONDS
    await checks.failing(Probe.READY)
    assert store.asked == 2


async def test_a_part_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.01)
    store, _, _, checks = parts()
    checks.started()
    store.gate = asyncio.Event()
    assert await checks.failing(Probe.READY) == ("store",)
