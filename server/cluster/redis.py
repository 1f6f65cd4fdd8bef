"""Connections to Redis: bounded in number and in time, without silent retries. Knows no keys.

Redis holds hints. A caller learns at once that it is away, and decides; a library that waits and repeats would hold up the message path.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from veredus.server.secret import Secret

CONNECTIONS = 16  # a worker has a handful of commands under way at once; more only means that Redis is slow


def connect(url: Secret, *, seconds: float = 1.0, connections: int = CONNECTIONS) -> Redis:
    """A client that gives every connect, every command and every wait for a free connection `seconds`. Opens nothing yet."""
    retry = Retry(NoBackoff(), 0)
    options: dict[str, Any] = {
        "max_connections": connections,
        "timeout": seconds,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": retry,
        "decode_responses": True,
    }
    return Redis.from_pool(BlockingConnectionPool.from_url(url.reveal(), **options))  # closes the pool when it is closed
