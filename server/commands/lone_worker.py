"""One worker in the foreground, without a supervisor: `python -m veredus.server.commands.lone_worker CONFIG`.

For tests of load. Says `serving` on standard output when it does, and stops in order at SIGTERM.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path

import uvloop

from veredus.server.config import load
from veredus.server.wiring import Worker, serve


def _serving(_: Worker) -> None:
    # As in a worker under the supervisor: what lives for ever is not looked at again.
    gc.collect()
    gc.freeze()
    print("serving", flush=True)


async def _run(config: Path) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await serve(load(config, {}), ready=_serving, stopping=stopping)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(Path(sys.argv[1])))
