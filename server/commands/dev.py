"""`veredus dev`: everything in one command, for trying it out. Own stores, one worker in this process, the demonstration, then it stays up.

Nothing of it is for production: no TLS, development routes, whoever can read the data folder is trusted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import uvloop
import yaml

from veredus.server import log, wiring
from veredus.server.commands import demo
from veredus.server.commands.faults import told
from veredus.server.commands.migrate import apply
from veredus.server.config import Config, load
from veredus.server.failure import StartFailed
from veredus.server.process.embedded import Embedded
from veredus.server.process.sockets import Address, open_listeners
from veredus.server.secret import Secret
from veredus.server.wiring import Worker

# The demonstration is what is to be read, and whoever tries things out is not held up by the limit of messages.
QUIET = {"VEREDUS_LOG_FORMAT": "console", "VEREDUS_LOG_LEVEL": "warning", "VEREDUS_LIMITS_MESSAGES_PER_MINUTE": "0"}
CONFIG_FILE = "veredus.yaml"
SECRET_FILE = "secret"


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; with --once until the demonstration is over."""
    with _folder(arguments) as folder:
        print(f"starting PostgreSQL and Redis in {folder} …", flush=True)
        with _ended_by_sigterm(), Embedded(folder) as stores:
            for notice in stores.notices:
                print(notice)
            config = _config(arguments, stores)
            log.configure(config.log)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, told():
                return runner.run(_serve(config, stores, arguments.once))


async def _serve(config: Config, stores: Embedded, once: bool) -> int:
    await apply(config.database_url.reveal())
    stopping, serving = asyncio.Event(), asyncio.get_running_loop().create_future()
    _stop_on_signals(stopping)
    # Not by the worker, whose sockets share their address: two of these on one port would take turns.
    sockets = [listener.socket for listener in open_listeners([Address(config.listen.address, config.listen.port)], 1, 0.0).of(0)]
    server = asyncio.create_task(wiring.serve(config, ready=serving.set_result, stopping=stopping, sockets=sockets))
    await asyncio.wait({server, serving}, return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        server.result()  # raises why it did not come up
        return 0
    failed = await _show(config, stores, serving.result(), stopping)
    if once:
        stopping.set()
    elif not stopping.is_set():
        print("\nserving; Ctrl-C ends it", flush=True)
    await server
    return int(failed and once)


async def _show(config: Config, stores: Embedded, worker: Worker, stopping: asyncio.Event) -> bool:
    """The demonstration, unless the end comes first. Says whether it failed."""
    file = _write_config(config, stores.folder, worker)
    shown = asyncio.create_task(demo.run(config, worker, file, stores.versions))
    ended = asyncio.create_task(stopping.wait())
    await asyncio.wait({shown, ended}, return_when=asyncio.FIRST_COMPLETED)
    for task in (shown, ended):
        task.cancel()
    await asyncio.wait({shown, ended})
    return not shown.cancelled() and not shown.result()


def _config(arguments: argparse.Namespace, stores: Embedded) -> Config:
    secret = stores.folder / SECRET_FILE
    if not secret.exists():
        _write_private(secret, secrets.token_urlsafe(48))
    fixed: dict[str, Any] = {
        "database_url": Secret(stores.dsn),
        "redis_url": Secret(stores.redis_url),
        "secret_file": secret,
        "data_dir": stores.folder,
        "development": True,
    }
    port = 0 if arguments.port is None and arguments.once else arguments.port
    if port is not None:
        fixed["listen"] = {"address": "127.0.0.1", "port": port}
    return load(None, {**QUIET, **os.environ}, fixed)


def _write_config(config: Config, folder: Path, worker: Worker) -> Path:
    """The configuration in a file, so that other commands can be used on the same stores while this one runs."""
    file = folder / CONFIG_FILE
    host, port = worker.port.addresses[0]
    given = {
        "database_url": config.database_url.reveal(),
        "redis_url": config.redis_servers[0].reveal(),
        "secret_file": str(config.secret_file),
        "listen": {"address": host, "port": port},
        "development": True,
    }
    _write_private(file, yaml.safe_dump(given, sort_keys=False))
    return file


def _write_private(file: Path, text: str) -> None:
    """Replace a file by one that only its owner can read."""
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    fresh.replace(file)


@contextmanager
def _folder(arguments: argparse.Namespace) -> Iterator[Path]:
    """Where the data is: as wished, else of this user; of --once nothing stays."""
    wished: Path | None = arguments.data_dir
    if wished is None and not arguments.once:
        wished = Path("/var/lib/veredus/dev") if os.geteuid() == 0 else _user_data() / "veredus" / "dev"
    with nullcontext(str(wished)) if wished else tempfile.TemporaryDirectory(prefix="veredus-", dir="/tmp") as folder:
        if not wished:
            # To go through, for the user that the stores run as when we are root; what is inside has rights of its own.
            Path(folder).chmod(0o711)
        yield Path(folder)


def _user_data() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C until the loop takes signals over."""

    def end(_number: int, _frame: object) -> None:
        raise StartFailed("stopped by SIGTERM")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop_on_signals(stopping: asyncio.Event) -> None:
    """The first signal stops gracefully, within the time configured; a second one of its kind as the system has it."""
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
