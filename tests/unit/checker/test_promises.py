"""What the checker calls a broken promise and what it does not, on histories written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from tests.checker.check import Held, check
from tests.checker.history import (
    Ack,
    AnyEvent,
    Confirmed,
    Connect,
    Deliver,
    Device,
    Disconnect,
    Drained,
    Event,
    Quiescent,
    Refused,
    Resume,
    Send,
    Sent,
)
from veredus.core.errors import Code

SENDER, RECEIVER, OTHER = Device(b"s" * 16, 1), Device(b"r" * 16, 1), Device(b"r" * 16, 2)


def send(number: int, connection: str = "s1", seq: int = 0, content: bytes = b"", form: str = "") -> Send:
    digest = content or b"content %d" % number
    return Send(
        connection=connection, seq=seq or number, client_id=b"%d" % number, destination=RECEIVER.account, contents=((1, digest),), form=form
    )


def sent(number: int, connection: str = "s1", guid: bytes = b"") -> Sent:
    return Sent(connection=connection, client_id=b"%d" % number, guid=guid or b"guid %d" % number)


def refused(number: int, code: Code, connection: str = "s1") -> Refused:
    return Refused(connection=connection, client_id=b"%d" % number, code=code)


def deliver(tag: int, number: int, connection: str = "r1", guid: bytes = b"", source: Device | None = None) -> Deliver:
    return Deliver(connection=connection, tag=tag, guid=guid or b"guid %d" % number, digest=b"content %d" % number, source=source)


def ack(*tags: int, connection: str = "r1", up_to: int = 0) -> Ack:
    return Ack(connection=connection, tags=tags, up_to=up_to)


def connect(connection: str) -> Connect:
    return Connect(connection=connection, device={"s": SENDER, "r": RECEIVER, "o": OTHER}[connection[0]])


def gone(connection: str) -> Disconnect:
    return Disconnect(connection=connection)


def promises(*events: Event, final: Sequence[Held] = ()) -> list[str]:
    history = cast(list[AnyEvent], [connect("s1"), connect("s2"), connect("r1"), *events])
    return [violation.promise for violation in check(history, {RECEIVER: final})]


HELD = (Held(b"guid 1", b"content 1"), Held(b"guid 2", b"content 2"))


def test_a_message_that_is_still_held_is_not_lost() -> None:
    assert promises(send(1), sent(1), final=HELD[:1]) == []
    assert promises(send(1), sent(1)) == ["P2"]


def test_a_message_that_was_never_answered_may_be_there_or_not() -> None:
    assert promises(send(1), gone("s1")) == []
    assert promises(send(1), gone("s1"), deliver(1, 1), ack(1)) == []


def test_a_delivery_without_an_acknowledgement_must_be_held() -> None:
    assert promises(send(1), sent(1), deliver(1, 1)) == ["P2"]
    assert promises(send(1), sent(1), deliver(1, 1), final=HELD[:1]) == []


def test_an_acknowledgement_up_to_a_tag_names_everything_before_it_on_that_connection() -> None:
    everything = [send(1), sent(1), send(2), sent(2), deliver(1, 1), deliver(2, 2)]
    assert promises(*everything, ack(up_to=2)) == []
    assert promises(*everything, ack(up_to=1)) == ["P2"]
    assert promises(*everything, connect("r2"), ack(up_to=2, connection="r2")) == ["P2", "P2"]
    assert promises(*everything, Ack(connection="r1", guids=(b"guid 1", b"guid 2"))) == []


def test_a_repeat_of_the_delivery_is_allowed_on_another_connection_only() -> None:
    assert promises(send(1), sent(1), deliver(1, 1), gone("r1"), connect("r2"), deliver(1, 1, "r2"), ack(1, connection="r2")) == []
    assert promises(send(1), sent(1), deliver(1, 1), deliver(2, 1), ack(1)) == ["P3"]


def test_a_repeat_of_the_delivery_after_its_acknowledgement_is_allowed_until_that_was_confirmed() -> None:
    before, after = [send(1), sent(1), deliver(1, 1), ack(1)], [connect("r2"), deliver(1, 1, "r2")]
    assert promises(*before, *after) == []
    assert promises(*before, Confirmed(connection="r1"), *after) == ["P3"]
    assert promises(*before, Confirmed(connection="r1"), final=HELD[:1]) == ["P2"]


def test_one_connection_is_one_order() -> None:
    assert promises(send(1), send(2), sent(1), sent(2), final=HELD) == []
    assert promises(send(1), send(2), sent(2), sent(1), final=HELD[::-1]) == ["P4"]
    assert promises(send(1), send(2), gone("s1"), final=HELD[::-1]) == ["P4"]


def test_what_is_sent_after_a_sent_comes_after_it_whatever_the_connection() -> None:
    assert promises(send(1), sent(1), send(2, "s2"), sent(2, "s2"), final=HELD[::-1]) == ["P4"]
    assert promises(send(1), send(2, "s2"), sent(1), sent(2, "s2"), final=HELD[::-1]) == []


def test_sends_refused_for_now_keep_their_places() -> None:
    before = [send(1), send(2), refused(1, Code.BUSY)]
    again = [Resume(connection="s1"), send(1, seq=3)]
    assert promises(*before, refused(2, Code.BUSY), *again, send(2, seq=4), sent(1), sent(2), final=HELD) == []
    assert promises(*before, sent(2), *again, sent(1), final=HELD[::-1]) == ["P4"]


def test_a_send_refused_for_good_has_no_place() -> None:
    events = [send(1), send(2), refused(1, Code.DEVICES_MISMATCH), sent(2), send(1, seq=3), sent(1)]
    assert promises(*events, final=HELD[::-1]) == []


def test_what_was_refused_is_not_delivered() -> None:
    assert promises(send(1), refused(1, Code.TOO_LARGE), final=HELD[:1]) == ["P2"]
    assert promises(send(1), refused(1, Code.BUSY), final=HELD[:1]) == ["P2"]
    assert promises(send(1), refused(1, Code.RESULT_UNKNOWN), final=HELD[:1]) == []
    assert promises(send(1), gone("s1"), send(1, "s2"), refused(1, Code.TOO_LARGE, "s2"), final=HELD[:1]) == []


def test_what_nobody_sent_and_what_was_for_another_is_not_delivered() -> None:
    assert promises(deliver(1, 1)) == ["P2"]
    assert promises(send(1), sent(1), connect("o1"), deliver(1, 1, "o1"), final=HELD[:1]) == ["P2"]
    assert promises(send(1), gone("s1"), connect("o1"), deliver(1, 1, "o1")) == ["P2"]


def test_a_content_comes_under_one_guid_even_when_no_answer_named_one() -> None:
    assert promises(send(1), gone("s1"), deliver(1, 1), ack(1), deliver(2, 1, guid=b"another"), ack(2)) == ["P3"]


def test_two_messages_may_have_one_content() -> None:
    same = [send(1, content=b"content 1"), send(2, content=b"content 1")]
    twins = (Held(b"guid 1", b"content 1"), Held(b"guid 2", b"content 1"))
    assert promises(*same, sent(1), sent(2), final=twins) == []
    assert promises(*same, gone("s1"), final=twins) == []
    assert promises(*same, gone("s1"), final=(*twins, Held(b"guid 3", b"content 1"))) == ["P3"]


def test_every_repeat_gets_the_first_answer() -> None:
    assert promises(send(1), sent(1), send(1, seq=2), sent(1), final=HELD[:1]) == []
    assert promises(send(1), sent(1), send(1, seq=2), sent(1, guid=b"another"), final=HELD[:1]) == ["P3"]
    assert promises(send(1), sent(1), send(1, seq=2), refused(1, Code.DEVICES_STALE), final=HELD[:1]) == ["P3"]
    assert promises(send(1), sent(1), send(1, seq=2), refused(1, Code.BUSY), final=HELD[:1]) == []


@pytest.mark.parametrize("other", [send(1, seq=2, content=b"another"), send(1, seq=2, form="urgent")], ids=["content", "form"])
def test_another_body_is_refused_as_such_and_nothing_else_is(other: Send) -> None:
    assert promises(send(1), sent(1), other, refused(1, Code.IDEMPOTENCY_MISMATCH), final=HELD[:1]) == []
    assert promises(send(1), sent(1), other, sent(1), final=HELD[:1]) == ["P3"]
    assert promises(send(1), refused(1, Code.IDEMPOTENCY_MISMATCH)) == ["P3"]


def test_two_messages_have_two_guids() -> None:
    assert "P3" in promises(send(1), send(2), sent(1), sent(2, guid=b"guid 1"), final=HELD[:1])


def test_an_answer_belongs_to_a_send() -> None:
    assert promises(send(1), sent(1), sent(1), final=HELD[:1]) == ["P3"]


def test_tags_count_from_one_without_a_gap() -> None:
    two = [send(1), sent(1), send(2), sent(2)]
    assert promises(*two, deliver(1, 1), deliver(3, 2), ack(1, 3)) == ["P4"]
    assert promises(*two, deliver(2, 1), ack(2), final=HELD[1:]) == ["P4"]
    assert promises(Drained(connection="r1", tag=1)) == ["P4"]


def test_at_rest_every_online_device_has_everything_that_was_answered_before() -> None:
    rest = Quiescent()
    assert promises(send(1), sent(1), rest, final=HELD[:1]) == ["P5"]
    assert promises(send(1), sent(1), deliver(1, 1), rest, final=HELD[:1]) == []
    assert promises(send(1), sent(1), gone("r1"), rest, final=HELD[:1]) == []
    assert promises(send(1), rest, sent(1), final=HELD[:1]) == []
    assert promises(send(1), sent(1), deliver(1, 1), gone("r1"), connect("r2"), rest, final=HELD[:1]) == ["P5"]
    assert promises(send(1), sent(1), deliver(1, 1), ack(1), gone("r1"), connect("r2"), rest) == []


def test_an_ephemeral_message_may_be_lost_and_overtake() -> None:
    fleeting = Send(connection="s1", seq=3, client_id=b"3", destination=RECEIVER.account, contents=((1, b"content 3"),), ephemeral=True)
    assert promises(fleeting, sent(3)) == []
    assert promises(send(1), sent(1), fleeting, sent(3), deliver(0, 3), deliver(1, 1), ack(1)) == []


def test_a_violation_names_the_promise_and_shows_its_events() -> None:
    [violation] = check([connect("s1"), send(1), sent(1)], {})
    text = str(violation)
    assert text.startswith("P2: message 31 of 73737373.1 was acknowledged to its sender, but 72727272.1 never got it and it is gone")
    assert "#2 Sent(" in text


def test_the_source_and_the_destination_of_an_envelope_are_checked() -> None:
    assert promises(send(1), sent(1), deliver(1, 1, source=SENDER), ack(1)) == []
    assert promises(send(1), sent(1), deliver(1, 1, source=OTHER), ack(1)) == ["P2"]
