"""The process that owns the embedded servers: starts them, restarts one that dies, stops both when it is told or its owner is gone.

Theory of operation. The watcher is the owner's child in a session of its own, so a Ctrl-C at the terminal reaches only the owner. Its
standard input is a pipe from the owner: one JSON line that says what to run, then commands; its end means the owner is gone, however it
ended. A fork of the owner may hold the pipe open longer than he lives, so the parent's pid is looked at too. The servers get a signal from
the kernel should the watcher itself be killed. The lock on the folder is the watcher's: it lasts until the servers are down, and a next
owner waits for that. Started by root, it becomes the servers' user before it touches the folder.

Run as `python -m veredus.server.process.watcher` by `embedded`, never by hand. Standard library only: it must be small and start fast.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from veredus.server.process.servers import PostgreSQL, Redis, Server, ServerFailed

TICK = 1.0  # seconds between looks at the owner and the servers when nothing else wakes the watcher
RESTART_PAUSE = 1.0  # seconds before a server that died is started again: one that dies at once must not spin
LOCK_TIMEOUT = 40.0  # seconds to wait for the watcher of a dead owner: longer than the slowest stop (25 s)
LOCK_POLL = 0.05


class Watcher:
    """Two servers, one owner."""

    def __init__(self, order: dict[str, Any]) -> None:
        stores, sockets = Path(order["stores"]), Path(order["sockets"])
        self._owner: int = order["owner"]
        self._stores, self._sockets = stores, sockets
        self._lock: int | None = None
        self._told_to_stop = False
        self._restart_at: dict[str, float] = {}
        self._servers: dict[str, Server] = {
            "postgres": PostgreSQL(Path(order["postgres"]), stores / "postgres", sockets, stores / "log" / "postgres.log"),
            "redis": Redis(Path(order["redis"]), stores / "redis", sockets, stores / "log" / "redis.log"),
        }

    def run(self) -> None:
        """Start both, serve commands until the owner is gone, stop both. Answers go to standard output, a JSON line each."""
        wake = _signals_into_a_pipe(self._on_signal)
        try:
            self._take_lock()
            (self._stores / "log").mkdir(exist_ok=True)
            for server in self._servers.values():
                server.start(self._go_on)
            _answer({"ok": True})
            self._serve(wake)
        except ServerFailed as failure:
            _answer({"error": str(failure)})
        finally:
            for server in self._servers.values():
                server.begin_stop()
            for server in self._servers.values():
                server.wait_stopped()
            if self._sockets != self._stores:
                with suppress(OSError):  # something of a killed server is still in it: the next start uses it again
                    self._sockets.rmdir()

    def _serve(self, wake: int) -> None:
        pending = b""
        while self._go_on():
            readable, _, _ = select.select([sys.stdin.fileno(), wake], [], [], TICK)
            if wake in readable:
                os.read(wake, 4096)
            self._watch_servers()
            if sys.stdin.fileno() not in readable:
                continue
            chunk = os.read(sys.stdin.fileno(), 4096)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._obey(line.decode().split())

    def _obey(self, words: list[str]) -> None:
        """`end`, or one of start, stop, kill, pid and a server's name."""
        if words == ["end"]:
            self._told_to_stop = True
            return
        verb, name = words
        server = self._servers[name]
        try:
            match verb:
                case "start":
                    server.start(self._go_on)
                case "stop":
                    server.stop()
                case "kill":
                    server.kill()
            _answer({"ok": True, "pid": server.pid})
        except ServerFailed as failure:
            _answer({"error": str(failure)})

    def _watch_servers(self) -> None:
        """Start again, after a pause, what ended without being asked to."""
        for name, server in self._servers.items():
            if not server.wanted or server.running():
                self._restart_at.pop(name, None)
            elif time.monotonic() >= self._restart_at.setdefault(name, time.monotonic() + RESTART_PAUSE):
                del self._restart_at[name]
                try:
                    server.start(self._go_on)
                except ServerFailed as failure:
                    server.wanted = True
                    print(failure, file=sys.stderr, flush=True)

    def _go_on(self) -> bool:
        return not self._told_to_stop and os.getppid() == self._owner

    def _on_signal(self, number: int) -> None:
        if number != signal.SIGCHLD:
            self._told_to_stop = True

    def _take_lock(self) -> None:
        """Own the folder. Waits for the watcher of an owner who is gone; refuses while he lives."""
        lock = os.open(self._stores / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = int(os.pread(lock, 32, 0) or b"0")
                if holder and Path(f"/proc/{holder}").exists():
                    raise ServerFailed(f"the data folder {self._stores.parent} is in use by process {holder}") from None
                if time.monotonic() > deadline or not self._go_on():
                    raise ServerFailed(f"the data folder {self._stores.parent} is still being left by an earlier process") from None
                time.sleep(LOCK_POLL)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(self._owner).encode(), 0)
        self._lock = lock


def _answer(answer: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the owner is gone; the loop sees that next
        os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


def _signals_into_a_pipe(on_signal: Any) -> int:
    """Handlers only note; the pipe wakes `select`, which Python would otherwise resume."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    os.set_blocking(readable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda received, _frame: on_signal(received))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return readable


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main() -> None:
    """Read the order, step down, watch."""
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: the commands behind it belong to the loop
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return
        line += byte
    order = json.loads(line)
    os.umask(0o077)
    if order["uid"] is not None:
        _become(order["uid"], order["gid"])
    os.chdir("/")
    Watcher(order).run()


if __name__ == "__main__":
    main()
