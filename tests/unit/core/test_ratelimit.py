"""The limit of messages: what is granted at once, what workers learn of each other, and what an absent tally changes (RL-1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.delivering import RecordingOrigin, World, at_work, inbound, running, send, until
from tests.unit.core.test_credentials import ManualClock
from veredus.core.errors import Code
from veredus.core.limits import Limits
from veredus.core.messaging.counters import Counters
from veredus.core.messaging.ratelimit import BATCH, UNITS, MessageLimit, Share
from veredus.core.model import EnvelopeType, Principal, Reply
from veredus.ext.bucket import Buckets

ME = 7


class Book:
    """A tally in memory, shared by limits."""

    def __init__(self, clock: ManualClock, rate: int = 60) -> None:
        self.clock = clock
        self.rate = rate
        self.missing: dict[int, tuple[int, float]] = {}
        self.away = False
        self.lose_answer = False
        self.batches: list[list[Share]] = []

    def of(self, account: int) -> int:
        units, at = self.missing.get(account, (0, 0.0))
        return max(units - int((self.clock.seconds - at) * 1000) * self.rate, 0)


class Desk:
    """One worker's place at the book."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.told = 0

    async def settle(self, number: int, shares: Sequence[Share]) -> Sequence[int]:
        book = self.book
        if book.away:
            raise OSError
        book.batches.append(list(shares))
        for share in shares:
            units = book.of(share.account) + (share.granted if number > self.told else 0)
            book.missing[share.account] = max(units, share.missing), book.clock.seconds
        self.told = max(self.told, number)
        if book.lose_answer:
            raise OSError
        return [book.of(share.account) for share in shares]


def workers(number: int, rate: int = 60, burst: int = 10) -> tuple[ManualClock, Book, list[MessageLimit]]:
    clock = ManualClock()
    book = Book(clock, rate)
    limits = Limits(messages_per_minute=rate, messages_burst=burst)
    return clock, book, [MessageLimit(limits, clock, Counters(), Desk(book)) for _ in range(number)]


def drawn(limit: MessageLimit, account: int = ME) -> int:
    """How many are granted until one is not."""
    count = 0
    while not limit.take(account):
        count += 1
    return count


@pytest.mark.requirement("RL-1")
def test_an_account_has_a_hundred_messages_a_minute_unless_told_otherwise() -> None:
    clock = ManualClock()
    limit = MessageLimit(Limits(), clock, Counters(), Desk(Book(clock)))
    assert drawn(limit) == 100
    assert limit.take(ME) == limit.wait(ME) == 600
    clock.seconds += 30
    assert drawn(limit) == 50
    assert drawn(limit, ME + 1) == 100, "each account has its own"


@pytest.mark.requirement("RL-1")
async def test_workers_learn_of_each_other_and_what_was_too_much_is_paid_back() -> None:
    clock, _, [one, two] = workers(2)
    assert (drawn(one), drawn(two)) == (10, 10), "within a second nobody knows"
    for limit in (one, two):
        await limit.settle()
    assert two.wait(ME) == 11_000, "ten too many and the next"
    clock.seconds += 10
    assert drawn(two) == 0
    assert drawn(one) == 10, "its view is of before the other told"
    await one.settle()
    assert one.wait(ME) == 11_000
    clock.seconds += 11
    assert (drawn(one), drawn(two)) == (1, 10), (
        "twenty-one seconds gave twenty-one to both, beside the ten of the start and the ten too many"
    )


STEPS = st.lists(st.tuples(st.sampled_from(["send", "send", "settle", "lost", "second"]), st.integers(0, 2)), max_size=150)


@given(steps=STEPS, away=st.booleans())
def test_over_any_time_all_workers_grant_no_more_than_a_burst_each_and_the_rate(steps: list[tuple[str, int]], away: bool) -> None:
    """One second's excess: every worker but one may grant a burst it does not know to be gone; never is it granted twice."""
    rate, burst, granted = 60, 5, 0
    clock, book, limits = workers(3, rate, burst)
    flowing = Buckets(rate, burst * len(limits), 10)  # the promise, as one bucket
    book.away = away

    async def play() -> None:
        nonlocal granted
        for step, who in steps:
            if step == "second":
                clock.seconds += 1
                for limit in limits:
                    await limit.settle()
            elif step == "send":
                if not limits[who].take(ME):
                    granted += 1
                    if not away:
                        assert flowing.take(ME, int(clock.seconds * 1000)) == 0
            else:
                book.lose_answer = step == "lost"
                await limits[who].settle()
                book.lose_answer = False

    asyncio.run(play())
    assert granted <= len(limits) * (burst + clock.seconds * rate / 60)


async def test_what_was_told_and_whose_answer_was_lost_is_counted_once() -> None:
    _, book, [one] = workers(1)
    assert [one.take(ME) for _ in range(3)] == [0] * 3
    book.lose_answer = True
    await one.settle()
    book.lose_answer = False
    assert one.take(ME) == 0
    await one.settle()
    assert book.of(ME) == 4 * UNITS
    assert drawn(one) == 6
    assert one._counters.limit_failures == 1


async def test_while_the_tally_is_away_each_judges_alone_and_tells_later_what_has_not_flowed_back() -> None:
    clock, book, [one, two] = workers(2)
    book.away = True
    total = 0
    for _ in range(60):
        total += drawn(one)
        await one.settle()
        clock.seconds += 1
    assert total == 10 + 59
    book.away = False
    await one.settle()
    assert book.of(ME) == 9 * UNITS, "not the sixty-nine of the whole minute"
    assert two.take(ME) == 0
    await two.settle()
    assert two.wait(ME) == 1000


async def test_a_tally_that_forgot_everything_learns_it_from_the_workers() -> None:
    clock, book, [one, two] = workers(2)
    assert drawn(one) == 10
    await one.settle()
    book.missing.clear()
    clock.seconds += 1
    assert one.take(ME) == 0
    await one.settle()
    assert two.take(ME) == 0
    await two.settle()
    assert two.wait(ME) == 2000


async def test_much_is_told_in_batches_and_memory_is_given_back_while_the_tally_is_away() -> None:
    clock, book, [one] = workers(1)
    for account in range(2 * BATCH + 1):
        assert one.take(account) == 0
    await one.settle()
    assert [len(batch) for batch in book.batches] == [BATCH, BATCH, 1]
    assert one.untold == 0
    book.away = True
    for account in range(2 * BATCH + 1):
        assert one.take(account) == 0
    await one.settle()
    assert one.untold == 2 * BATCH + 1
    clock.seconds += 2
    await one.settle()
    assert one.untold == BATCH, "what is told and not answered; all else has flowed back"


async def test_it_is_settled_every_second_until_it_is_ended() -> None:
    _, book, [one] = workers(1)
    task = asyncio.ensure_future(one.run())
    assert one.take(ME) == 0
    await until(lambda: bool(book.batches))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ------------------------------------------------------------------------------------------------------------------ on the message path


class Site:
    """A running worker with a limit of three messages, then one a second."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.counters = Counters()
        limits = Limits(messages_per_minute=60, messages_burst=3)
        self.world = World(limits, self.clock, MessageLimit(limits, self.clock, self.counters, Desk(Book(self.clock))))
        [self.alice, self.phone], [self.bob] = self.world.account(devices=2), self.world.account()

    async def codes(self, sender: Principal, number: int, **more: Any) -> list[Reply]:
        """What as many sends of a new origin are answered."""
        origin = RecordingOrigin()
        self.world.delivery.accept(origin, sender, [send(sender, self.bob, **more) for _ in range(number)])
        await until(lambda: len(origin.replies) == number)
        return sorted(origin.replies, key=lambda reply: reply.code)


@pytest.mark.requirement("RL-1", "RL-9")
@pytest.mark.parametrize("type", [EnvelopeType.CIPHERTEXT, EnvelopeType.SEALED])
async def test_what_is_over_the_limit_is_refused_with_the_time_to_wait(type: EnvelopeType) -> None:
    site = Site()
    async with at_work(site.world.delivery):
        replies = await site.codes(site.alice, 5, type=type)
        assert [reply.code for reply in replies] == [Code.OK] * 3 + [Code.RATE_LIMITED] * 2
        assert [reply.retry_after_ms for reply in replies[3:]] == [1000, 1000]
        [other] = await site.codes(site.phone, 1)
        assert other.code is Code.RATE_LIMITED, "an account's devices share its limit"
        assert site.counters.rate_limited == 2
        assert len(site.world.store.mailbox) == 3


async def test_a_connection_over_the_limit_is_refused_until_it_says_resume_and_is_told_what_is_left_to_wait() -> None:
    """P4: what comes after a refused send must not overtake it."""
    site = Site()
    async with at_work(site.world.delivery):
        session, wire = await site.world.online(site.alice)
        session.on_inbound(inbound(*[send(site.alice, site.bob) for _ in range(4)]))
        await until(lambda: len(wire.replies) == 4)
        site.clock.seconds += 0.25
        session.on_inbound(inbound(send(site.alice, site.bob)))
        assert (wire.replies[4].code, wire.replies[4].retry_after_ms) == (Code.RATE_LIMITED, 750)
        site.clock.seconds += 0.75
        session.on_inbound(inbound(send(site.alice, site.bob)))
        assert (wire.replies[5].code, wire.replies[5].retry_after_ms) == (Code.RATE_LIMITED, 1)
        session.on_inbound(inbound(send(site.alice, site.bob), resume=True))
        await until(lambda: len(wire.replies) == 7)
        assert wire.replies[6].code is Code.OK


async def test_a_repeat_costs_nothing_and_one_that_was_refused_counts_when_it_comes_again() -> None:
    site = Site()
    async with at_work(site.world.delivery):
        for _ in range(5):
            assert [reply.code for reply in await site.codes(site.alice, 1, client_id=b"a" * 16)] == [Code.OK]
        replies = await site.codes(site.alice, 3)
        assert [reply.code for reply in replies] == [Code.OK, Code.OK, Code.RATE_LIMITED]
        site.clock.seconds += 1
        assert [reply.code for reply in await site.codes(site.alice, 1, client_id=replies[2].client_id)] == [Code.OK]


async def test_what_the_server_could_not_store_is_given_back() -> None:
    site = Site()
    async with at_work(site.world.delivery):
        site.world.store.available = False
        for _ in range(4):
            assert {reply.code for reply in await site.codes(site.alice, 3)} == {Code.UNAVAILABLE}
        site.world.store.available = True
        assert [reply.code for reply in await site.codes(site.alice, 3)] == [Code.OK] * 3


async def test_without_a_limit_nothing_is_counted() -> None:
    async with running(Limits(messages_per_minute=0)) as world:
        [alice], [bob] = world.account(), world.account()
        origin = RecordingOrigin()
        world.delivery.accept(origin, alice, [send(alice, bob) for _ in range(300)])
        await until(lambda: len(origin.replies) == 300)
        assert {reply.code for reply in origin.replies} == {Code.OK}
