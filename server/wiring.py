"""The one place where a worker's objects are built, started in order and stopped in the reverse order.

Nothing here decides anything about messages: it only says what is connected to what.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from veredus.core.clock import SystemClock
from veredus.core.identity.authentication import Authenticator
from veredus.core.identity.credentials import DeviceCredentials, DeviceSecrets
from veredus.core.messaging.context import Context
from veredus.core.messaging.counters import Counters
from veredus.core.messaging.delivery import Delivery
from veredus.core.messaging.push import Pushes
from veredus.core.messaging.push_queue import PushQueue
from veredus.core.messaging.ratelimit import MessageLimit, Unlimited
from veredus.core.messaging.relay import Relay
from veredus.core.messaging.routing import Routing
from veredus.server.cluster.bus import RedisBus
from veredus.server.cluster.limiter import RedisTally
from veredus.server.cluster.push_jobs import RedisPushJobs
from veredus.server.cluster.sharded_presence import ShardedPresence
from veredus.server.cluster.shards import Shards, connect_all
from veredus.server.config import Config
from veredus.server.http.app import create_app
from veredus.server.http.health import Checks
from veredus.server.http.metrics import HttpMetrics
from veredus.server.http.services import HttpServices
from veredus.server.metrics import WorkerMetrics
from veredus.server.periodic import every
from veredus.server.providers.log import LogProvider
from veredus.server.store.partitions import PartitionJob
from veredus.server.store.postgres import Postgres, StoreConfig
from veredus.server.store.window_job import WindowJob
from veredus.server.timeline import RecentTimeline
from veredus.server.ws.gate import AuthenticatingGate
from veredus.server.ws.port import Port, PortConfig

WINDOW_JOB_SECONDS = 60.0  # windows are a day: a minute late is nothing
PARTITION_JOB_SECONDS = 3600.0  # partitions are a week

log = structlog.get_logger("veredus.worker")


class Worker:
    """Everything one worker is made of. `start`, then `stop` once."""

    def __init__(self, config: Config) -> None:
        clock = SystemClock()
        self.config = config
        self.timeline = RecentTimeline() if config.development else None
        counters = Counters()
        self.limit_redis = connect_all([config.ratelimit_redis_url] if config.ratelimit_redis_url else config.redis_servers)
        self.limit = _message_limit(config, self.limit_redis, clock, counters)
        self.context = Context(config.limits, clock, counters, self.timeline, self.limit or Unlimited())
        self.secrets = DeviceSecrets(config.pepper())
        self.store = Postgres(StoreConfig(dsn=config.database_url.reveal(), commits=config.limits.lanes + 1, limits=config.limits))
        routing = Routing(self.context)
        self.redis = connect_all(config.redis_servers)
        self.presence = ShardedPresence(self.redis, f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}", routing, clock)
        self.bus = RedisBus(self.redis, self.presence.worker, self.presence.incarnation, clock)
        self.relay = Relay(self.presence.worker, self.bus, self.presence, self._push(), routing, self.context)
        self.bus.listen(self.relay)
        self.credentials = DeviceCredentials(self.store.directory, self.secrets, config.limits, clock)
        self.health = Checks({"postgres": self.store.messages.epoch, "redis": self.redis.ping}, clock)
        self._registry = CollectorRegistry()
        self._tasks: list[asyncio.Task[None]] = []
        # What to end, in the order it was started: a start that fails halfway ends what it began, and tells why it failed.
        self._started: list[tuple[str, Callable[[], Awaitable[None]]]] = [("store", self.store.close), ("redis", self.redis.aclose)]
        self._started.append(("push jobs", self.push_jobs.close))
        self._started.append(("redis of the limit", self.limit_redis.aclose))
        self.delivery: Delivery
        self.port: Port

    def _push(self) -> PushQueue:
        """Pushes for devices that are nowhere. All workers take jobs from the same server, the first by name."""
        redis = next(iter(self.redis.clients.values()))
        self.push_jobs = RedisPushJobs(redis, f"{self.presence.worker}:{self.presence.incarnation}")
        self.pushes = Pushes(self.store.pushes, self.push_jobs, self.presence, LogProvider())
        self.push_queue = PushQueue(self.store.wakeups, self.push_jobs, self.pushes.counters)
        return self.push_queue

    async def start(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Come up: store first, the port last. Raises what makes a start impossible."""
        config, context = self.config, self.context
        epoch = await self.store.messages.epoch()
        self.delivery = Delivery(self.store.messages, self.store.directory, self.presence, self.relay, epoch.bytes, context)
        self._started += [("jobs", self._end_jobs), ("bus", self.bus.close), ("presence", self.presence.close)]
        await self.bus.start()
        await self.presence.start()
        for work in (self.delivery, self.pushes, self.push_queue):
            self._spawn(work.run())
        if self.limit is not None:
            self._spawn(self.limit.run())
            self._started.append(("limit", self.limit.settle))  # what the last second granted
        dsn = config.database_url.reveal()
        self._spawn(every(WINDOW_JOB_SECONDS, "key windows", WindowJob(dsn, config.limits.key_window_hours).run))
        self._spawn(every(PARTITION_JOB_SECONDS, "mailbox partitions", PartitionJob(dsn, config.limits.retention_days).run))
        self.port = self._port()
        self._started += [("connections", self.port.stop), ("taken sends", self.delivery.close), ("listening", self._accept_no_more)]
        await self.port.start(sockets)
        assert self.port.station is not None
        parts = {"presence": self.presence.counters, "bus": self.bus.counters, "push": self.pushes.counters}
        self._registry.register(WorkerMetrics(context.counters, self.delivery, self.port.station, parts))
        self.health.started()

    def _port(self) -> Port:
        config = self.config
        authenticator = Authenticator(self.credentials)
        services = HttpServices(
            authenticator=authenticator,
            sends=self.delivery,
            mailboxes=self.store.messages,
            health=self.health,
            metrics=HttpMetrics(self._registry, exposed=config.development),
            limits=config.limits,
        )
        settings = PortConfig(
            host=config.listen.address,
            port=config.listen.port,
            certificate=config.tls.certificate if config.tls else None,
            key=config.tls.key if config.tls else None,
            origins=config.origins,
            echo=config.development,
        )
        gate = AuthenticatingGate(authenticator, self.delivery.open)
        return Port(settings, config.limits, create_app(services), gate, self.context.clock)

    @property
    def url(self) -> str:
        """Where it serves HTTP."""
        host, port = self.port.addresses[0]
        return f"{'https' if self.config.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def live(self, stopping: asyncio.Event) -> None:
        """Wait for the end. Raises what ended a part before."""
        asked = asyncio.create_task(stopping.wait())
        ended, _ = await asyncio.wait({asked, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for task in ended - {asked}:
            task.result()
            raise RuntimeError("a part of the worker ended by itself")

    async def stop(self) -> None:
        """Go in order: accept no more, finish what was taken, close sockets with notice, then stores (CON-43)."""
        self.health.leaving()
        for part, end in reversed(self._started):
            await self._within(part, end())

    async def _accept_no_more(self) -> None:
        self.port.refuse()

    async def _end_jobs(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _within(self, part: str, step: Awaitable[None]) -> None:
        """Each step has its share of the time; one that takes longer is left behind, since the rest must still go in order."""
        try:
            async with asyncio.timeout(self.config.shutdown_seconds / 4):
                await step
        except TimeoutError:
            log.warning("shutdown step took too long", part=part)
        except Exception as error:
            log.error("shutdown step failed", part=part, fault=type(error).__name__)


def _message_limit(config: Config, servers: Shards, clock: SystemClock, counters: Counters) -> MessageLimit | None:
    """The limit of messages, agreed on the first server by name; None when it is off."""
    rate = config.limits.messages_per_minute
    tally = RedisTally(next(iter(servers.clients.values())), rate, config.pepper())
    return MessageLimit(config.limits, clock, counters, tally) if rate else None


async def serve(
    config: Config,
    *,
    ready: Callable[[Worker], None] | None = None,
    stopping: asyncio.Event | None = None,
    sockets: Sequence[socket.socket] | None = None,
) -> None:
    """Run one worker until `stopping` is set (or for ever). `ready` is called once it serves.

    Raises what ended a part that should not end: half a worker would take messages and do nothing with them, so it stops whole (P7).
    """
    worker = Worker(config)
    try:
        await worker.start(sockets)
        if ready is not None:
            ready(worker)
        await worker.live(stopping or asyncio.Event())
    finally:
        await worker.stop()
