"""Ground for fault tests: stores, accounts, and worker processes that can be stopped at a named step and killed there."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from veredus.client import Credentials
from veredus.core.identity.credentials import DeviceSecrets
from veredus.server.config import load
from veredus.server.store.accounts import Secret
from veredus.server.store.postgres import Postgres, StoreConfig

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
NO_LIMIT = "limits: {messages_per_minute: 0}\n"  # few accounts send much


class WorkerProcess:
    """A real worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, wanted: str) -> None:
        """Wait for a line the process prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while line := await self._process.stdout.readline():
                if line.decode().strip() == wanted:
                    return
        raise AssertionError(f"the worker ended before it said {wanted!r}")

    def kill(self) -> None:
        """kill -9."""
        if self._process.returncode is None:
            self._process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        async with asyncio.timeout(START_SECONDS):
            return await self._process.wait()


class Ground:
    """One configuration, any number of workers after one another on the same port."""

    def __init__(self, folder: Path, dsn: str, redis_url: str, limits: str = NO_LIMIT) -> None:
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/v1/websocket"
        secret = folder / "secret"
        secret.write_text("s" * 48)
        self.file = folder / "veredus.yaml"
        self.file.write_text(
            f"database_url: {dsn!r}\nredis_url: {redis_url!r}\nsecret_file: secret\ndevelopment: true\n"
            f"listen: {{address: 127.0.0.1, port: {self.port}}}\nshutdown_seconds: 8\n{limits}"
        )
        self._workers: list[WorkerProcess] = []

    async def accounts(self, number: int, devices: int = 1) -> list[Credentials]:
        """New accounts; the credentials of all their devices."""
        config = load(self.file, {})
        secrets = DeviceSecrets(config.pepper())
        store = Postgres(StoreConfig(dsn=config.database_url.reveal()))
        made = []
        try:
            for _ in range(number):
                uuid = uuid4()
                for device in range(1, devices + 1):
                    issued = secrets.issue()
                    secret = Secret(issued.salt, issued.hash)
                    if device == 1:
                        await store.accounts.create(uuid.bytes, 100 + device, secret)
                    else:
                        await store.accounts.add_device(uuid.bytes, 100 + device, secret, 16)
                    made.append(Credentials(uuid, device, issued.plain))
        finally:
            await store.close()
        return made

    async def worker(self, gate: str = "", passes: int = 0) -> WorkerProcess:
        """Start a worker and wait until it serves. With a `gate` it stops there for good, the `passes`+1st time it comes to it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.gated", str(self.file), gate, str(passes),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        worker = WorkerProcess(process)
        self._workers.append(worker)
        await worker.line("serving")
        return worker

    async def clear(self) -> None:
        for worker in self._workers:
            worker.kill()
            await worker.ended()


@asynccontextmanager
async def ground(folder: Path, dsn: str, redis_url: str, limits: str = NO_LIMIT) -> AsyncIterator[Ground]:
    made = Ground(folder, dsn, redis_url, limits)
    try:
        yield made
    finally:
        await made.clear()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
