"""One request as an origin: the first answer counts, and none in time is an unknown result."""

from __future__ import annotations

import asyncio

from veredus.core.errors import Code
from veredus.core.model import Reply
from veredus.server.http.origin import RequestOrigin

SENT = Reply(b"c" * 16, Code.OK, guid=b"g" * 16)


async def test_the_first_answer_counts() -> None:
    origin = RequestOrigin(b"c" * 16)
    origin.answer([])
    origin.answer([SENT])
    origin.result_unknown()
    origin.pause()
    origin.resume()
    assert await origin.reply(1) is SENT


async def test_a_result_that_cannot_be_told_is_unknown() -> None:
    origin = RequestOrigin(b"c" * 16)
    origin.result_unknown()
    assert (await origin.reply(1)).code is Code.RESULT_UNKNOWN


async def test_no_answer_in_time_is_unknown_and_a_late_one_disturbs_nobody() -> None:
    origin = RequestOrigin(b"c" * 16)
    assert (await origin.reply(0.01)).code is Code.RESULT_UNKNOWN
    origin.answer([SENT])


async def test_a_request_that_is_cancelled_leaves_an_origin_that_can_still_be_answered() -> None:
    origin = RequestOrigin(b"c" * 16)
    waiting = asyncio.ensure_future(origin.reply(10))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    origin.answer([SENT])
