"""What the bus loses, and that whoever may have missed something is told. Strangers write what no worker would."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.bus_workers import CLOCK, INTERRUPTED, PATIENT, STILL, Make, Stranger, row, stranger_on, workers
from veredus.core.model import Item, ItemKind

HUGE = 2**64 - 1


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Make]:
    async with workers(redis_url) as make:
        yield make


@pytest.fixture
async def stranger(redis_url: str) -> AsyncIterator[Stranger]:
    async with stranger_on(redis_url) as stranger:
        yield stranger


async def test_a_missing_number_is_told_before_what_follows_it(worker: Make, stranger: Stranger) -> None:
    bus, told = await worker("one", STILL)
    await stranger.frame("one", 1, row(1))
    await stranger.frame("one", 3, row(3))
    await stranger.frame("one", 4, row(4))
    await told.until(lambda: told.ids == [1, 3, 4])
    assert told.log.index(INTERRUPTED) == 1
    assert told.interruptions == bus.counters.gaps == 1


async def test_a_loss_that_nothing_follows_is_seen_in_the_heartbeat(worker: Make, stranger: Stranger) -> None:
    bus, told = await worker("one", STILL)
    await stranger.frame("one", 1, row(1))
    await stranger.heartbeat({"one": 1, "two": 9})
    await stranger.heartbeat({"one": 2, "two": 9})
    await told.until(lambda: told.interruptions == 1)
    await stranger.heartbeat({"one": 2})
    await stranger.frame("one", 3, row(3))
    await told.until(lambda: told.ids == [1, 3])
    assert told.interruptions == bus.counters.gaps == 1


async def test_the_first_word_of_a_worker_shows_what_was_sent_before_it_was_heard(worker: Make, stranger: Stranger) -> None:
    _, told = await worker("one", STILL)
    await stranger.heartbeat({"one": 5})
    await told.until(lambda: told.interruptions == 1)


async def test_doubled_and_late_frames_are_dropped(worker: Make, stranger: Stranger) -> None:
    bus, told = await worker("one", STILL)
    for number in (1, 2, 2, 1, 3):
        await stranger.frame("one", number, row(number))
    await told.until(lambda: told.ids[-1:] == [3])
    assert told.ids == [1, 2, 3]
    assert bus.counters.repeated_frames == 2
    assert told.interruptions == 0


FORGED = {
    "nothing": b"",
    "noise": os.urandom(300),
    "text": b"hello",
    "another type": msgspec.msgpack.encode({"source": "ghost"}),
    "an empty list": b"\x90",
    "too short": msgspec.msgpack.encode(["ghost", "1"]),
    "cut off": msgspec.msgpack.encode(["ghost", "1", 1, [row(1)]])[:-3],
    "more behind": msgspec.msgpack.encode(["ghost", "1", 1, [row(1)]]) + b"x",
    "no source": msgspec.msgpack.encode(["", "1", 1, []]),
    "an endless name": msgspec.msgpack.encode(["g" * 100_000, "1", 1, []]),
    "a number of no frame": msgspec.msgpack.encode(["ghost", "1", 0, []]),
    "a negative number": msgspec.msgpack.encode(["ghost", "1", -1, []]),
    "a huge number": msgspec.msgpack.encode(["ghost", "1", HUGE, []]),
    "a fraction": msgspec.msgpack.encode(["ghost", "1", 1.5, []]),
    "an unknown kind": msgspec.msgpack.encode(["ghost", "1", 1, [[9, 7]]]),
    "a huge device": msgspec.msgpack.encode(["ghost", "1", 1, [[0, HUGE]]]),
    "a huge row": msgspec.msgpack.encode(["ghost", "1", 1, [[0, 7, HUGE]]]),
    "a long guid": msgspec.msgpack.encode(["ghost", "1", 1, [[0, 7, 1, b"g" * 17]]]),
    "an envelope of text": msgspec.msgpack.encode(["ghost", "1", 1, [[0, 7, 1, b"", 0, "x"]]]),
    "text that is none": b"\x94\xa2\xff\xfe\xa11\x01\x90",
    "a deep nest behind": b"\x95\xa5ghost\xa11\x01\x90" + b"\x91" * 100_000,
    "a deep nest": b"\x91" * 10_000,
    "a promise of four billion items": b"\x94\xa5ghost\xa11\x01\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("payload", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("where", ["frame", "heartbeat"])
async def test_what_is_no_frame_is_counted_and_interrupts_and_nothing_else(
    worker: Make, stranger: Stranger, where: str, payload: bytes
) -> None:
    bus, told = await worker("one", STILL)
    await stranger.frame("one", 1, row(1))
    await stranger.client.publish(stranger.channels.of("one") if where == "frame" else stranger.channels.heartbeats, payload)
    await stranger.frame("one", 2, row(2))
    await told.until(lambda: told.ids == [1, 2])
    assert bus.counters.malformed == told.interruptions == 1
    assert bus.counters.faults == 0


async def test_a_number_that_was_made_up_does_not_silence_its_source_beyond_its_next_heartbeat(worker: Make, stranger: Stranger) -> None:
    bus, told = await worker("one", STILL)
    await stranger.frame("one", 1, row(1))
    await stranger.frame("one", 2**62)
    await stranger.frame("one", 2, row(2))
    await stranger.heartbeat({"one": 2})
    await stranger.frame("one", 3, row(3))
    await told.until(lambda: told.ids == [1, 3])
    assert bus.counters.contradictions == bus.counters.repeated_frames == 1
    assert told.log.index(INTERRUPTED, 3) == len(told.log) - 2  # told again when the truth was known


async def test_a_worker_that_begins_anew_without_goodbye_may_have_died_with_something(worker: Make, stranger: Stranger) -> None:
    bus, told = await worker("one", STILL)
    await stranger.heartbeat({})
    await stranger.heartbeat({}, incarnation="2")
    await told.until(lambda: told.interruptions == 1)
    await stranger.frame("one", 1, row(1), incarnation="2")
    await told.until(lambda: told.ids == [1])
    assert told.interruptions == bus.counters.restarts == 1


async def test_a_goodbye_that_names_a_missing_number_interrupts(worker: Make, stranger: Stranger) -> None:
    _, told = await worker("one", STILL)
    await stranger.heartbeat({})
    await stranger.heartbeat({"one": 1}, leaving=True)
    await told.until(lambda: told.interruptions == 1)


@pytest.mark.requirement("WS-10")
async def test_a_worker_that_falls_silent_interrupts_once_and_is_forgotten(worker: Make, stranger: Stranger) -> None:
    timing = msgspec.structs.replace(PATIENT, silence=0.5)
    bus, told = await worker("one", timing)
    await stranger.heartbeat({"one": 0})
    await told.until(lambda: told.interruptions == 1)
    assert bus.counters.silences == 1
    await stranger.frame("one", 1, row(1), incarnation="2")
    await told.until(lambda: told.ids == [1])
    assert bus.counters.restarts == 0
    assert told.interruptions == 1


class Jumping:
    """A clock that can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now_ms(self) -> int:
        return CLOCK.now_ms()

    def monotonic(self) -> float:
        return CLOCK.monotonic() + self.ahead


async def test_standing_still_oneself_interrupts_and_takes_nobody_for_dead(worker: Make, stranger: Stranger) -> None:
    clock = Jumping()
    bus, told = await worker("one", msgspec.structs.replace(STILL, silence=3.0, heartbeat=0.05), clock=clock)
    await stranger.frame("one", 1, row(1))
    await told.until(lambda: told.ids == [1])
    clock.ahead = 60.0
    await told.until(lambda: told.interruptions == 1)
    async with stranger.listening(stranger.channels.heartbeats) as following:
        for _ in range(3):  # it has looked at the clock in between
            await following()
    await stranger.frame("one", 2, row(2))
    await told.until(lambda: told.ids == [1, 2])
    assert bus.counters.stalls == 1
    assert bus.counters.silences == bus.counters.blind_looks == 0


async def test_interruptions_close_together_are_told_together_and_no_row_overtakes_them(worker: Make, stranger: Stranger) -> None:
    bus, told = await worker("one", msgspec.structs.replace(STILL, calm=0.2))
    for number in (2, 4, 6, 8):
        await stranger.frame("one", number, row(number), Item(ItemKind.EPHEMERAL, 9))
    await told.until(lambda: told.interruptions == 2)
    assert bus.counters.gaps == 4
    assert [items if isinstance(items, str) else items[0].kind.name for items in told.log] == [
        INTERRUPTED, "ROW", "DOORBELL", "DOORBELL", "DOORBELL", INTERRUPTED,
    ]  # fmt: skip
    assert told.ids == [2, 0, 4, 0, 6, 0, 8, 0]
