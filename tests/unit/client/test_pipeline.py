"""Sends leave in their order, within the window, and again in their order after a refusal or a lost connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veredus.client import ClientClosed, DevicesMismatch, FileStore, IdempotencyMismatch, MemoryStore, Sent
from veredus.client.model import Draft
from veredus.client.pipeline import Pipeline
from veredus.core.errors import Code

ROOM = 1 << 20


def draft(number: int, content: bytes = b"content") -> Draft:
    return Draft(number.to_bytes(16, "big"), b"d" * 16, 1, 0, False, False, ((1, 0, content, 0),))


def result(number: int, code: Code = Code.OK, **more: Any) -> Any:
    fields: dict[str, Any] = {
        "client_id": number.to_bytes(16, "big"),
        "code": int(code),
        "guid": b"g" * 16,
        "server_timestamp": 1,
        "needs_sync": False,
        "retry_after_ms": 0,
        "missing_devices": (),
        "extra_devices": (),
        "stale_devices": (),
    }
    return SimpleNamespace(**(fields | more))


def take(pipeline: Pipeline, room: int = ROOM) -> list[int]:
    return [int.from_bytes(taken.client_id, "big") for taken in pipeline.take(room)]


def filled(count: int, window: int = 16) -> tuple[Pipeline, list[asyncio.Future[Sent]]]:
    pipeline = Pipeline(window, MemoryStore())
    waiters = [asyncio.get_running_loop().create_future() for _ in range(count)]
    for number, waiter in enumerate(waiters):
        pipeline.submit(draft(number), waiter)
    return pipeline, waiters


async def test_the_window_bounds_what_is_unanswered() -> None:
    pipeline, _ = filled(5, window=3)
    assert take(pipeline) == [0, 1, 2]
    assert take(pipeline) == []
    pipeline.answer(result(1))
    assert take(pipeline) == [3]


async def test_a_frame_takes_what_fits_and_at_least_one() -> None:
    pipeline, _ = filled(3)
    assert take(pipeline, room=draft(0).size() * 2) == [0, 1]
    assert take(pipeline, room=1) == [2]


async def test_after_a_retryable_refusal_nothing_leaves_until_all_is_answered_and_resumed() -> None:
    pipeline, waiters = filled(4, window=3)
    assert take(pipeline) == [0, 1, 2]
    pipeline.answer(result(0))
    pipeline.answer(result(1, Code.BUSY, retry_after_ms=70))
    assert take(pipeline) == []
    assert pipeline.resume_delay_ms() is None
    pipeline.answer(result(2, Code.BUSY, retry_after_ms=50))
    assert take(pipeline) == []
    assert pipeline.resume_delay_ms() == 70
    assert pipeline.resume()
    assert take(pipeline) == [1, 2, 3]
    assert [waiter.done() for waiter in waiters] == [True, False, False, False]


async def test_after_a_lost_connection_the_unanswered_leave_first_in_their_order() -> None:
    pipeline, _ = filled(4, window=3)
    take(pipeline)
    pipeline.answer(result(2, Code.BUSY))
    pipeline.answer(result(0))
    pipeline.disconnected()
    assert take(pipeline) == [1, 2, 3]


async def test_a_final_refusal_reaches_the_caller_with_its_lists() -> None:
    pipeline, waiters = filled(1)
    take(pipeline)
    pipeline.answer(result(0, Code.DEVICES_MISMATCH, missing_devices=(2,), extra_devices=(7, 8)))
    with pytest.raises(DevicesMismatch) as caught:
        await waiters[0]
    assert (caught.value.missing, caught.value.extra, caught.value.code) == ((2,), (7, 8), Code.DEVICES_MISMATCH)


async def test_a_pending_client_id_is_joined_by_the_same_body_and_refused_to_another() -> None:
    pipeline, [first] = filled(1)
    second: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
    pipeline.submit(draft(0), second)
    with pytest.raises(IdempotencyMismatch):
        pipeline.submit(draft(0, b"another"), asyncio.get_running_loop().create_future())
    assert take(pipeline) == [0]
    pipeline.answer(result(0))
    assert await first == await second


async def test_what_was_cancelled_before_it_left_does_not_leave_and_what_left_goes_on() -> None:
    pipeline, waiters = filled(3, window=1)
    assert take(pipeline) == [0]
    waiters[0].cancel()
    waiters[1].cancel()
    pipeline.disconnected()
    assert take(pipeline) == [0]
    pipeline.answer(result(0))
    assert take(pipeline) == [2]


async def test_a_closed_client_tells_everybody_who_waits() -> None:
    pipeline, waiters = filled(2, window=1)
    take(pipeline)
    pipeline.fail(ClientClosed())
    assert [type(await failure) for failure in map(_failure, waiters)] == [ClientClosed, ClientClosed]
    assert pipeline.pending == 0


async def _failure(waiter: asyncio.Future[Sent]) -> BaseException | None:
    await asyncio.wait({waiter})
    return waiter.exception()


async def test_a_file_store_brings_unanswered_sends_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "pending"
    store = FileStore(path)
    pipeline = Pipeline(16, store)
    for number in range(4):
        pipeline.submit(draft(number), asyncio.get_running_loop().create_future())
    take(pipeline)
    pipeline.answer(result(1))
    store.close()
    path.write_bytes(path.read_bytes() + b'{"settled":"cut sh')
    again = FileStore(path)
    assert take(Pipeline(16, again)) == [0, 2, 3]
    again.close()


STEPS = st.lists(st.sampled_from(["submit", "take", "sent", "busy", "final", "lost", "resume"]), max_size=80)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, window=st.integers(1, 4))
def test_the_first_acceptances_of_a_server_that_blocks_after_refusals_are_in_order(steps: list[str], window: int) -> None:
    """Against a model of the server: whatever is refused or lost in between, what is accepted is accepted in the order of submission."""
    loop = asyncio.new_event_loop()
    pipeline = Pipeline(window, MemoryStore())
    submitted, line, accepted, blocked = 0, [], [], False
    for step in steps:
        match step:
            case "submit":
                pipeline.submit(draft(submitted), loop.create_future())
                submitted += 1
            case "take":
                line += take(pipeline)
            case "sent" | "busy" | "final" if line:
                number = line.pop(0)
                if blocked or step == "busy":
                    blocked = True
                    pipeline.answer(result(number, Code.BUSY))
                else:
                    accepted.append(number)
                    pipeline.answer(result(number))
            case "lost":
                accepted += [number for number in line[: len(line) // 2] if not blocked and number not in accepted]
                line, blocked = [], False
                pipeline.disconnected()
            case "resume":
                if pipeline.resume():
                    blocked = False
    first = list(dict.fromkeys(accepted))
    assert first == sorted(first)
    loop.close()
