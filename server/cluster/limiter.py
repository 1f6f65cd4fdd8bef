"""`core.messaging.ratelimit.Tally` on Redis: what all workers granted, a string per account that sent within its last minutes (RL-7).

Owns the names of its keys. An account's is a keyed hash of its number: who reads the Redis learns that somebody sent so many messages
lately, not who, and never to whom. Every entry expires when its bucket is full again.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from redis.asyncio import Redis

from veredus.core.messaging.ratelimit import Share

PREFIX = "{veredus:limits}:"  # one hash slot: the script reaches all of them
SECONDS = 1.0  # for one batch: the next turn comes a second after the last one began
REMEMBERED_MS = 600_000  # an answer lost longer ago than that is told anew; what it told has flowed back by then


class RedisTally:
    """The tally of one worker. Any number of workers with the same secret and the same rate share what it counts."""

    def __init__(self, client: Redis, rate: int, pepper: bytes) -> None:
        """`rate` in messages a minute; `pepper` is secret and the same for all workers."""
        self._rate = rate
        self._key = hashlib.blake2b(pepper, digest_size=32, person=b"veredus limits").digest()
        self._told = f"{PREFIX}told:{secrets.token_hex(8)}"
        self._script = client.register_script(Path(__file__).with_name("lua").joinpath("settle.lua").read_text(encoding="utf-8"))

    def name(self, account: int) -> str:
        """The key of an account."""
        return PREFIX + hashlib.blake2b(account.to_bytes(8, "big", signed=True), key=self._key, digest_size=12).hexdigest()

    async def settle(self, number: int, shares: Sequence[Share]) -> Sequence[int]:
        """See `core.messaging.ratelimit.Tally`. Raises what Redis or its absence raises, within a second."""
        names = [self._told, *(self.name(share.account) for share in shares)]
        # A token is 60,000 units and a minute 60,000 ms: tokens a minute are units a millisecond.
        numbers = [number, REMEMBERED_MS, self._rate, *(value for share in shares for value in (share.granted, share.missing))]
        async with asyncio.timeout(SECONDS):
            return [int(units) for units in await self._script(keys=names, args=numbers)]
