"""One server process each: PostgreSQL and Redis as children of the watcher. Starts, waits for the answer, stops, clears what a crash left.

Blocks; runs in the watcher only, which has no loop and no threads. Knows nothing of who wants the servers.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

POLL = 0.01  # seconds between looks at a starting or stopping server; they take 20 to 600 ms
LOG_BYTES = 8 * 1024 * 1024  # a larger log of the last run is set aside at the next start: at most two of these are kept
PR_SET_PDEATHSIG = 1  # prctl(2)
LIBC = ctypes.CDLL(None)  # opened here: between fork and exec nothing may be loaded


class ServerFailed(Exception):
    """A server did not start. The text is one line."""


class Server:
    """A server process. Subclasses say how it is made, asked and stopped."""

    name = ""
    start_timeout = 60.0
    # Signals to stop with, each with the seconds it is given; the last leaves no choice.
    stop_signals: tuple[tuple[signal.Signals, float], ...] = ()

    def __init__(self, program: Path, folder: Path, sockets: Path, log: Path) -> None:
        self.program = program
        self.folder = folder
        self.sockets = sockets
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False  # a server that ends while wanted is started again

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, keep_waiting: Callable[[], bool]) -> None:
        """Start and wait until it answers. Raises `ServerFailed`; `keep_waiting` false ends the wait so too."""
        if self.running():
            return
        self.recover()
        self.prepare()
        _roll(self.log)
        begin = self.log.stat().st_size
        self.process = self.spawn(self.command())
        self.wanted = True
        deadline = time.monotonic() + self.start_timeout
        while not self.ready():
            if not self.running():
                raise ServerFailed(f"{self.name} ended at its start: {_said(self.log, begin)}")
            if time.monotonic() > deadline or not keep_waiting():
                raise ServerFailed(f"{self.name} did not answer in time: {_said(self.log, begin)}")
            time.sleep(POLL)

    def stop(self) -> None:
        """Stop cleanly, harder when that does not help. Returns when it is gone."""
        self.begin_stop()
        self.wait_stopped()

    def begin_stop(self) -> None:
        self.wanted = False
        if self.running():
            os.kill(self.pid, self.stop_signals[0][0])

    def wait_stopped(self) -> None:
        if self.process is None:
            return
        for number, (_, seconds) in enumerate(self.stop_signals):
            if number and self.running():
                os.kill(self.pid, self.stop_signals[number][0])
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
                break
        self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash would be; it stays down until `start`."""
        self.wanted = False
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def recover(self) -> None:
        """Stop what an earlier, killed watcher left running on this folder."""
        for step, seconds in self.stop_signals:
            left = self._left()
            if not left:
                return
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, step)
            deadline = time.monotonic() + seconds
            while self._left() and time.monotonic() < deadline:
                time.sleep(POLL)
        if self._left():
            raise ServerFailed(f"an earlier {self.name} still runs on {self.folder} and does not end")

    def _left(self) -> list[int]:
        """Processes of this program that work in this folder: both servers change into theirs. Zombies have no folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "comm").read_text().strip() == self.program.name and (entry / "cwd").readlink() == self.folder:
                    found.append(int(entry.name))
        return found

    def spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        first = self.stop_signals[0][0]
        with self.log.open("ab") as log:
            # The signal at the parent's death covers a watcher that is itself killed.
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment(self.folder),
                preexec_fn=lambda: _end_with_parent(first),
            )  # fmt: skip

    def prepare(self) -> None:
        raise NotImplementedError

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError


class PostgreSQL(Server):
    """PostgreSQL on a private socket, one superuser `veredus`, one database `veredus`, everything durable."""

    name = "PostgreSQL"
    start_timeout = 300.0  # redo after a crash reads up to max_wal_size
    # Fast shutdown; immediate (redo at the next start); then what a crash is.
    stop_signals = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def recover(self) -> None:
        super().recover()
        # No server runs on the folder: the pid in these files may meanwhile be another program's, or a zombie's, which PostgreSQL takes
        # for its own.
        for stale in (self.folder / "postmaster.pid", self.sockets / ".s.PGSQL.5432", self.sockets / ".s.PGSQL.5432.lock"):
            stale.unlink(missing_ok=True)

    def prepare(self) -> None:
        if self.folder.exists():
            return
        # Made aside and renamed: a kill halfway leaves nothing that looks finished.
        fresh = self.folder.with_name(self.folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        initdb = self.program.with_name("initdb")
        self._run([initdb, "-D", fresh, "-U", "veredus", "--auth=trust", "--encoding=UTF8", "--locale=C"])
        self._run([self.program, "--single", "-D", fresh, "postgres"], b"CREATE DATABASE veredus;\n")
        fresh.rename(self.folder)

    def command(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": '"' + str(self.sockets).replace('"', '""') + '"',  # a list: commas in names need the quotes
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "shared_buffers": f"{_shared_buffers()}MB",
            "max_wal_size": "2GB",  # fewer checkpoints, so fewer full page images; redo stays below a minute
            "checkpoint_timeout": "15min",
            "wal_compression": self._wal_compression(),
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "autovacuum_naptime": "15s",  # mailboxes turn over quickly: dead rows outnumber live ones within a minute
            "autovacuum_vacuum_scale_factor": "0.05",
            "autovacuum_vacuum_cost_limit": "2000",
            "jit": "off",  # statements take microseconds; compiling one takes milliseconds
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Rows appear in DETAIL and in statements: neither belongs in a log.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
        }
        return [self.program, "-D", self.folder, *(f"--{name}={value}" for name, value in settings.items())]

    def ready(self) -> bool:
        """As pg_ctl does: line 8 of postmaster.pid, once the first line is the process we started."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _wal_compression(self) -> str:
        """lz4 where this build has it: a third of the CPU of pglz."""
        probe: list[str | Path] = [self.program, "-D", self.folder, "-C", "wal_compression", "-c", "wal_compression=lz4"]
        done = subprocess.run(probe, capture_output=True, env=environment(self.folder), cwd="/", timeout=30)
        return "lz4" if done.returncode == 0 else "on"

    def _run(self, command: Sequence[str | Path], given: bytes = b"") -> None:
        with self.log.open("ab") as log:
            begin = log.tell()
            done = subprocess.run(command, input=given, stdout=log, stderr=log, cwd="/", env=environment(self.folder), timeout=120)
        if done.returncode:
            raise ServerFailed(f"{Path(command[0]).name} failed: {_said(self.log, begin)}")


class Redis(Server):
    """Redis on a private socket, nothing on disk: it only ever holds hints, caches and transport."""

    name = "Redis"
    stop_signals = ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))

    @property
    def socket(self) -> Path:
        return self.sockets / "redis.sock"

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.socket.unlink(missing_ok=True)

    def command(self) -> Sequence[str | Path]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "databases": "64",  # a test takes one of its own
            "daemonize": "no",
            "always-show-logo": "no",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        # A worker's bus takes a megabyte a frame; the default of 32 MB would cut it off in a burst.
        return [self.program, *words, "--client-output-buffer-limit", "pubsub", "256mb", "128mb", "60"]

    def ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
            except OSError:
                return False


def environment(home: Path) -> dict[str, str]:
    """What a server may know of our environment: PG* variables and locales would change what it does."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, **kept, "HOME": str(home.parent), "LC_ALL": "C", "TZ": "UTC"}


def _shared_buffers() -> int:
    """MiB: an eighth of the memory, 64 to 512; a development machine has other work too."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1024 * 1024)
    return max(64, min(512, memory // 8))


def _end_with_parent(number: int) -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def _roll(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
    log.touch()


def _said(log: Path, begin: int) -> str:
    """The end of what a server said since `begin`, in one line."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-4:]) or "it said nothing"
