"""A port in a process of its own, so that its memory can be weighed apart from its clients'.

Run as `python -m tests.integration.ws_child '{"message_bytes": …}'`: prints its port, then answers each line on its standard input with its
counters as JSON, and ends with its input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import uvloop

from tests.integration.ws_peer import DEADLINE, OpenGate, hello_app
from veredus.core.clock import SystemClock
from veredus.core.limits import Limits
from veredus.server.ws.port import Port, PortConfig


async def main(limits: dict[str, Any]) -> None:
    port = Port(PortConfig(echo=True), Limits(**limits), hello_app, OpenGate(), SystemClock())
    await port.start()
    print(port.addresses[0][1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        gc.collect()
        station: Any = port.station
        print(json.dumps(station.counters() | {"partial_peak": station.budget.peak}), flush=True)
    await port.stop(grace_seconds=0.1)


class Child:
    """The process, from its parent's side."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.address = ("127.0.0.1", port)
        self._stats = psutil.Process(process.pid)

    @property
    def memory(self) -> int:
        """Resident bytes of its own."""
        return int(self._stats.memory_full_info().uss)

    async def counters(self) -> dict[str, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        answer: dict[str, int] = json.loads(await asyncio.wait_for(self.process.stdout.readline(), DEADLINE))
        return answer


@asynccontextmanager
async def child(**limits: Any) -> AsyncIterator[Child]:
    """Run a port with these limits in another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.ws_child", json.dumps(limits),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Child(process, int(await asyncio.wait_for(process.stdout.readline(), DEADLINE)))
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), DEADLINE)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(json.loads(sys.argv[1])))
