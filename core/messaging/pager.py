"""Reads mailbox pages for sessions, a bounded number at a time, and keeps the short tasks that sessions need.

A page that cannot be read is asked for again until it is there or the session is gone: a stored message waits for the store, not for luck.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from veredus.core import faults
from veredus.core.errors import ResultUnknown, StoreUnavailable
from veredus.core.messaging.context import Context
from veredus.core.ports import MessageStore

if TYPE_CHECKING:
    from veredus.core.messaging.session import Session

CONCURRENT_PAGES = 16  # more readers than PostgreSQL has cores only wait inside it
RETRY_SECONDS = 0.25

_log = logging.getLogger(__name__)


class Pager:
    """The reading side of the store for every session of a worker."""

    def __init__(self, store: MessageStore, context: Context) -> None:
        self._store = store
        self._context = context
        self._slots = asyncio.Semaphore(CONCURRENT_PAGES)
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a short piece of work of a session."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def read(self, session: Session) -> None:
        """Bring the session the page it wants."""
        floor, skip = session.mailbox.begin_page()
        self.spawn(self._read(session, floor, skip))

    async def run(self) -> None:
        """Holds the tasks: when it is cancelled they are."""
        try:
            await asyncio.Event().wait()
        finally:
            for task in list(self._tasks):
                task.cancel()

    async def _read(self, session: Session, floor: int, skip: list[int]) -> None:
        limit = self._context.limits.page_rows
        while not session.closed:
            async with self._slots:
                try:
                    page = await self._store.page(session.principal.device_id, floor, skip, limit)
                except (StoreUnavailable, ResultUnknown):
                    self._context.counters.page_retries += 1
                except Exception as error:  # our bug; a session that is brought no page would wait for ever
                    self._context.counters.page_retries += 1
                    _log.error("a page was not read: %s", faults.describe(error))
                else:
                    self._context.counters.paged += len(page.rows)
                    session.on_page(page)
                    return
            await asyncio.sleep(RETRY_SECONDS)
