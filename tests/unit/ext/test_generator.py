"""The load generator's own checks: what a server could do wrong is counted, and nothing else is."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from picows import WSMsgType
from picows.picows import _make_test_ws_frame

from tests.proto import envelope as pb
from veredus.ext.frames import FrameWriter
from veredus.ext.generator import Device, Run

NONCE = 0x1234_5678_9ABC_DEF0
FILLER = bytes(1 << 20)
SENDERS = 2


class Recipient:
    """A device and the frames a server might send it."""

    def __init__(self) -> None:
        self.run = Run(lambda: 1_000_000, FILLER, NONCE, 1, 64)
        self.told: list[str] = []
        self.device = Device(self.run, 0, SENDERS, lambda _, event: self.told.append(event))
        self._tag = 0

    def deliver(self, numbers: Iterable[int], sender: int = 0, nonce: int = NONCE) -> None:
        """Deliver these numbers of a sender's stream, one frame each."""
        for number in numbers:
            self._tag += 1
            self.frame(self._tag, struct.pack("<QQQQ", nonce, sender, number, 400_000) + bytes(32))

    def frame(self, tag: int, content: bytes) -> None:
        writer = FrameWriter()
        writer.put_delivery(tag, pb.Envelope(type=1, content=content).SerializeToString(), 0)
        self.read(writer.take())

    def read(self, payload: bytes) -> None:
        self.device.on_ws_frame(None, _make_test_ws_frame(WSMsgType.BINARY, payload, True, False))  # type: ignore[arg-type]

    @property
    def wrong(self) -> tuple[int, int, int, int, int]:
        """Lost (of 5), duplicated, reordered, foreign, malformed."""
        run = self.run
        return self.device.lost_of(0, 5), run.duplicated, run.reordered, run.foreign, run.malformed


@pytest.fixture
def recipient() -> Recipient:
    return Recipient()


def test_every_message_once_and_in_order_is_right(recipient: Recipient) -> None:
    recipient.deliver(range(3))
    recipient.deliver(range(4), sender=1)
    recipient.deliver([3, 4])
    assert recipient.wrong == (0, 0, 0, 0, 0)
    assert (recipient.run.delivered, recipient.device.received) == (9, 9)


def test_a_gap_and_a_missing_end_are_losses(recipient: Recipient) -> None:
    recipient.deliver([0, 2, 3])
    assert recipient.wrong == (2, 0, 0, 0, 0)
    assert recipient.device.lost_of(1, 5) == 5


def test_a_repeat_is_a_duplicate(recipient: Recipient) -> None:
    recipient.deliver([0, 1, 1, 2, 3, 4, 0])
    assert recipient.wrong == (0, 2, 0, 0, 0)


def test_what_comes_late_is_reordered_and_not_lost(recipient: Recipient) -> None:
    recipient.deliver([0, 2, 1, 3, 4])
    assert recipient.wrong == (0, 0, 1, 0, 0)
    recipient.deliver([1])
    assert recipient.wrong == (0, 1, 1, 0, 0)


def test_messages_of_another_run_are_foreign(recipient: Recipient) -> None:
    recipient.deliver(range(5))
    recipient.deliver([0], nonce=NONCE + 1)
    recipient.deliver([0], sender=SENDERS)
    assert recipient.wrong == (0, 0, 0, 2, 0)


def test_short_contents_and_wrong_tags_are_seen(recipient: Recipient) -> None:
    recipient.frame(1, b"short")
    recipient.frame(3, bytes(40))
    assert recipient.wrong == (5, 0, 0, 2, 1)


def test_answers_to_nothing_and_broken_frames_are_malformed(recipient: Recipient) -> None:
    writer = FrameWriter()
    writer.put_sent(bytes(16), bytes(16), 1, False)
    recipient.read(writer.take())
    recipient.read(b"\xff\xff")
    recipient.read(b"\x1a\x7f\x00")
    assert recipient.run.malformed == 3


def test_latency_counts_from_the_intended_time_while_recording(recipient: Recipient) -> None:
    recipient.deliver([0])
    assert recipient.run.delivered_latency.count == 0
    recipient.run.recording = True
    recipient.deliver([1])
    assert recipient.run.delivered_latency.largest == 600_000


def test_news_is_told(recipient: Recipient) -> None:
    writer = FrameWriter()
    writer.put_hello(bytes(16), bytes(16), 1, 1, 1, 1, 1, 1, 1)
    writer.put_drained(0)
    recipient.read(writer.take())
    assert recipient.told == ["greeted", "drained"]


def test_nothing_can_be_aimed_at_twice_or_at_nobody(recipient: Recipient) -> None:
    for destinations, window in ((b"", 1), (b"short", 1), (bytes(16), 0)):
        with pytest.raises(ValueError, match="accounts"):
            recipient.device.aim(destinations, window)
    recipient.device.aim(bytes(16), 1)
    with pytest.raises(ValueError, match="once"):
        recipient.device.aim(bytes(16), 1)


def test_a_run_needs_room_for_its_stamp() -> None:
    for filler, payload in ((bytes(10), 300), (FILLER, 31)):
        with pytest.raises(ValueError, match="filler"):
            Run(lambda: 1, filler, NONCE, 1, payload)
