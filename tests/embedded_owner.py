"""Owners of embedded stores as processes of their own, to be ended in every way. Not a test."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

SCRIPT = """
import json, os, sys, time
from pathlib import Path
from veredus.server.process.embedded import Embedded
import signal
how = sys.argv[2]
with Embedded(Path(sys.argv[1]), installed=sys.argv[3] == "installed") as stores:
    if how == "fork" and os.fork() == 0:
        signal.pause()
    print(json.dumps({"watcher": stores.watcher_pid, "postgres": stores.postgres.pid, "redis": stores.redis.pid, "dsn": stores.dsn,
                      "redis_url": stores.redis_url, "versions": stores.versions, "folder": str(stores.folder)}), flush=True)
    if how == "return without stop":
        type(stores).__exit__ = lambda *_: None
    sys.stdin.read(1)
    if how == "exception":
        raise RuntimeError("on purpose")
"""
EXIT_TIMEOUT = 45.0


def interpreter_for(user: str) -> list[str] | None:
    """A Python that this user can run with our code, and `env` to give it the path; None when this checkout is closed to others."""
    path = f"{Path(__file__).parents[1] / 'build/pyroot'}:{sysconfig.get_path('purelib')}"
    for program in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        command = ["/usr/bin/env", f"PYTHONPATH={path}", program]
        probe = subprocess.run(
            [*command, "-c", "import veredus.server.process.watcher, veredus.server.process.embedded"],
            user=user, group=primary_group(user), extra_groups=[], cwd="/", capture_output=True,
        )  # fmt: skip
        if probe.returncode == 0:
            return command
    return None


class Owner:
    """A process that starts embedded stores on a folder and tells of them; it goes on until its input ends or it is killed."""

    def __init__(self, data: Path, how: str = "return", *, user: str | None = None, installed: bool = True) -> None:
        python = interpreter_for(user) if user else [sys.executable]
        assert python
        self.process = subprocess.Popen(
            [*python, "-c", SCRIPT, str(data), how, "installed" if installed else "wheel"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", user=user, group=user and primary_group(user),
            extra_groups=user and [], start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1].decode())
        self.told = json.loads(line)
        self._watcher = psutil.Process(self.told["watcher"])
        self._family = [self._watcher, *self._watcher.children(recursive=True)]

    @property
    def dsn(self) -> str:
        return str(self.told["dsn"])

    def family(self) -> list[int]:
        """The watcher and everything below it, as of now."""
        return [process.pid for process in (self._watcher, *self._watcher.children(recursive=True))]

    def users(self) -> set[str]:
        """Whom they run as; PostgreSQL's short-lived processes may be gone by the time they are asked."""
        found: set[str] = set()
        for process in (self._watcher, *self._watcher.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                found.add(process.username())
        return found

    def end(self) -> int:
        """Let it go on to its end and wait for that."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(EXIT_TIMEOUT)

    def signal(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(EXIT_TIMEOUT)

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        # Its forks too, and whatever a failed test left stopped or running.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for process in self._family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def primary_group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def wait_gone(pids: list[int], seconds: float = EXIT_TIMEOUT) -> None:
    """Wait until all these processes have ended; fails after `seconds`. An unreaped one has ended."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ready, _, _ = select.select([watched], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(watched)
        assert ready, f"process {pid} still runs: {psutil.Process(pid).cmdline()}"
