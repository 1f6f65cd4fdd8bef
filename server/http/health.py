"""Health checks: what is looked at, how long and how often. Says which part fails, never why: the reason is in the log of that part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from veredus.core.clock import Clock
from veredus.server.http.services import Probe

Check = Callable[[], Awaitable[object]]

CHECK_SECONDS = 2.0  # below the usual probe timeouts of balancers (5 s), so that a hanging part is named instead of timing out
KEPT_SECONDS = 1.0  # health is open to anyone: many questions a second cost one look a second


class Checks:
    """`services.Health` over named checks; a check fails by raising or by not answering within two seconds."""

    def __init__(self, checks: Mapping[str, Check], clock: Clock) -> None:
        self._checks = dict(checks)
        self._clock = clock
        self._started = False
        self._leaving = False
        self._look: asyncio.Task[tuple[str, ...]] | None = None
        self._looked_at = 0.0

    def started(self) -> None:
        """The worker has come up."""
        self._started = True

    def leaving(self) -> None:
        """The worker is going away: no new work, please."""
        self._leaving = True

    async def failing(self, probe: Probe) -> Sequence[str]:
        """LIVE: nothing, since it was answered. STARTUP: `startup` until started. READY: also `shutdown` and every failing check."""
        if probe is Probe.LIVE:
            return ()
        if not self._started:
            return ("startup",)
        if probe is Probe.STARTUP:
            return ()
        failing = await self._looked()
        return ("shutdown", *failing) if self._leaving else failing

    async def _looked(self) -> tuple[str, ...]:
        now = self._clock.monotonic()
        if self._look is None or (self._look.done() and now - self._looked_at >= KEPT_SECONDS):
            self._look, self._looked_at = asyncio.ensure_future(self._look_at_all()), now
        return await asyncio.shield(self._look)

    async def _look_at_all(self) -> tuple[str, ...]:
        sound = await asyncio.gather(*(self._sound(check) for check in self._checks.values()))
        return tuple(name for name, is_sound in zip(self._checks, sound, strict=True) if not is_sound)

    async def _sound(self, check: Check) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except Exception:
            return False  # the name is the answer; what raised it has its own log and counters
        return True
