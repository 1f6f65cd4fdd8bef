"""Drives `supervised_app`: starts it, waits for its events, asks it for answers, ends it. Not a test."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = Path(__file__).with_name("supervised_app.py")
BOUND = 40.0  # seconds any wait may take: generous, for two cores shared with everything else
# A hang limit that a starved but healthy worker does not meet; everything else as short as the test can bear.
QUICK = {"beat_seconds": 0.05, "hang_seconds": 10.0, "abort_seconds": 0.2, "restart_seconds": 0.01, "address_seconds": 0.0}
# Becomes the program with a listening socket as fd 3, as a service manager would hand it over.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


class Supervised:
    """The running service. Leaving the block kills what is left of it."""

    def __init__(self, folder: Path, workers: int = 2, *, drain: str = "", environ: dict[str, str] | None = None, **limits: float) -> None:
        self.faults = folder / "faults"
        self.faults.mkdir(exist_ok=True)
        options: dict[str, Any] = {
            "workers": workers,
            "ports": [0],
            "limits": QUICK | limits,
            "faults": str(self.faults),
            "drain": drain,
            "config": "",
        }
        self._stderr = (folder / "stderr").open("w+b")
        self.events: list[dict[str, Any]] = []
        self._rest = b""
        self._options = options
        self._environ = os.environ | (environ or {})
        self.port = 0

    def start(self, *prefix: str, pass_fds: tuple[int, ...] = ()) -> Supervised:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(PROGRAM), json.dumps(self._options)],
            stdout=subprocess.PIPE, stderr=self._stderr, stdin=subprocess.DEVNULL, env=self._environ, pass_fds=pass_fds,
            start_new_session=True,
        )  # fmt: skip
        return self

    def listen_on(self, *ports: int) -> Supervised:
        self._options["ports"] = list(ports)
        return self

    def with_workers_of(self, config: Path) -> Supervised:
        """Workers of the product instead."""
        self._options["config"] = str(config)
        return self

    def started(self) -> Supervised:
        """Start it and wait until all workers serve."""
        self.start()
        return self.settled()

    def settled(self) -> Supervised:
        self.port = self.wait_for("ready")["ports"][0]
        for index in range(self._options["workers"]):
            self.wait_for("serving", index=index)  # each says so a moment after it told the supervisor
        return self

    # ---- what it says

    def wait_for(self, event: str, *, since: int = 0, **match: object) -> dict[str, Any]:
        """The first such event after the first `since` events."""
        return self._first(since, lambda told: told["event"] == event and all(told[name] == value for name, value in match.items()))

    def wait_for_log(self, part: str, since: int = 0) -> None:
        """A log line of the supervisor or a worker with these words in it."""
        self._first(since, lambda told: told["event"] == "log" and part in told["text"])

    def logged(self, part: str) -> bool:
        """Whether such a line has been read already."""
        return any(told["event"] == "log" and part in told["text"] for told in self.events)

    def _first(self, looked: int, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + BOUND
        while True:
            for told in self.events[looked:]:
                if wanted(told):
                    return told
            looked = max(looked, len(self.events))
            if not self._read(deadline):
                raise AssertionError(f"what was waited for is not in {self.events}\n{self.stderr()}")

    def serving(self) -> dict[int, int]:
        """Pid by index, of the last to say so."""
        return {told["index"]: told["pid"] for told in self.events if told["event"] == "serving"}

    def count(self, event: str) -> int:
        return sum(1 for told in self.events if told["event"] == event)

    def stderr(self) -> str:
        return os.pread(self._stderr.fileno(), 1_000_000, 0).decode(errors="replace")

    def _read(self, deadline: float) -> bool:
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        chunk = os.read(fd, 65_536)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        return bool(chunk)

    # ---- what it does

    def ask(self, path: str = "/") -> tuple[int, int]:
        """(pid, index) of the worker that answered a new connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=BOUND) as connection:
            connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
        if not answer:
            raise ConnectionResetError("closed without an answer")
        pid, index = answer.split(b"\r\n\r\n")[1].split()
        return int(pid), int(index)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """The exit status once it has ended, with everything it said read."""
        deadline = time.monotonic() + BOUND
        while self._read(deadline):
            pass
        return self.process.wait(BOUND)

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if error is not None:
            sys.stderr.write(self.stderr())
        self._stderr.close()


class Load:
    """Connections one after the other from some threads, until the block ends. `outcomes` counts answers by pid and errors by type."""

    def __init__(self, service: Supervised, threads: int = 4) -> None:
        self._service = service
        self._done = threading.Event()
        self._changed = threading.Condition()
        self.outcomes: Counter[int | str] = Counter()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def wait_for_answers(self, more: int) -> None:
        """Until so many more answers have come."""
        with self._changed:
            wanted = self._answers() + more
            assert self._changed.wait_for(lambda: self._answers() >= wanted, BOUND), self.outcomes

    @property
    def errors(self) -> dict[int | str, int]:
        return {what: count for what, count in self.outcomes.items() if isinstance(what, str)}

    def _answers(self) -> int:
        return sum(count for what, count in self.outcomes.items() if isinstance(what, int))

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                outcome: int | str = self._service.ask()[0]
            except OSError as error:
                outcome = type(error).__name__
            with self._changed:
                self.outcomes[outcome] += 1
                self._changed.notify_all()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
