"""The bookkeeping of claims against a model: whatever fails and crosses, what Redis was told ends as what is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veredus.core.model import Location
from veredus.server.cluster.claims import Claims


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


STEPS = st.lists(st.tuples(st.sampled_from(["want", "drop", "write", "lose the answer", "wipe"]), st.integers(1, 3)), max_size=40)


class Model:
    """Redis and this worker, as simple as can be."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.claims = Claims(kept_releases=100)
        self.wanted: set[int] = set()
        self.redis: dict[int, int] = {}
        self._loop = loop
        self._tokens = itertools.count(1)

    def step(self, step: str, number: int) -> None:
        match step:
            case "want":
                self.claims.want(number, self._loop.create_future())
                self.wanted.add(number)
            case "drop":
                self.claims.drop(number)
                self.wanted.discard(number)
            case "write":
                self.write(number, answered=True)
            case "lose the answer":
                self.write(number, answered=False)
            case "wipe":
                self.redis.clear()
                self.claims.repeat_all()

    def write(self, batch: int, answered: bool) -> None:
        work = self.claims.next(batch)
        for device, claim in work.claims:
            self.redis[device] = claim.token or next(self._tokens)
        for device, token in work.releases:
            if token == "" or self.redis.get(device) == int(token):
                self.redis.pop(device, None)
        if answered:
            self.claims.made(work.claims, [(str(self.redis[device]), None) for device, _ in work.claims])
            self.claims.released(work.releases)


@given(STEPS)
def test_after_any_history_redis_is_told_exactly_what_is_wanted(steps: list[tuple[str, int]]) -> None:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        model = Model(loop)
        for step in steps:
            model.step(*step)
        while not model.claims.settled:
            model.write(2, answered=True)
    assert set(model.redis) == model.wanted


def test_a_newer_connection_of_the_device_ends_the_wait_of_the_older(loop: asyncio.AbstractEventLoop) -> None:
    claims = Claims(10)
    older, newer = loop.create_future(), loop.create_future()
    claims.want(1, older)
    claims.want(1, newer)
    assert older.result() is None
    assert not newer.done()


def test_an_answer_to_a_claim_that_was_overtaken_settles_nothing(loop: asyncio.AbstractEventLoop) -> None:
    claims = Claims(10)
    claims.want(1, loop.create_future())
    first = claims.next(10).claims
    claims.want(1, loop.create_future())
    claims.made(first, [("5", None)])
    assert not claims.settled
    assert claims.next(10).claims[0][1].token == 0, "the newer connection gets a token of its own"


def test_whom_a_claim_displaced_goes_to_who_waits_else_into_what_was_made(loop: asyncio.AbstractEventLoop) -> None:
    claims, other = Claims(10), Location("two", "x", 3)
    waiting = loop.create_future()
    claims.want(1, waiting)
    assert claims.made(claims.next(10).claims, [("5", other)]).claimed == {}
    assert waiting.result() == other
    claims.repeat_all()
    assert claims.made(claims.next(10).claims, [("5", other)]).claimed == {1: other}


def test_a_superseded_claim_is_given_up(loop: asyncio.AbstractEventLoop) -> None:
    claims = Claims(10)
    claims.want(1, loop.create_future())
    claims.made(claims.next(10).claims, [("5", None)])
    claims.repeat_all()
    assert claims.made(claims.next(10).claims, [("", Location("two", "x", 9))]).superseded == [1]
    assert claims.settled
    assert 1 not in claims


def test_releases_beyond_the_bound_are_counted_not_kept(loop: asyncio.AbstractEventLoop) -> None:
    claims = Claims(kept_releases=2)
    for device in range(1, 6):
        claims.want(device, loop.create_future())
    for device in range(1, 6):
        claims.drop(device)
    assert len(claims.next(100).releases) == 2
    assert claims.dropped_releases == 3
