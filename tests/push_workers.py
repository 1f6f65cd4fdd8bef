"""Workers that push, on real stores, with a provider that remembers. Not a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.contract.message_store import mailboxes, submission
from tests.fakes.presence import MemoryPresence
from tests.integration.store_gates import PostgresWorld, query
from veredus.core.messaging.push import Pushes, PushTiming
from veredus.core.messaging.push_queue import PushQueue
from veredus.core.model import PushOutcome, PushVerdict
from veredus.server.cluster.push_jobs import JobTiming, RedisPushJobs
from veredus.server.cluster.redis import connect
from veredus.server.secret import Secret

SENT, FAILED, UNREACHABLE = (PushOutcome(verdict) for verdict in PushVerdict)
# A read that finds nothing comes back soon; commands have time on a busy machine.
QUICK = JobTiming(wait=0.01, command=20.0)


@dataclass
class Provider:
    """Remembers whom it told, and answers what the test wants. `gate` holds answers back."""

    told: list[tuple[int, bool]] = field(default_factory=list)
    outcome: PushOutcome = SENT
    fault: Exception | None = None
    gate: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, device: int, urgent: bool) -> PushOutcome:
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.told.append((device, urgent))
        return self.outcome


@dataclass
class PushWorker:
    """One worker's parts."""

    queue: PushQueue
    pushes: Pushes
    jobs: RedisPushJobs
    provider: Provider


class Ground:
    """A world of accounts, and workers that share it, a Redis and a presence."""

    def __init__(self, world: PostgresWorld, redis_url: str, stack: AsyncExitStack) -> None:
        self.world = world
        self.dsn = world.dsn
        self.presence = MemoryPresence()
        self._redis_url = redis_url
        self._stack = stack

    def worker(self, name: str = "one", provider: Provider | None = None, jobs: JobTiming = QUICK, **timing: float) -> PushWorker:
        client = connect(Secret(self._redis_url), seconds=20.0)
        self._stack.push_async_callback(client.aclose)
        transport = RedisPushJobs(client, name, jobs)
        provider = provider or Provider()
        postgres = self.world.postgres
        settings = PushTiming(**({"retry": 0.01} | timing))  # type: ignore[arg-type]
        pushes = Pushes(postgres.pushes, transport, self.presence, provider, settings)
        return PushWorker(PushQueue(postgres.wakeups, transport, pushes.counters), pushes, transport, provider)

    async def device(self) -> int:
        """A device with an urgent message stored."""
        account = await self.world.account()
        [outcome] = await self.world.store.commit([submission(account)])
        assert outcome.ids
        return mailboxes(account)[0]

    async def state(self, device: int) -> dict[str, object]:
        """The row's columns of pushes, times as seconds from now."""
        [row] = await query(
            self.dsn,
            """SELECT push_due_id AS due, push_sent AS sent, push_failed AS failed, push_sent_at IS NOT NULL AS told,
               CASE WHEN isfinite(push_next_at) THEN extract(epoch FROM push_next_at - clock_timestamp())::float8 END AS next
               FROM device WHERE id = $1""",
            device,
        )
        return dict(row)

    async def pass_time(self, seconds: float) -> None:
        """For pushes: everything that was, was so much earlier."""
        times = ("push_due_at", "push_next_at", "push_queue_at", "push_held_at", "push_sent_at", "push_minute")
        moved = ", ".join(f"{name} = {name} - make_interval(secs => $1)" for name in times)
        await query(self.dsn, f"UPDATE device SET {moved}", seconds)


@asynccontextmanager
async def ground(world: PostgresWorld, redis_url: str) -> AsyncIterator[Ground]:
    async with AsyncExitStack() as stack:
        yield Ground(world, redis_url, stack)


async def until(holds: Callable[[], bool]) -> None:
    """The test's timeout bounds it."""
    while not holds():
        await asyncio.sleep(0.005)
