"""The workload finds nothing wrong with a server that keeps the promises, and finds what one breaks that does not."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.checker.workload import Mix, Workload, run
from tests.fakes.server import FakeServer
from veredus.client import Credentials

ACCOUNTS = (UUID(int=1), UUID(int=2), UUID(int=3))
QUICK = Mix(reconnect=0.1, quiescence_seconds=0.5, drain_seconds=0.5)


def everybody() -> list[Credentials]:
    return [FakeServer.credentials(account, device) for account in ACCOUNTS for device in (1, 2)]


@pytest.mark.parametrize("seed", range(3))
async def test_a_server_that_keeps_the_promises_passes(seed: int) -> None:
    async with FakeServer() as server:
        report = await run(server.url, everybody(), seed, 600, Mix(reconnect=0.1))
    assert report.kept, report
    assert report.tally.sent > 500
    assert report.tally.refused > 0
    assert report.tally.reconnects > 0


async def test_a_stored_message_that_disappears_is_reported_as_lost_and_not_waited_for_forever() -> None:
    async with FakeServer() as server:
        workload = Workload(server.url, everybody(), 1, QUICK)
        server.levers.lose = True
        report = await workload.run(200)
    assert {violation.promise for violation in report.violations} == {"P2", "P5"}
