"""The bus on a real Redis while nothing fails: what arrives, in which order, and what it costs Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.bus_workers import PATIENT, STILL, Make, Stranger, row, stranger_on, until, workers
from veredus.core.model import Item, ItemKind


@pytest.fixture
async def worker(redis_url: str) -> AsyncIterator[Make]:
    async with workers(redis_url) as make:
        yield make


@pytest.fixture
async def stranger(redis_url: str) -> AsyncIterator[Stranger]:
    async with stranger_on(redis_url) as stranger:
        yield stranger


@pytest.mark.requirement("MSG-21", "WS-10")
async def test_an_item_arrives_at_its_worker_as_it_was_and_nowhere_else(worker: Make) -> None:
    (one, _), (_, two), (_, three) = await worker("one"), await worker("two"), await worker("three")
    sent = [row(5, b"envelope"), Item(ItemKind.DOORBELL, 8, 6, hops=1), Item(ItemKind.EPHEMERAL, 9, envelope=b"typing")]
    assert await one.publish({"two": sent}) == set()
    await two.until(lambda: len(two.ids) == 3)
    assert [msgspec.structs.astuple(item) for item in two.items] == [msgspec.structs.astuple(item) for item in sent]
    assert three.log == []


async def test_frames_of_a_source_arrive_in_the_order_of_its_calls(worker: Make) -> None:
    (one, _), (_, two), (_, three) = await worker("one"), await worker("two"), await worker("three")
    calls = [one.publish({"two": [row(2 * n), row(2 * n + 1)], "three": [row(n)]}) for n in range(300)]
    assert set().union(*await asyncio.gather(*calls)) == set()
    await two.until(lambda: len(two.ids) == 600)
    await three.until(lambda: len(three.ids) == 300)
    assert two.ids == list(range(600))
    assert three.ids == list(range(300))
    assert two.interruptions == three.interruptions == 0


async def test_what_anybody_publishes_after_a_publish_returned_arrives_after_it(worker: Make) -> None:
    (one, _), (two, _), (_, three) = await worker("one"), await worker("two"), await worker("three")
    for n in range(0, 100, 2):
        await one.publish({"three": [row(n)]})
        await two.publish({"three": [row(n + 1)]})
    await three.until(lambda: len(three.ids) == 100)
    assert three.ids == list(range(100))


async def test_many_items_are_split_into_frames_of_bounded_size(worker: Make, stranger: Stranger) -> None:
    (one, _), (_, two) = await worker("one"), await worker("two", STILL)
    async with stranger.listening(stranger.channels.of("two")) as following:
        await one.publish({"two": [row(n, b"x" * 8000) for n in range(300)]})  # 2.4 MB
        frames = [await following() for _ in range(3)]
    assert [frame[2] for frame in frames] == [1, 2, 3]
    assert all(len(msgspec.msgpack.encode(frame)) <= 1 << 20 for frame in frames)
    await two.until(lambda: len(two.ids) == 300)
    assert two.ids == list(range(300))
    assert len(two.log) == 3


async def test_a_large_envelope_becomes_a_doorbell_and_the_others_stay_whole(worker: Make) -> None:
    (one, _), (_, two) = await worker("one"), await worker("two")
    await one.publish({"two": [row(1, b"x" * 8192), row(2, b"x" * 8193), row(3)]})
    await two.until(lambda: len(two.ids) == 3)
    assert [(item.kind, item.id) for item in two.items] == [
        (ItemKind.ROW, 1),
        (ItemKind.DOORBELL, 2),
        (ItemKind.ROW, 3),
    ]
    assert one.counters.large_items == 1


async def test_a_worker_nobody_listens_as_is_named(worker: Make) -> None:
    (one, _), (_, two) = await worker("one"), await worker("two")
    assert await one.publish({"two": [row(1)], "nobody": [row(2)]}) == {"nobody"}
    assert one.counters.unheard_frames == 1
    await two.until(lambda: two.ids == [1])


async def test_a_call_is_one_frame_for_each_worker(worker: Make, stranger: Stranger) -> None:
    one, _ = await worker("one", STILL)
    async with stranger.listening(stranger.channels.of("two"), stranger.channels.of("three")) as following:
        await one.publish({"two": [row(n) for n in range(100)], "three": [row(n) for n in range(100)]})
        await one.publish({"two": [row(100)]})
        assert [len((await following())[3]) for _ in range(3)] == [100, 100, 1]


async def test_nothing_is_interrupted_by_a_worker_that_comes_and_goes_in_order(worker: Make, stranger: Stranger) -> None:
    (_, one), (two, _) = await worker("one"), await worker("two")
    await two.publish({"one": [row(1)]})
    await two.close()
    # A worker that is still known would be taken for one that died.
    await stranger.frame("one", 1, row(2), source="two", incarnation="another")
    await one.until(lambda: one.ids == [1, 2])
    assert one.interruptions == 0


async def test_a_newcomer_is_greeted_so_that_it_knows_soon_who_may_die(worker: Make, stranger: Stranger) -> None:
    await worker("one", STILL)
    async with stranger.listening(stranger.channels.heartbeats) as following:
        await stranger.heartbeat({})
        heard = {(await following())[0], (await following())[0]}
    assert heard == {"ghost", "one"}


async def test_databases_of_one_redis_do_not_hear_each_other(worker: Make, redis_url: str) -> None:
    server, number = redis_url.split("db=")
    async with workers(f"{server}db={(int(number) + 1) % 64}") as elsewhere:
        (one, _), (_, two) = await worker("one"), await elsewhere("two")
        assert await one.publish({"two": [row(1)]}) == {"two"}
        assert two.log == []


async def test_a_listener_that_fails_is_counted_and_the_stream_goes_on(worker: Make) -> None:
    one, _ = await worker("one")
    two, told = await worker("two")
    failing = iter([True])

    def received(items: object) -> None:
        if next(failing, False):
            raise RuntimeError("planted")
        told.log.append([])

    told.received = received  # type: ignore[method-assign,assignment]
    await one.publish({"two": [row(1)]})
    await one.publish({"two": [row(2)]})
    await until(lambda: [] in told.log)
    assert two.counters.faults == 1
    assert told.interruptions == 1


async def test_too_much_waiting_is_refused_and_its_receiver_notices(worker: Make) -> None:
    timing = msgspec.structs.replace(PATIENT, waiting_bytes=100_000)
    (one, _), (_, two) = await worker("one", timing), await worker("two")
    await asyncio.gather(*(one.publish({"two": [row(n, b"x" * 8000)]}) for n in range(20)))
    assert one.counters.failed_frames == 8
    await two.until(lambda: two.interruptions >= 1)
    assert two.ids == list(range(12))
