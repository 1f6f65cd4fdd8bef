"""Sends on their way: the window, the order, what to send again.

Theory of operation. Every draft gets a number when it is submitted, and drafts leave in the order of these numbers. A draft is in one of
three places: *queued* (not on this connection), *flying* (sent on this connection, not answered) or *refused* (this connection refused it
for now). When the connection is lost, flying and refused drafts go back to the head of the queue in their order, so they leave first on
the next one. After a refusal that is worth a repeat the server refuses everything until Resume; nothing leaves until all that flies has
been answered, then Resume and the same drafts in their order. So a window cannot reorder messages.

No I/O and no clock; the store is told what is pending before it can leave, and that it is settled before anybody else hears of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from veredus.client.errors import IdempotencyMismatch, code_of, refusal
from veredus.client.model import Draft, Sent
from veredus.core.errors import CATALOGUE, Code

if TYPE_CHECKING:
    from veredus.client.store import PendingStore
    from veredus.ext.frames import SendResult

DEFAULT_RETRY_MS = 1000  # when the server names no delay: its own default (core/limits)


@dataclass(slots=True, eq=False)
class Outgoing:
    """A draft with whoever waits for its answer."""

    draft: Draft
    number: int
    waiters: list[asyncio.Future[Sent]] = field(default_factory=list)
    attempted: bool = False

    def abandoned(self) -> bool:
        """Nobody waits any more and it never left: it need not leave at all."""
        return not self.attempted and bool(self.waiters) and all(waiter.cancelled() for waiter in self.waiters)


class Pipeline:
    """The sends of one client over all its connections."""

    def __init__(self, window: int, store: PendingStore) -> None:
        self._window = window
        self._store = store
        self._by_id: dict[bytes, Outgoing] = {}
        self._queue: deque[Outgoing] = deque()
        self._flying: dict[bytes, Outgoing] = {}
        self._refused: list[Outgoing] = []
        self._retry_ms = 0
        self._last = 0
        for draft in store.pending():
            self._enqueue(draft, attempted=True)

    @property
    def flying(self) -> int:
        """Sends of this connection that have no answer."""
        return len(self._flying)

    @property
    def pending(self) -> int:
        """Sends without a final answer."""
        return len(self._by_id)

    @property
    def ready(self) -> bool:
        """Something could leave now."""
        return bool(self._queue) and not self._refused and len(self._flying) < self._window

    def submit(self, draft: Draft, waiter: asyncio.Future[Sent]) -> None:
        """Queue a draft. A pending draft of the same client id is joined; with another body it raises `IdempotencyMismatch`."""
        known = self._by_id.get(draft.client_id)
        if known is not None:
            if not known.draft.same_message(draft):
                raise IdempotencyMismatch(Code.IDEMPOTENCY_MISMATCH)
            known.waiters.append(waiter)
            return
        self._store.add(draft)
        self._enqueue(draft).waiters.append(waiter)

    def take(self, room: int) -> Iterator[Draft]:
        """What may leave in one frame: up to `room` bytes, at least one draft while the window has room. Each is flying once yielded."""
        left = room
        while self.ready:
            outgoing = self._queue[0]
            if outgoing.abandoned():
                self._settle(self._queue.popleft())
                continue
            if outgoing.draft.size() > left < room:
                return
            left -= outgoing.draft.size()
            self._queue.popleft()
            outgoing.attempted = True
            self._flying[outgoing.draft.client_id] = outgoing
            yield outgoing.draft

    def answer(self, result: SendResult) -> None:
        """Take in one answer of this connection. An answer to nothing is ignored: it can only be an answer given twice."""
        outgoing = self._flying.pop(result.client_id, None)
        if outgoing is None:
            return
        code = code_of(result.code)
        if CATALOGUE[code].retryable:
            self._refused.append(outgoing)
            self._retry_ms = max(self._retry_ms, result.retry_after_ms)
            return
        self._settle(outgoing)
        for waiter in outgoing.waiters:
            if waiter.done():
                continue
            if code is Code.OK:
                waiter.set_result(Sent(UUID(bytes=result.guid), result.server_timestamp, result.needs_sync, UUID(bytes=result.client_id)))
            else:
                waiter.set_exception(refusal(result))

    def resume_delay_ms(self) -> int | None:
        """How long to wait before Resume, once everything that flew was answered; None while there is nothing to resume."""
        if self._flying or not self._refused:
            return None
        return self._retry_ms or DEFAULT_RETRY_MS

    def resume(self) -> bool:
        """Put what was refused back to the head. False when there is nothing (any more) to resume."""
        if self._flying or not self._refused:
            return False
        self._put_back()
        return True

    def disconnected(self) -> None:
        """The connection is gone: everything without an answer leaves again first."""
        self._put_back()

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that the client goes no further. The store keeps what is pending."""
        for outgoing in self._by_id.values():
            for waiter in outgoing.waiters:
                if not waiter.done():
                    waiter.set_exception(error)
        self._by_id.clear()
        self._queue.clear()
        self._flying.clear()
        self._refused.clear()

    def _put_back(self) -> None:
        again = sorted([*self._flying.values(), *self._refused], key=lambda outgoing: outgoing.number)
        self._queue.extendleft(reversed(again))
        self._flying.clear()
        self._refused.clear()
        self._retry_ms = 0

    def _enqueue(self, draft: Draft, attempted: bool = False) -> Outgoing:
        self._last += 1
        outgoing = self._by_id[draft.client_id] = Outgoing(draft, self._last, attempted=attempted)
        self._queue.append(outgoing)
        return outgoing

    def _settle(self, outgoing: Outgoing) -> None:
        del self._by_id[outgoing.draft.client_id]
        self._store.settle(outgoing.draft.client_id)
