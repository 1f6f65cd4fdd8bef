"""What a storm rages over: two nodes against the same stores, each reaching them over a network of its own, and a balancer before both.

Starts, watches and ends processes; causes no fault by itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.ground import ROOT, Ground
from tests.chaos.proxy import Address, Proxy
from tests.stores import migrate
from veredus.server.process.embedded import Embedded

PROGRAM = ROOT / "tests" / "supervised_app.py"
SOCKETS = {"postgres": ".s.PGSQL.5432", "redis": "redis.sock"}
WORKERS = 2
READY_SECONDS = 60.0
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """In a child before exec: nothing of a storm outlives it, however it ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Node:
    """A supervisor and its workers. `network` are its ways to PostgreSQL and Redis."""

    def __init__(self, name: str, ground: Ground, network: dict[str, Proxy], hang_seconds: float) -> None:
        self.name = name
        self.ground = ground
        self.network = network
        self.pids: dict[int, int] = {}  # of the worker last ready in each slot
        self.unasked = 0  # times the supervisor ended by itself
        self.log: list[str] = []
        self._hang_seconds = hang_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._changed = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the supervisor; `ready` waits for its workers."""
        options = {
            "workers": WORKERS, "ports": [self.ground.port], "limits": {"hang_seconds": self._hang_seconds}, "drain": "",
            "faults": str(self.ground.file.parent), "config": str(self.ground.file),
        }  # fmt: skip
        self.pids = {}
        with (self.ground.file.parent / "stderr").open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, str(PROGRAM), json.dumps(options), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=stderr, start_new_session=True, preexec_fn=end_with_parent, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self._process))

    async def ready(self) -> None:
        """All workers serve."""
        async with asyncio.timeout(READY_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.pids) == WORKERS)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """kill -9 of the supervisor alone."""
        assert self._process is not None
        process, self._process = self._process, None
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def clear(self) -> None:
        """End everything of this node."""
        for pid in self.pids.values():
            signalled(pid, signal.SIGKILL)
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            told: dict[str, Any] = json.loads(line)
            if told["event"] == "serving" and process is self._process:
                self.pids[told["index"]] = told["pid"]
            elif told["event"] == "log":
                self.log.append(told["text"])
                del self.log[:-500]
            async with self._changed:
                self._changed.notify_all()
        if process is self._process:  # nobody killed it
            self.unasked += 1
            await process.wait()
            await self.start()


class Place:
    """Everything there is. `front` is the balancer that clients know."""

    def __init__(self, stores: Embedded, nodes: list[Node], front: Proxy) -> None:
        self.stores = stores
        self.nodes = nodes
        self.front = front

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.front.port}/v1/websocket"


@asynccontextmanager
async def place(folder: Path, seed: int, hang_seconds: tuple[float, float]) -> AsyncIterator[Place]:
    """Two nodes, ready. Workers that hang are killed after so long, by node; the product's default is 15 s."""
    async with AsyncExitStack() as stack:
        stores = stack.enter_context(Embedded(folder / "data"))
        await migrate(stores.dsn)
        nodes: list[Node] = []
        for number, hang in enumerate(hang_seconds):
            node = _node(folder / f"n{number}", stores, hang)
            nodes.append(node)
            for socket, proxy in node.network.items():
                await proxy.listen(str(node.ground.file.with_name(SOCKETS[socket])))
                stack.push_async_callback(proxy.close)
            stack.push_async_callback(node.clear)
            await node.start()
        choice = random.Random(f"front {seed}")

        def upstreams() -> list[Address]:
            ports = [node.ground.port for node in nodes]
            choice.shuffle(ports)
            return [("127.0.0.1", port) for port in ports]

        front = Proxy(upstreams)
        await front.listen(("127.0.0.1", 0))
        stack.push_async_callback(front.close)
        for node in nodes:
            await node.ready()
        yield Place(stores, nodes, front)


def _node(folder: Path, stores: Embedded, hang_seconds: float) -> Node:
    folder.mkdir()
    folder.chmod(0o711)
    network = {}
    for name, socket in SOCKETS.items():
        network[name] = Proxy(partial(list, [str(stores.sockets / socket)]))
    ground = Ground(folder, f"postgresql://veredus@/veredus?host={folder}", f"unix://{folder}/redis.sock")
    return Node(folder.name, ground, network, hang_seconds)


def signalled(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process that may be gone; whether it was there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
