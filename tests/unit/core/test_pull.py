"""Reading a mailbox without a connection: what one answer holds, and that reads are bounded."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.store import MemoryStore
from veredus.core.limits import Limits
from veredus.core.messaging.pull import OVERLAP_MS, Pull
from veredus.core.model import Page, Row

DEVICE = 7


def stored(times: list[int], size: int = 10) -> MemoryStore:
    store = MemoryStore()
    for row_id, time in enumerate(times, 1):
        store.mailbox[DEVICE, row_id] = Row(row_id, row_id.to_bytes(16, "big"), time, b"x" * size)
    store.mailbox[DEVICE + 1, 999] = Row(999, b"o" * 16, 0, b"of another device")
    return store


async def ids(store: MemoryStore, after_ms: int = 0, **limits: int) -> tuple[list[int], bool]:
    pulled = await Pull(store, Limits(**limits)).pull(DEVICE, after_ms)  # type: ignore[arg-type]
    return [row.id for row in pulled.rows], pulled.more


async def test_an_empty_mailbox_is_an_empty_answer() -> None:
    assert await ids(stored([])) == ([], False)


@pytest.mark.requirement("SYN-2")
@pytest.mark.parametrize(("count", "expected"), [(99, 99), (100, 100), (101, 100), (250, 100)])
async def test_an_answer_holds_at_most_a_hundred(count: int, expected: int) -> None:
    found, more = await ids(stored([0] * count))
    assert found == list(range(1, expected + 1))
    assert more is (count >= 100), "a full page cannot know that it was the last"


@pytest.mark.parametrize(("limit", "expected"), [(5, 1), (10, 1), (29, 2), (30, 3)])
async def test_an_answer_is_bounded_in_bytes_but_never_empty(limit: int, expected: int) -> None:
    assert await ids(stored([0] * 4), batch_delivery_bytes=limit) == (list(range(1, expected + 1)), True)


async def test_rows_before_the_time_are_stepped_over_page_by_page() -> None:
    times = [OVERLAP_MS * number for number in range(30)]
    assert await ids(stored(times), after_ms=OVERLAP_MS * 20, page_rows=4) == ([20, 21, 22, 23], True)
    assert await ids(stored(times), after_ms=OVERLAP_MS * 28, page_rows=4) == ([28, 29, 30], False)
    assert await ids(stored(times), after_ms=OVERLAP_MS * 99, page_rows=4) == ([], False)


async def test_a_row_that_became_visible_late_with_an_earlier_time_is_not_left_out() -> None:
    newest = 10 * OVERLAP_MS
    assert await ids(stored([newest, newest - OVERLAP_MS]), after_ms=newest) == ([1, 2], False)


async def test_only_so_many_pages_are_read_at_a_time() -> None:
    reading = most = 0
    gate = asyncio.Event()

    class Slow(MemoryStore):
        async def page(self, *arguments: object) -> Page:
            nonlocal reading, most
            reading += 1
            most = max(most, reading)
            await gate.wait()
            reading -= 1
            return await super().page(*arguments)  # type: ignore[arg-type]

    pull = Pull(Slow(), Limits(pull_reads=2))
    pulling = [asyncio.ensure_future(pull.pull(DEVICE)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*pulling)
    assert most == 2
