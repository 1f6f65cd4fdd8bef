"""What every part of delivery shares in a worker: its limits, clock, counters, throttle and, in development, the timeline."""

from __future__ import annotations

from dataclasses import dataclass, field

from veredus.core.clock import Clock, SystemClock
from veredus.core.limits import Limits
from veredus.core.messaging.counters import Counters
from veredus.core.messaging.ratelimit import Throttle, Unlimited
from veredus.core.ports import Timeline


@dataclass(frozen=True, slots=True)
class Context:
    """Made once per worker, passed to constructors."""

    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=SystemClock)
    counters: Counters = field(default_factory=Counters)
    timeline: Timeline | None = None
    throttle: Throttle = field(default_factory=Unlimited)

    def mark(self, stage: str, guid: bytes) -> None:
        """Show a stage of a message to the timeline, when there is one."""
        if self.timeline is not None:
            self.timeline.mark(stage, guid)
