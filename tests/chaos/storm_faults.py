"""What may go wrong in a storm, and when: the catalogue and the schedule. Each fault ends with everything healed again.

The schedule follows from the seed alone. Whom a fault hits as well; what that one is doing just then does not.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import redis.asyncio

from tests.chaos.storm_clients import Clients
from tests.chaos.storm_ground import WORKERS, Node, Place, signalled

LEASE_SECONDS = 30.0  # server/cluster/timing.py: a worker that stands longer is dead to the others
HANDFUL = (
    "worker killed",
    "redis wiped",
    "redis listeners cut",
    "connections swallowed",
    "worker stopped",
    "redis away",
    "postgres killed",
)


@dataclass
class Scene:
    """What a fault may lay hands on. `chance` is its own; `seconds` is how long it is to last where it lasts."""

    place: Place
    clients: list[Clients]
    chance: random.Random
    seconds: float = 0.0

    @property
    def node(self) -> Node:
        return self.chance.choice(self.place.nodes)

    async def redis(self, *command: str) -> None:
        async with redis.asyncio.Redis.from_url(self.place.stores.redis_url) as client:
            await client.execute_command(*command)  # type: ignore[no-untyped-call]


class Kind(NamedTuple):
    """A fault's shortest and longest seconds, and what it does."""

    shortest: float
    longest: float
    strike: Callable[[Scene], Awaitable[None]]


async def worker_killed(scene: Scene) -> None:
    node = scene.node
    signalled(node.pids.get(scene.chance.randrange(WORKERS), 0) or _never(), signal.SIGKILL)
    await node.ready()


async def worker_stopped(scene: Scene) -> None:
    pid = scene.node.pids.get(scene.chance.randrange(WORKERS), 0) or _never()
    if signalled(pid, signal.SIGSTOP):
        await asyncio.sleep(scene.seconds)
        signalled(pid, signal.SIGCONT)  # the supervisor may have ended it meanwhile


async def supervisor_killed(scene: Scene) -> None:
    node = scene.node
    await node.kill()
    await asyncio.sleep(scene.seconds)
    await node.start()
    await node.ready()


async def rolled(scene: Scene) -> None:
    node = scene.node
    before = dict(node.pids)
    node.signal(signal.SIGHUP)
    while any(node.pids.get(index) == pid for index, pid in before.items()):
        await asyncio.sleep(0.05)


async def postgres_killed(scene: Scene) -> None:
    await _down(scene, scene.place.stores.postgres.kill, scene.place.stores.postgres.start)


async def postgres_stopped(scene: Scene) -> None:
    await _down(scene, scene.place.stores.postgres.stop, scene.place.stores.postgres.start)


async def redis_killed(scene: Scene) -> None:
    await _down(scene, scene.place.stores.redis.kill, scene.place.stores.redis.start)


async def redis_wiped(scene: Scene) -> None:
    await scene.redis("FLUSHALL")


async def redis_listeners_cut(scene: Scene) -> None:
    for _ in range(max(1, round(scene.seconds))):  # once a second
        await scene.redis("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.sleep(1.0)


async def redis_connections_cut(scene: Scene) -> None:
    await scene.redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def redis_paused(scene: Scene) -> None:
    await scene.redis("CLIENT", "PAUSE", str(round(scene.seconds * 1000)), "ALL")
    await asyncio.sleep(scene.seconds)


async def redis_full(scene: Scene) -> None:
    await scene.redis("CONFIG", "SET", "maxmemory", "1")
    await asyncio.sleep(scene.seconds)
    await scene.redis("CONFIG", "SET", "maxmemory", "0")


async def redis_read_only(scene: Scene) -> None:
    await scene.redis("REPLICAOF", "127.0.0.1", "1")  # nobody listens there
    await asyncio.sleep(scene.seconds)
    await scene.redis("REPLICAOF", "NO", "ONE")


async def redis_away(scene: Scene) -> None:
    await _cut(scene, "redis", silent=False)


async def redis_silent(scene: Scene) -> None:
    await _cut(scene, "redis", silent=True)


async def postgres_away(scene: Scene) -> None:
    await _cut(scene, "postgres", silent=False)


async def postgres_silent(scene: Scene) -> None:
    await _cut(scene, "postgres", silent=True)


async def bus_doubled(scene: Scene) -> None:
    """Every frame of the bus is published a second time, some of them late."""
    async with redis.asyncio.Redis.from_url(scene.place.stores.redis_url) as client, client.pubsub() as listener:
        await listener.psubscribe("*")
        ours: set[bytes] = set()
        deadline = asyncio.get_running_loop().time() + scene.seconds
        while asyncio.get_running_loop().time() < deadline:
            told = await listener.get_message(ignore_subscribe_messages=True, timeout=0.2)
            if told is None or told["data"] in ours:
                continue
            ours.add(told["data"])
            if scene.chance.random() < 0.1:
                await asyncio.sleep(0.05)
            await client.publish(told["channel"], told["data"])


async def bus_forged(scene: Scene) -> None:
    """What nobody can read, on every channel there is."""
    async with redis.asyncio.Redis.from_url(scene.place.stores.redis_url) as client:
        for channel in await client.pubsub_channels():
            for size in (0, 1, 40, 4000):
                await client.publish(channel, scene.chance.randbytes(size))


async def clients_stopped(scene: Scene) -> None:
    clients = scene.chance.choice(scene.clients)
    clients.signal(signal.SIGSTOP)
    await asyncio.sleep(scene.seconds)
    clients.signal(signal.SIGCONT)


async def connections_swallowed(scene: Scene) -> None:
    """A third of all clients have half-open connections, until they notice or the network tells them."""
    front = scene.place.front
    lines = scene.chance.sample(sorted(front.lines, key=id), len(front.lines) // 3)
    for line in lines:
        line.swallow()
    await asyncio.sleep(scene.seconds)
    for line in lines:
        line.abort()


KINDS = {
    "worker killed": Kind(0, 0, worker_killed),
    "worker stopped": Kind(1, 8, worker_stopped),
    "worker stopped for long": Kind(LEASE_SECONDS + 5, LEASE_SECONDS + 10, worker_stopped),
    "supervisor killed": Kind(0, 3, supervisor_killed),
    "rolled": Kind(0, 0, rolled),
    "postgres killed": Kind(0, 3, postgres_killed),
    "postgres stopped": Kind(0, 3, postgres_stopped),
    "redis killed": Kind(0, 3, redis_killed),
    "redis wiped": Kind(0, 0, redis_wiped),
    "redis listeners cut": Kind(1, 4, redis_listeners_cut),
    "redis connections cut": Kind(0, 0, redis_connections_cut),
    "redis paused": Kind(1, 10, redis_paused),
    "redis full": Kind(1, 5, redis_full),
    "redis read-only": Kind(1, 5, redis_read_only),
    "redis away": Kind(1, 8, redis_away),
    "redis silent": Kind(1, 8, redis_silent),
    "postgres away": Kind(1, 5, postgres_away),
    "postgres silent": Kind(1, 5, postgres_silent),
    "bus doubled": Kind(1, 4, bus_doubled),
    "bus forged": Kind(0, 0, bus_forged),
    "clients stopped": Kind(1, 12, clients_stopped),
    "connections swallowed": Kind(2, 10, connections_swallowed),
}


class Planned(NamedTuple):
    """A fault to come: seconds after the start, and for how many."""

    at: float
    name: str
    seconds: float
    seed: int


def schedule(seed: int, duration: float, names: tuple[str, ...] = (), calm: float = 6.0, together: float = 0.25) -> list[Planned]:
    """Faults over `duration` seconds: each kind in turn, in a random order, so that none is left out for long.

    Between the end of one and the next are about `calm` seconds, but with the chance `together` the next comes while it lasts. `names`
    are taken in their order instead, again and again, and no other.
    """
    chance = random.Random(f"faults {seed}")
    planned: list[Planned] = []
    coming: list[str] = []
    at = 3.0
    while at < duration:
        if not coming:
            coming = list(names) or [name for name, kind in KINDS.items() if kind.longest * 2 < duration]
            if not names:
                chance.shuffle(coming)
        name = coming.pop(0)
        kind = KINDS[name]
        seconds = round(chance.uniform(kind.shortest, min(kind.longest, duration / 8 if kind.shortest < duration / 8 else kind.longest)), 1)
        planned.append(Planned(round(at, 1), name, seconds, chance.getrandbits(32)))
        overlaps = chance.random() < together
        at += chance.uniform(0.2, 1.0) * max(seconds, 1.0) if overlaps else seconds + chance.uniform(0.6, 1.4) * calm
    return planned


async def _down(scene: Scene, down: Callable[[], None], start: Callable[[], None]) -> None:
    await asyncio.to_thread(down)
    await asyncio.sleep(scene.seconds)
    await asyncio.to_thread(start)


async def _cut(scene: Scene, store: str, *, silent: bool) -> None:
    way = scene.node.network[store]
    way.silence() if silent else way.refuse()
    await asyncio.sleep(scene.seconds)
    way.heal()


def _never() -> int:
    return 2**22 + 1  # above the largest pid there can be
