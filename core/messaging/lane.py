"""A lane: sends waiting for their turn in a group commit.

There is no timer. One batch is with the store, the next fills meanwhile: a quiet lane commits one message at once, a busy one a thousand
together. A sender stays in its lane for the worker's life, so what one connection sends is committed in the order it was sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from veredus.core.limits import Limits
from veredus.core.model import Principal
from veredus.core.ports import Origin
from veredus.ext.envelope import Send


class Pending(msgspec.Struct, gc=False):
    """A send in a lane."""

    send: Send
    origin: Origin
    principal: Principal


class Lane:
    """The queue and its worker. `process` is given one batch at a time and never raises."""

    def __init__(self, process: Callable[[list[Pending]], Awaitable[None]], limits: Limits) -> None:
        self._process = process
        self._limits = limits
        self._queues: dict[Origin, deque[Pending]] = {}  # by connection, so that a full batch is filled fairly …
        self._turns: deque[Origin] = deque()  # … one from each in turn
        self._paused: dict[Origin, None] = {}
        self._rows = 0
        self._bytes = 0
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def bytes(self) -> int:
        """What waits, in bytes."""
        return self._bytes

    def offer(self, pending: Pending) -> bool:
        """Queue a send. False: the lane is full, nothing was queued."""
        size = pending.send.size
        if self._bytes + size > self._limits.lane_bytes:
            return False
        queue = self._queues.get(pending.origin)
        if queue is None:
            queue = self._queues[pending.origin] = deque()
            self._turns.append(pending.origin)
        queue.append(pending)
        self._bytes += size
        self._rows += len(pending.send.devices)
        if self._bytes > self._limits.lane_pause_bytes and pending.origin not in self._paused:
            self._paused[pending.origin] = None
            pending.origin.pause()
        self._idle.clear()
        self._more.set()
        return True

    def origins(self) -> list[Origin]:
        """The connections that have something waiting here."""
        return list(self._queues)

    def withdraw(self, origin: Origin) -> list[Pending]:
        """Take back everything that waits from one connection."""
        waiting = list(self._queues.pop(origin, ()))
        if waiting:
            self._turns.remove(origin)
        for pending in waiting:
            self._discharge(pending)
        return waiting

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._more.wait()
            batch = self._next_batch()
            self._resume_readers()
            if batch:
                await self._process(batch)
            if not self._queues:
                self._more.clear()
                self._idle.set()

    async def drained(self) -> None:
        """Returns when nothing waits and nothing is with the store."""
        await self._idle.wait()

    def _next_batch(self) -> list[Pending]:
        limits = self._limits
        if self._rows <= limits.batch_rows and self._bytes <= limits.batch_bytes:
            batch = [pending for queue in self._queues.values() for pending in queue]
            self._queues.clear()
            self._turns.clear()
            self._rows = self._bytes = 0
            return batch
        return self._fair_batch()

    def _fair_batch(self) -> list[Pending]:
        """One from each connection in turn until the batch is full; the next batch begins with those that had to wait."""
        limits = self._limits
        batch: list[Pending] = []
        rows = size = 0
        while self._turns:
            origin = self._turns.popleft()
            queue = self._queues[origin]
            pending = queue[0]
            rows += len(pending.send.devices)
            size += pending.send.size
            if batch and (rows > limits.batch_rows or size > limits.batch_bytes):
                self._turns.appendleft(origin)
                break
            batch.append(queue.popleft())
            self._discharge(pending)
            if queue:
                self._turns.append(origin)
            else:
                del self._queues[origin]
        return batch

    def _discharge(self, pending: Pending) -> None:
        self._bytes -= pending.send.size
        self._rows -= len(pending.send.devices)

    def _resume_readers(self) -> None:
        if self._paused and self._bytes * 2 <= self._limits.lane_pause_bytes:
            paused, self._paused = self._paused, {}
            for origin in paused:
                origin.resume()
