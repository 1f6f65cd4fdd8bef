"""The development push provider: what its line says, and what it does not."""

from __future__ import annotations

import structlog

from veredus.core.model import PushVerdict
from veredus.server.providers.log import LogProvider


async def test_a_push_is_one_line_with_a_hash_that_names_nobody() -> None:
    with structlog.testing.capture_logs() as lines:
        one, other = LogProvider(), LogProvider()
        for provider, device in ((one, 123456), (one, 123457), (one, 123456), (other, 123456)):
            assert (await provider.send(device, True)).verdict == PushVerdict.SENT
    assert all(set(line) == {"event", "device", "urgent", "total", "log_level"} for line in lines)
    first, second, again, elsewhere = (line["device"] for line in lines)
    assert first == again
    assert len({first, second, elsewhere}) == 3
    assert "123456" not in str(lines)
    assert [line["total"] for line in lines] == [1, 2, 3, 1]
