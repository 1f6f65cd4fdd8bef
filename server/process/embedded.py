"""PostgreSQL and Redis of our own in a data folder, for development and the tests: the owner's side.

Finds the servers, lays out the folder, starts the watcher that runs them, and talks to it. Never starts a server itself, never opens a
database connection. They listen on private unix sockets only; whoever can enter the folder is trusted.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from veredus.server.failure import StartFailed
from veredus.server.process import binaries, folder

START_TIMEOUT = 360.0  # seconds: redo after a crash (300) and a folder still being left (40)
STOP_TIMEOUT = 40.0  # seconds: the slowest stop of both servers is 30


class Embedded:
    """Both stores, running. Use as a context manager, or call `stop`; a killed owner is noticed and cleaned up after.

    Raises `StartFailed` with one line when a server is missing, the folder is in use, or a server does not start.
    """

    def __init__(self, data_dir: Path, *, installed: bool = True) -> None:
        """Start both and wait until they answer. `installed=False` uses the servers that came with pip only."""
        self._owner = os.getpid()
        self._place = folder.settle(data_dir)
        postgres = binaries.postgres(installed=installed, major=self._place.major())
        redis = binaries.redis(installed=installed)
        self.versions = {"postgres": postgres.text, "redis": redis.text}
        account = self._place.account
        order = {
            "owner": self._owner,
            "uid": account.uid if account else None,
            "gid": account.gid if account else None,
            "stores": str(self._place.stores),
            "sockets": str(self._place.sockets),
            "postgres": str(folder.reachable_program(postgres, account).program),
            "redis": str(folder.reachable_program(redis, account).program),
        }
        self._watcher = _start_watcher()
        try:
            self._say(json.dumps(order))
            self._hear(START_TIMEOUT)
        except BaseException:
            self.stop()
            raise
        self.postgres = Handle(self, "postgres")
        self.redis = Handle(self, "redis")

    @property
    def notices(self) -> list[str]:
        """Lines the operator should read."""
        return self._place.notices

    @property
    def folder(self) -> Path:
        """Where the data is, which is not always where it was asked to be."""
        return self._place.stores.parent

    @property
    def sockets(self) -> Path:
        """Where both servers listen."""
        return self._place.sockets

    @property
    def dsn(self) -> str:
        """For asyncpg, of the database `veredus`."""
        return self.dsn_of("veredus")

    def dsn_of(self, database: str) -> str:
        return f"postgresql://veredus@/{quote(database, safe='')}?host={quote(str(self._place.sockets), safe='')}"

    @property
    def redis_url(self) -> str:
        """For redis-py, of database 0."""
        return f"unix://{quote(str(self._place.sockets))}/redis.sock"

    @property
    def watcher_pid(self) -> int:
        return self._watcher.pid

    def stop(self) -> None:
        """Stop both cleanly and wait for it. Safe to repeat; does nothing in a fork of the owner."""
        if os.getpid() != self._owner:
            return
        assert self._watcher.stdin is not None
        assert self._watcher.stdout is not None
        if not self._watcher.stdin.closed:
            try:
                # Said in words too: a fork of ours may hold the pipe open.
                self._say("end")
                self._watcher.stdin.close()
            except (OSError, StartFailed):
                pass  # the watcher is gone already, and its servers with it
        try:
            self._watcher.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._watcher.kill()  # the kernel then signals the servers; the next start waits for them
            self._watcher.wait()
        self._watcher.stdout.close()

    def command(self, verb: str, server: str) -> dict[str, Any]:
        """Have the watcher start, stop or kill one server. Raises `StartFailed` when it could not."""
        self._say(f"{verb} {server}")
        return self._hear(START_TIMEOUT)

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _say(self, line: str) -> None:
        assert self._watcher.stdin
        try:
            self._watcher.stdin.write(line.encode() + b"\n")
        except OSError as error:
            raise StartFailed("the watcher of the embedded stores is gone") from error

    def _hear(self, timeout: float) -> dict[str, Any]:
        assert self._watcher.stdout
        deadline, heard = time.monotonic() + timeout, b""
        while not heard.endswith(b"\n"):
            ready, _, _ = select.select([self._watcher.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._watcher.stdout.fileno(), 4096) if ready else b""
            if not chunk:
                raise StartFailed(f"the watcher of the embedded stores {'ended' if ready else 'does not answer'}")
            heard += chunk
        answer: dict[str, Any] = json.loads(heard)
        if "error" in answer:
            raise StartFailed(answer["error"])
        return answer


class Handle:
    """One of the two servers, for those who test what happens without it."""

    def __init__(self, embedded: Embedded, name: str) -> None:
        self._embedded = embedded
        self._name = name

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        self._embedded.command("start", self._name)

    def stop(self) -> None:
        """Stop it cleanly; it stays down until `start`."""
        self._embedded.command("stop", self._name)

    def kill(self) -> None:
        """SIGKILL its main process; it stays down until `start`."""
        self._embedded.command("kill", self._name)

    @property
    def pid(self) -> int:
        """Its main process; 0 while down."""
        return int(self._embedded.command("pid", self._name)["pid"])


def _start_watcher() -> subprocess.Popen[bytes]:
    # A session of its own: the terminal's signals are the owner's.
    return subprocess.Popen(
        [sys.executable, "-m", "veredus.server.process.watcher"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0,
    )  # fmt: skip
