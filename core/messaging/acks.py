"""Removal of acknowledged rows: coalesced, retried, never a range.

While one delete is on its way the next collects, as in group commit. A crash loses acknowledgements that were not yet carried out (the
device is sent those messages again), never rows. What waits here is bounded by the windows of the sessions that put it in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from veredus.core.errors import ResultUnknown, StoreUnavailable
from veredus.core.messaging.context import Context
from veredus.core.messaging.mailbox import Entry
from veredus.core.ports import MessageStore

if TYPE_CHECKING:
    from veredus.core.messaging.session import Session

RETRY_SECONDS = 0.25  # a store that restarts is back within seconds; asking four times a second costs nothing


class Remover:
    """Carries out acknowledgements of every session of a worker."""

    def __init__(self, store: MessageStore, context: Context) -> None:
        self._store = store
        self._context = context
        self._waiting: deque[tuple[Session, Entry]] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, session: Session, entries: Sequence[Entry]) -> None:
        """Have these rows of a session's device removed soon."""
        self._waiting.extend([(session, entry) for entry in entries])
        if self._waiting:
            self._idle.clear()
            self._more.set()

    async def drained(self) -> None:
        """Returns when nothing waits."""
        await self._idle.wait()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._more.wait()
            await self._remove(self._next_batch())
            if not self._waiting:
                self._more.clear()
                self._idle.set()

    def _next_batch(self) -> list[tuple[Session, Entry]]:
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(len(waiting), self._context.limits.ack_batch_rows))]

    async def _remove(self, batch: list[tuple[Session, Entry]]) -> None:
        # In key order, so that two workers that remove the same device's rows cannot wait for each other in a circle.
        rows = sorted([(session.principal.device_id, entry.id) for session, entry in batch])
        while True:
            try:
                await self._store.remove(rows)
                break
            except (StoreUnavailable, ResultUnknown):  # deleting again what is gone does no harm
                self._context.counters.remove_retries += 1
                await asyncio.sleep(RETRY_SECONDS)
        self._context.counters.removed += len(rows)
        freed: dict[Session, list[Entry]] = {}
        for session, entry in batch:
            self._context.mark("removed", entry.guid)
            freed.setdefault(session, []).append(entry)
        for session, entries in freed.items():
            session.on_removed([entry.id for entry in entries], sum([entry.size for entry in entries]))
