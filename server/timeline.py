"""The stages of recent messages with their times, for `veredus dev`: `core.ports.Timeline` in memory.

Never made in production: who sent what when is nobody's business there.
"""

from __future__ import annotations

import time

STAGES = ("accepted", "committed", "routed", "delivered", "acknowledged", "removed")
REMEMBERED_MESSAGES = 1000  # a demonstration looks at the last few


class RecentTimeline:
    """The first time each stage of a message was reached, for the newest messages."""

    def __init__(self) -> None:
        self._messages: dict[bytes, dict[str, int]] = {}

    def mark(self, stage: str, guid: bytes) -> None:
        """See `core.ports.Timeline`."""
        stages = self._messages.get(guid)
        if stages is None:
            stages = self._messages[guid] = {}
            if len(self._messages) > REMEMBERED_MESSAGES:
                del self._messages[next(iter(self._messages))]
        stages.setdefault(stage, time.monotonic_ns())

    def milliseconds(self, guid: bytes) -> dict[str, float]:
        """Stage → milliseconds since the first stage, in order; only what was reached."""
        stages = self._messages.get(guid, {})
        reached = [(stage, stages[stage]) for stage in STAGES if stage in stages]
        return {stage: (at - reached[0][1]) / 1e6 for stage, at in reached}
