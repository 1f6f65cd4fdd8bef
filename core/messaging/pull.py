"""Reading a mailbox by request and answer, without a connection that remembers what was sent.

Owns what one answer holds: how many rows, how many bytes, from which time on. Never deletes: a message leaves the mailbox when the device
acknowledges it by name.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from veredus.core.limits import Limits
from veredus.core.model import Row
from veredus.core.ports import MessageStore

# A row carries the time its statement began and becomes visible when it is committed, so one seen later may bear an earlier time. A minute
# is above every deadline a commit has; what comes twice by it is dropped by guid (CON-25).
OVERLAP_MS = 60_000


class Pulled(NamedTuple):
    """Rows in mailbox order. Without `more` they are all; with it there may be further ones."""

    rows: list[Row]
    more: bool


class Pull:
    """Answers «what is stored for me?»: at most `page_rows` messages and `batch_delivery_bytes` bytes."""

    def __init__(self, store: MessageStore, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        # A page may hold page_rows contents at the limit (25 MiB): so many are read at a time, not more.
        self._reads = asyncio.Semaphore(limits.pull_reads)

    async def pull(self, device_id: int, after_ms: int = 0) -> Pulled:
        """The first messages of a mailbox, without those accepted more than a minute before `after_ms`. Raises `StoreUnavailable`.

        The caller drops what it knows by guid. Rows before the time are stepped over page by page: few, since devices acknowledge.
        """
        rows: list[Row] = []
        size = floor = 0
        while True:
            async with self._reads:
                page = await self._store.page(device_id, floor, (), self._limits.page_rows)
            for row in page.rows:
                if after_ms and row.server_timestamp < after_ms - OVERLAP_MS:
                    continue
                size += len(row.envelope)
                if len(rows) == self._limits.page_rows or (rows and size > self._limits.batch_delivery_bytes):
                    return Pulled(rows, more=True)
                rows.append(row)
            if page.short or not page.rows:
                return Pulled(rows, more=False)
            if len(rows) == self._limits.page_rows:
                return Pulled(rows, more=True)
            floor = page.rows[-1].id
