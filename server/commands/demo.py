"""The demonstration of `veredus dev`: two real accounts, two real messages, and when each came through which stage.

Judges what it shows: a message that does not arrive whole, once, and through every stage is a failure.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from veredus.client import Client, ClientClosed, ConnectionRefused, Credentials, Message, SendRefused
from veredus.server.commands import account
from veredus.server.config import Config
from veredus.server.timeline import STAGES, RecentTimeline
from veredus.server.wiring import Worker

ACCOUNTS_FILE = "demo-accounts"
SECONDS = 30.0  # for all of it; a healthy run takes a fraction of one
POLL = 0.005  # the timeline is written where nobody waits for it
WIDTH = 12


T = TypeVar("T")


class DemoFailed(Exception):
    """A message did not do what it should. The text says which and what."""


class Row(NamedTuple):
    """One message's journey, in milliseconds since it was accepted, and as the clients measured it."""

    name: str
    stages: Mapping[str, float]
    answered: float
    received: float


async def run(config: Config, worker: Worker, file: Path, versions: Mapping[str, str]) -> bool:
    """Show it. Says whether everything went as it should."""
    try:
        async with asyncio.timeout(SECONDS):
            url = worker.url.replace("http", "ws", 1)
            alice, bob = await _accounts(config, url)
            print(_welcome(worker.url, url, alice, bob, file, versions), flush=True)
            assert worker.timeline is not None
            rows = await _show(Stage(f"{url}/v1/websocket", alice, bob, worker.timeline))
    except TimeoutError:
        print(f"demonstration FAILED: not done after {SECONDS:g} s", flush=True)
    except (DemoFailed, SendRefused, ConnectionRefused, ClientClosed) as failure:
        print(f"demonstration FAILED: {failure}", flush=True)
    else:
        print(table(rows), flush=True)
        return True
    return False


class Stage(NamedTuple):
    """Where it plays and who plays."""

    url: str
    alice: Credentials
    bob: Credentials
    timeline: RecentTimeline


async def _show(stage: Stage) -> list[Row]:
    alice, bob = Client(stage.url, stage.alice), Client(stage.url, stage.bob)
    try:
        await alice.connect()
        await bob.connect()
        await bob.drained()
        online = await _journey(stage, alice, bob, connected=True)
        await bob.close()
        bob = Client(stage.url, stage.bob)
        away = await _journey(stage, alice, bob, connected=False)
    finally:
        await alice.close()
        await bob.close()
    return [online, away]


async def _journey(stage: Stage, alice: Client, bob: Client, connected: bool) -> Row:
    """Send one message to Bob, who if need be connects once it is stored, and follow it to its end."""
    name = "to a device online" if connected else "to one that was away"
    text = f"hello, this goes {name}"
    began = time.perf_counter()
    sending = asyncio.ensure_future(_timed(alice.send(stage.bob.account, text)))
    if not connected:
        await sending  # stored before he comes
        await bob.connect()
    (sent, answered), (message, received) = await asyncio.gather(sending, _timed(_first(bob)))
    if (message.guid, message.text, message.source) != (sent.guid, text, stage.alice.account):
        raise DemoFailed(f"the message {name} arrived as another one")
    await message.ack()
    stages = await _stages(stage.timeline, sent.guid, name)
    await bob.sync()
    if bob.take():
        raise DemoFailed(f"the message {name} arrived more than once")
    return Row(name, stages, (answered - began) * 1000, (received - began) * 1000)


async def _timed(step: Coroutine[Any, Any, T]) -> tuple[T, float]:
    return await step, time.perf_counter()


async def _first(client: Client) -> Message:
    async for message in client.messages():
        return message
    raise DemoFailed("the connection ended before the message came")


async def _stages(timeline: RecentTimeline, guid: UUID, name: str) -> Mapping[str, float]:
    """All stages, once the last is reached."""
    deadline = time.monotonic() + SECONDS / 3
    while True:
        reached = timeline.milliseconds(guid.bytes)
        missing = [stage for stage in STAGES if stage not in reached]
        if not missing:
            return reached
        if time.monotonic() > deadline:
            raise DemoFailed(f"the message {name} was never {', '.join(missing)}")
        await asyncio.sleep(POLL)


def table(rows: list[Row]) -> str:
    """The journeys, aligned."""
    label = max(len(row.name) for row in rows)
    lines = ["", "milliseconds since accepted:", " " * label + "".join(f"{stage:>{WIDTH + 1}}" for stage in STAGES)]
    lines += [f"{row.name:<{label}}" + "".join(f"{row.stages[stage]:>{WIDTH + 1}.1f}" for stage in STAGES) for row in rows]
    lines += ["", "milliseconds since sent, as the clients saw it:", " " * label + f"{'answered':>{WIDTH + 1}}{'received':>{WIDTH + 1}}"]
    lines += [f"{row.name:<{label}}{row.answered:>{WIDTH + 1}.1f}{row.received:>{WIDTH + 1}.1f}" for row in rows]
    return "\n".join(lines)


def _welcome(http: str, url: str, alice: Credentials, bob: Credentials, file: Path, versions: Mapping[str, str]) -> str:
    return "\n".join(
        [
            f"PostgreSQL {versions['postgres']}, Redis {versions['redis']}, data in {file.parent}",
            "",
            f"  HTTP       {http}/health",
            f"  WebSocket  {url}/v1/websocket",
            "",
            "two demo accounts; run one of these in each of two more terminals, and talk:",
            "",
            f"  {_command()} chat {url} --as {_line(alice)} --to {bob.account}",
            f"  {_command()} chat {url} --as {_line(bob)} --to {alice.account}",
            "",
            "another account:",
            "",
            f"  {_command()} account create --config {shlex.quote(str(file))}",
        ]
    )


def _command() -> str:
    """How this program was called, so that the lines can be pasted."""
    return shlex.quote(os.path.relpath(sys.argv[0])) if os.path.basename(sys.argv[0]) == "veredus" else "python -m veredus.server"


def _line(credentials: Credentials) -> str:
    return f"{credentials.account}.{credentials.device}:{credentials.password}"


async def _accounts(config: Config, url: str) -> tuple[Credentials, Credentials]:
    """The accounts of an earlier run on this data, if they still are, else new ones."""
    assert config.data_dir is not None
    file = config.data_dir / ACCOUNTS_FILE
    try:
        alice, bob = map(Credentials.parse, file.read_text(encoding="utf-8").split())
        await _try(url, alice)
        await _try(url, bob)
    except (FileNotFoundError, ValueError, ConnectionRefused):
        alice, bob = [Credentials.parse((await account.create(config))[0].line()) for _ in range(2)]
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(f"{_line(alice)}\n{_line(bob)}\n")
    return alice, bob


async def _try(url: str, credentials: Credentials) -> None:
    client = Client(f"{url}/v1/websocket", credentials)
    try:
        await client.connect()
    finally:
        await client.close()
