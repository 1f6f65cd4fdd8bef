"""A supervised service to be ended in every way: each worker answers HTTP with its pid, or is a worker of the product when a configuration
file is named. A program, not a test; `supervised` drives it.

Arguments: one JSON object. Events are JSON lines on standard output, from the supervisor and from workers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

from veredus.server import wiring
from veredus.server.config import Config, load
from veredus.server.failure import StartFailed
from veredus.server.process import worker
from veredus.server.process.contract import ProcessLimits, SupervisorSpec, WorkerContext
from veredus.server.process.sockets import BACKLOG, Address
from veredus.server.process.supervisor import Supervisor
from veredus.server.wiring import Worker


def tell(event: str, **more: object) -> None:
    """One write, so that lines of several processes stay whole."""
    os.write(1, (json.dumps({"event": event, "pid": os.getpid(), **more}) + "\n").encode())


class Told(logging.Handler):
    """The log as events, so that a test can wait for a line."""

    def emit(self, record: logging.LogRecord) -> None:
        tell("log", text=record.getMessage())


class Connections:
    """Those open now, and when there are none."""

    def __init__(self) -> None:
        self.count = 0
        self.none = asyncio.Event()
        self.none.set()

    def changed(self, by: int) -> None:
        self.count += by
        self.none.clear() if self.count else self.none.set()


class Answer(asyncio.Protocol):
    """One request, one answer, close."""

    def __init__(self, index: int, connections: Connections) -> None:
        self._connections = connections
        self._body = b"%d %d" % (os.getpid(), index)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._connections.changed(+1)

    def data_received(self, data: bytes) -> None:
        if b"/hang" in data:
            time.sleep(600)
        self._transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(self._body), self._body))
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.changed(-1)


def run(context: WorkerContext, options: dict[str, Any]) -> int:
    """A worker, with the fault planted for its slot, if any."""
    planted = Path(options["faults"], str(context.index))
    fault = planted.read_text() if planted.exists() else ""
    if fault:
        tell("boot fault", index=context.index, how=fault)
    if fault == "exit":
        return 9
    return worker.run(context, lambda context, stop: serve(context, stop, fault, options["drain"]))


async def serve(context: WorkerContext, stop: asyncio.Event, fault: str, drain: str) -> None:
    if fault == "start failed":
        raise StartFailed("the cellar is flooded")
    if fault == "never ready":
        await asyncio.Event().wait()
    loop = asyncio.get_running_loop()
    connections = Connections()
    servers = [await loop.create_server(lambda: Answer(context.index, connections), sock=s, backlog=BACKLOG) for s in context.sockets]
    tell("about to be ready", index=context.index)
    context.ready()
    names = [listener.name for listener in context.listeners]
    tell("serving", index=context.index, incarnation=context.incarnation, names=names, open=sorted(os.listdir("/proc/self/fd")))
    await stop.wait()
    for server in servers:
        server.close()
    tell("draining", index=context.index)
    if drain == "never":
        await asyncio.Event().wait()
    await connections.none.wait()
    tell("drained", index=context.index)


def product(context: WorkerContext, config: Config) -> int:
    """A real worker."""

    def ready(_: Worker) -> None:
        context.ready()
        tell("serving", index=context.index, incarnation=context.incarnation)

    return worker.run(context, lambda context, stop: wiring.serve(config, ready=ready, stopping=stop, sockets=context.sockets))


def main() -> int:
    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, handlers=[Told()])
    config = load(Path(options["config"]), {}) if options["config"] else None
    spec = SupervisorSpec(
        worker_main=lambda context: product(context, config) if config else run(context, options),
        addresses=tuple(Address("127.0.0.1", port) for port in options["ports"]),
        workers=options["workers"],
        limits=ProcessLimits(**options["limits"]),
        on_ready=lambda addresses: tell("ready", ports=[address.port for address in addresses]),
    )
    try:
        return Supervisor(spec).run()
    except StartFailed as failure:
        print(failure, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
