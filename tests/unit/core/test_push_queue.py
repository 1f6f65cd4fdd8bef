"""Making jobs of pushes: nobody waits for the transport, and what it cannot take is left to the store, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.fakes.store import MemoryStore
from tests.fakes.wakeups import MemoryWakeups
from veredus.core.messaging import push_queue
from veredus.core.messaging.push import PushCounters
from veredus.core.messaging.push_queue import PushQueue
from veredus.core.model import PushJob


class Jobs:
    """Takes jobs when it is open."""

    def __init__(self) -> None:
        self.added: list[int] = []
        self.open = asyncio.Event()
        self.fault: Exception | None = None

    async def add(self, devices: Sequence[int]) -> None:
        await self.open.wait()
        if self.fault:
            raise self.fault
        self.added += devices

    async def take(self, limit: int) -> list[PushJob]:
        return []

    async def take_over(self, limit: int, idle: float) -> list[PushJob]:
        return []

    async def done(self, jobs: Sequence[PushJob]) -> None: ...


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def queue(jobs: Jobs) -> PushQueue:
    return PushQueue(MemoryWakeups(MemoryStore()), jobs, PushCounters())


@pytest.mark.requirement("PSH-6")
async def test_making_a_push_due_does_not_wait_for_a_transport_that_hangs(queue: PushQueue, jobs: Jobs) -> None:
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(10):
        await queue.due({1: 1})
        await asyncio.sleep(0)
        await queue.due({2: 1})
    assert jobs.added == []
    jobs.open.set()
    while sorted(jobs.added) != [1, 2]:
        await asyncio.sleep(0)
    running.cancel()


@pytest.mark.parametrize("fault", [ConnectionError(), TimeoutError()])
async def test_jobs_that_cannot_be_handed_over_are_counted_and_the_next_are_tried(queue: PushQueue, jobs: Jobs, fault: Exception) -> None:
    jobs.open.set()
    jobs.fault = fault
    await queue.due({1: 1})
    await queue.flush()
    jobs.fault = None
    await queue.due({2: 1})
    await queue.flush()
    assert jobs.added == [2]
    assert queue._counters.queue_dropped == 1


async def test_what_waits_is_bounded(queue: PushQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_queue, "MOST_WAITING", 3)
    await queue.due(dict.fromkeys(range(1, 6), 1))
    assert (len(queue._waiting), queue._counters.queue_dropped) == (3, 2)


async def test_who_is_awake_before_his_job_was_made_gets_none(queue: PushQueue, jobs: Jobs) -> None:
    jobs.open.set()
    await queue.due({1: 1, 2: 1})
    await queue.awake([1])
    await queue.flush()
    assert jobs.added == [2]
