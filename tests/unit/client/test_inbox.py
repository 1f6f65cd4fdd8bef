"""Messages are shown once, and acknowledged in the fewest words that are true."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from veredus.client.inbox import Inbox
from veredus.client.model import Message


def delivery(tag: int, guid: int) -> Any:
    return SimpleNamespace(tag=tag, envelope=SimpleNamespace(guid=guid.to_bytes(16, "big"), content=b""))


def inbox(remembered: int = 100) -> Inbox:
    return Inbox(remembered, lambda: None)


def shown(box: Inbox, tag: int, guid: int) -> Message:
    message = box.deliver(delivery(tag, guid))
    assert message is not None
    return message


async def test_acknowledgements_in_order_are_one_position() -> None:
    box = inbox()
    for message in [shown(box, tag, tag) for tag in (1, 2, 3)]:
        await message.ack()
    assert box.take() == ((), 3)
    assert box.take() is None


async def test_an_acknowledgement_beyond_a_gap_names_its_tag_and_the_gap_closes_later() -> None:
    box = inbox()
    one, two, three = (shown(box, tag, tag) for tag in (1, 2, 3))
    await three.ack()
    assert box.take() == ((3,), 0)
    await one.ack()
    assert box.take() == ((), 1)
    await two.ack()
    await two.ack()
    assert box.take() == ((), 3)


async def test_a_repeat_of_an_acknowledged_message_is_acknowledged_and_not_shown() -> None:
    box = inbox()
    await shown(box, 1, 7).ack()
    box.connected()
    assert box.deliver(delivery(1, 7)) is None
    assert box.take() == ((), 1)


async def test_a_message_still_with_the_application_is_acknowledged_on_the_connection_that_repeated_it() -> None:
    box = inbox()
    message = shown(box, 1, 7)
    box.connected()
    shown(box, 1, 8)
    assert box.deliver(delivery(2, 7)) is None
    await message.ack()
    assert box.take() == ((2,), 0)


async def test_an_acknowledgement_without_a_connection_waits_for_the_repeat() -> None:
    box = inbox()
    message = shown(box, 1, 7)
    box.connected()
    await message.ack()
    assert box.take() is None
    assert box.deliver(delivery(1, 7)) is None
    assert box.take() == ((), 1)


async def test_what_is_remembered_is_bounded() -> None:
    box = inbox(remembered=2)
    for guid in (1, 2, 3):
        await shown(box, guid, guid).ack()
    box.connected()
    assert box.deliver(delivery(1, 3)) is None
    assert box.deliver(delivery(2, 1)) is not None


async def test_an_ephemeral_message_has_nothing_to_acknowledge() -> None:
    box = inbox()
    await shown(box, 0, 7).ack()
    assert box.take() is None


@settings(max_examples=300, deadline=None)
@given(order=st.permutations(range(1, 12)), takes=st.sets(st.integers(0, 11)))
def test_what_was_told_is_exactly_what_was_acknowledged(order: list[int], takes: set[int]) -> None:
    box = inbox()
    messages = {tag: shown(box, tag, tag) for tag in range(1, 12)}
    told: set[int] = set()
    for index, tag in enumerate(order):
        messages[tag]._acknowledge(messages[tag])
        if index in takes:
            said = box.take()
            assert said is not None
            told |= set(said.tags) | set(range(1, said.up_to + 1))
            assert told == set(order[: index + 1])
