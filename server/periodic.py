"""Periodic work of a worker: run, wait, again. A failure is logged by kind and the next turn tries anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import uniform

import structlog

log = structlog.get_logger("veredus.periodic")


async def every(seconds: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do the work now and then every `seconds`, spread by a tenth so that workers do not come together. Until cancelled."""
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("periodic work failed", work=name, fault=type(error).__name__)
        await asyncio.sleep(seconds * uniform(0.9, 1.1))
