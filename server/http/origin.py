"""One HTTP request as the origin of one send."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from veredus.core.errors import Code
from veredus.core.model import Reply


class RequestOrigin:
    """`core.ports.Origin`. The send goes on whatever becomes of the request: a commit is never cancelled, only its answer given up."""

    fresh = True  # the device's last request may have gone to another worker

    def __init__(self, client_id: bytes) -> None:
        self.refusal = Code.OK
        self._client_id = client_id
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def answer(self, replies: Sequence[Reply]) -> None:
        if replies and not self._reply.done():
            self._reply.set_result(replies[0])

    def result_unknown(self) -> None:
        self.answer([self._unknown()])

    def pause(self) -> None:
        """Nothing to do: a request brings one send, there is nothing more to read."""

    def resume(self) -> None:
        """See `pause`."""

    async def reply(self, seconds: float) -> Reply:
        """The answer, or RESULT_UNKNOWN when none came in time: asking again with the same key settles it."""
        try:
            async with asyncio.timeout(seconds):
                return await self._reply
        except TimeoutError:
            return self._unknown()

    def _unknown(self) -> Reply:
        return Reply(client_id=self._client_id, code=Code.RESULT_UNKNOWN, retry_after_ms=1000)
