"""Dedicated connections of the bus to Redis. Knows no channels.

They are redis-py's connections without its client around them: that one re-subscribes and repeats commands without a word, and whoever
listens must know of every break. Reads and writes wait as long as they must; whoever uses them watches the clock.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

AWAY = (RedisError, OSError, TimeoutError)
NOT_FOR_US = ("maint_notifications_pool_handler", "maint_notifications_config")  # a managed Redis moves its clients: ours reconnect


def dedicated(client: Redis) -> Any:
    """A connection to the client's server, not opened yet, outside its pool. Answers are bytes, in RESP2."""
    pool = client.connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in NOT_FOR_US}
    retry = Retry(NoBackoff(), 0)
    return pool.connection_class(**{**options, "retry": retry, "socket_timeout": None, "decode_responses": False, "protocol": 2})


def database(client: Redis) -> int:
    """The number of the client's database."""
    return int(client.connection_pool.connection_kwargs.get("db") or 0)


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended: on Python 3.11 a library's `wait_for` can swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
