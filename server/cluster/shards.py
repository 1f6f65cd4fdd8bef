"""Several Redis servers that share the work, and which of them holds what (`ext/ring`). Owns the clients; knows no keys.

Every worker must name the same servers, in any order: they compute the same ring and so look where the others write. Workers that
disagree lose nothing but speed, as with everything that Redis holds. One server is a ring of one: everything is on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from veredus.ext.ring import Ring, key_of
from veredus.server.cluster.redis import connect
from veredus.server.secret import Secret


class Shards:
    """The servers by name, and the ring over them."""

    def __init__(self, clients: Iterable[Redis]) -> None:
        """One client for each server. ValueError for none, and for a server that stands twice."""
        named = [(name_of(client), client) for client in clients]
        self.ring = Ring(name for name, _ in named)
        self.clients: dict[str, Redis] = dict(sorted(named, key=lambda each: each[0]))  # in the order of the ring's members

    def of_worker(self, worker: str) -> str:
        """The name of the server that carries a worker's channel."""
        return self.ring.owner(key_of(worker))

    async def ping(self) -> None:
        """Raises when no server answers. One that is away takes speed from what it held, and is no reason to take workers away too."""
        answers = await asyncio.gather(*(_ping(client) for client in self.clients.values()), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if len(failures) == len(answers):
            raise failures[0]

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.aclose() for client in self.clients.values()))


def connect_all(urls: Sequence[Secret]) -> Shards:
    """Clients of these servers. Opens nothing yet."""
    return Shards(connect(url) for url in urls)


def name_of(client: Redis) -> str:
    """Where the server is, without credentials: what all workers call it."""
    options = client.connection_pool.connection_kwargs
    place = options.get("path") or f"{str(options.get('host', 'localhost')).lower()}:{options.get('port', 6379)}"
    return f"{place}/{options.get('db') or 0}"


async def _ping(client: Redis) -> None:
    command: Any = client.ping()  # redis-py types its commands as maybe-awaitable
    await command
