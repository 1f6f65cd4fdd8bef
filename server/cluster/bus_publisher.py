"""The one connection on which a worker publishes to a server. Owns its order, its bounds in bytes and time, and its coming back.

Theory of operation. What is handed over is queued at once, so the order of calls is the order on the connection. A writer sends whatever
has gathered with one write; a reader matches answers with what was handed over, first to first. The connection counts as there when its
greeting was answered. After any failure or delay it is dropped, everything unanswered on it fails, and nothing is sent again: nobody can
know what of it arrived. Meanwhile nothing waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from redis.exceptions import ResponseError

from veredus.server.cluster.bus_counters import BusCounters
from veredus.server.cluster.bus_link import AWAY, end
from veredus.server.cluster.bus_timing import BusTiming

COMMAND_BYTES = 128  # of a PUBLISH beside its payload, about

Post = tuple[str, bytes]  # channel, payload
Answers = list[int | None]  # listeners of each; None: not published, or nobody knows


class HandedOver:
    """Posts of one call, waiting for their answers."""

    __slots__ = ("answers", "count", "future", "size")

    def __init__(self, posts: Sequence[Post], size: int) -> None:
        self.count = len(posts)
        self.size = size
        self.answers: Answers = []
        self.future: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()

    def finish(self) -> None:
        """Whatever has no answer by now gets none."""
        if not self.future.done():
            self.future.set_result(self.answers + [None] * (self.count - len(self.answers)))


class Publisher:
    """Publishes in the order of calls."""

    def __init__(self, link: Callable[[], Any], greeting: Callable[[], Post], timing: BusTiming, counters: BusCounters) -> None:
        """`link` makes connections; `greeting` is the first that is published on each."""
        self.away = True
        self.tried = asyncio.Event()  # the first attempt is over
        self._link = link
        self._greeting = greeting
        self._timing = timing
        self._counters = counters
        self._outgoing: list[Post] = []
        self._wake = asyncio.Event()
        self._waiting: deque[HandedOver] = deque()
        self._waiting_bytes = 0
        self._session: list[asyncio.Task[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Connect, and keep connected beside the rest."""
        self._task = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Drop the connection."""
        self._closing = True
        if self._task is not None:
            await end(self._task)

    def hand_over(self, posts: Sequence[Post]) -> HandedOver:
        """Put in line behind everything handed over before, at once. While Redis is away, or too much waits, it is refused at once too."""
        size = sum(len(payload) + COMMAND_BYTES for _, payload in posts)
        if not self.away and self._waiting_bytes + size <= self._timing.waiting_bytes:
            return self._queue(posts, size)
        refused = HandedOver(posts, size)
        refused.finish()
        return refused

    async def answers(self, handed_over: HandedOver) -> Answers:
        """Wait for the answers to what was handed over, `timing.publish` seconds at most. Never raises."""
        try:
            async with asyncio.timeout(self._timing.publish):
                return await handed_over.future
        except TimeoutError:
            self._drop()
            return [None] * handed_over.count

    async def publish(self, posts: Sequence[Post]) -> Answers:
        """Hand over and wait."""
        return await self.answers(self.hand_over(posts))

    def post(self, post: Post) -> None:
        """Hand over without waiting for an answer. It goes after everything handed over before."""
        if not self.away:
            handed_over = self._queue([post], 0)
            asyncio.get_running_loop().call_later(self._timing.publish, self._expect, handed_over)

    def _expect(self, handed_over: HandedOver) -> None:
        if not handed_over.future.done():
            self._drop()

    def _queue(self, posts: Sequence[Post], size: int) -> HandedOver:
        handed_over = HandedOver(posts, size)
        self._waiting.append(handed_over)
        self._waiting_bytes += size
        self._outgoing += posts
        self._wake.set()
        return handed_over

    def _drop(self) -> None:
        """This connection is of no use."""
        self.away = True
        for task in self._session:
            task.cancel()

    # ------------------------------------------------------------------------------------------------------------------- connection

    async def _keep(self) -> None:
        while not self._closing:
            connection = self._link()
            try:
                async with asyncio.timeout(self._timing.publish):
                    await connection.connect()
                self._counters.publisher_connects += 1
                await self._use(connection)
            except AWAY:
                pass  # what failed for it is counted by whoever handed it over
            except Exception as error:
                self._fault(error)
            finally:
                self.away = True
                self.tried.set()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(self._timing.retry)

    async def _use(self, connection: Any) -> None:
        """Until it fails."""
        self._outgoing.clear()
        greeting = self._queue([self._greeting()], 0)
        self._session = [asyncio.create_task(self._write(connection)), asyncio.create_task(self._read(connection))]
        try:
            first: list[asyncio.Future[Any]] = [*self._session, greeting.future]
            await asyncio.wait(first, timeout=self._timing.publish, return_when=asyncio.FIRST_COMPLETED)
            if greeting.future.done():
                self.away = False
                self.tried.set()
                await asyncio.wait(self._session, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._drop()
            ends = await asyncio.gather(*self._session, return_exceptions=True)
            self._fail_waiting()
        for reason in ends:
            if isinstance(reason, Exception) and not isinstance(reason, AWAY):
                self._fault(reason)

    async def _write(self, connection: Any) -> None:
        while connection.is_connected:  # it would else connect by itself
            words: list[bytes] = []
            outgoing, self._outgoing = self._outgoing, []
            for channel, payload in outgoing:
                words += connection.pack_command("PUBLISH", channel, payload)
            if words:
                await connection.send_packed_command(words, check_health=False)
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _read(self, connection: Any) -> None:
        while True:
            try:
                answer = await connection.read_response()
            except ResponseError:
                answer = None  # refused, for this one
            first = self._waiting[0]
            first.answers.append(answer)
            if len(first.answers) == first.count:
                self._waiting.popleft()
                self._waiting_bytes -= first.size
                first.finish()

    def _fail_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().finish()
        self._waiting_bytes = 0

    def _fault(self, error: Exception) -> None:
        self._counters.faults += 1
        structlog.get_logger().error("bus_fault", part="publisher", error=type(error).__name__)
