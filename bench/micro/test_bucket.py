"""The cost of one judgement by a token bucket. Not part of the test suite: `pytest bench/micro/test_bucket.py`.

Never judges a time: a number without its machine says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from veredus.core.clock import SystemClock
from veredus.core.limits import Limits
from veredus.core.messaging.counters import Counters
from veredus.core.messaging.ratelimit import MessageLimit, Share
from veredus.ext.bucket import Buckets

MANY = 100_000


class Alone:
    """Nobody else granted anything."""

    async def settle(self, number: int, shares: Sequence[Share]) -> Sequence[int]:
        return [share.missing for share in shares]


@pytest.mark.parametrize("accounts", [1, MANY])
def test_take(benchmark: BenchmarkFixture, accounts: int) -> None:
    buckets = Buckets(10**9, 10**9, 2 * MANY)
    take, keys = buckets.take, cycle(range(accounts))
    assert benchmark(lambda: take(next(keys), 5)) == 0


@pytest.mark.parametrize("accounts", [1, MANY])
def test_a_message_at_the_door(benchmark: BenchmarkFixture, accounts: int) -> None:
    """With the clock and the note of what is to be settled."""
    limit = MessageLimit(Limits(messages_per_minute=10**9, limit_entries=2 * MANY), SystemClock(), Counters(), Alone())
    take, keys = limit.take, cycle(range(accounts))
    assert benchmark(lambda: take(next(keys))) == 0
