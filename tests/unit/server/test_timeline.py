"""The development timeline."""

from __future__ import annotations

from veredus.server.timeline import REMEMBERED_MESSAGES, RecentTimeline


def test_stages_come_in_order_from_zero() -> None:
    timeline = RecentTimeline()
    for stage in ("accepted", "committed", "routed", "routed"):
        timeline.mark(stage, b"g" * 16)
    shown = timeline.milliseconds(b"g" * 16)
    assert list(shown) == ["accepted", "committed", "routed"]
    assert shown["accepted"] == 0
    assert shown["routed"] >= shown["committed"] >= 0


def test_only_recent_messages_are_remembered() -> None:
    timeline = RecentTimeline()
    for number in range(REMEMBERED_MESSAGES + 5):
        timeline.mark("accepted", number.to_bytes(16, "big"))
    assert timeline.milliseconds((0).to_bytes(16, "big")) == {}
    assert timeline.milliseconds((REMEMBERED_MESSAGES + 4).to_bytes(16, "big")) == {"accepted": 0}
