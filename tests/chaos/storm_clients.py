"""Clients of a storm, as processes of their own: `python -m tests.chaos.storm_clients`, driven over its standard input and output.

The program plays some devices until it is told to stop; what they see goes to a history file. `Clients` is the storm's side of one.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path
from uuid import UUID

import msgspec

from tests.chaos.ground import ROOT
from tests.chaos.storm_ground import end_with_parent, signalled
from tests.checker.history import History
from tests.checker.player import Mix, Player, Scene
from veredus.client import Config, Credentials

ANSWER_SECONDS = 60.0
# A half-open connection is noticed after two pings; the product's 25 s would make a storm last longer and show no more.
MIX = Mix(
    reconnect=0.01, burst=6, config=Config(backoff_first_seconds=0.1, backoff_most_seconds=1.0, ping_seconds=4.0, connect_seconds=5.0)
)


class Order(msgspec.Struct, frozen=True):
    """What a client process is to do."""

    url: str
    devices: list[tuple[UUID, int, str]]  # all there are: account, number, secret
    first: int  # of its own among them
    last: int
    pause: float  # mean seconds between two bursts of a device
    seed: str
    history: str


class Clients:
    """A client process, and where it writes what it saw."""

    def __init__(self, process: asyncio.subprocess.Process, order: Order) -> None:
        self._process = process
        self.devices = [(account.bytes, number) for account, number, _ in order.devices[order.first : order.last]]
        self.history = Path(order.history)

    @classmethod
    async def start(cls, order: Order) -> Clients:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.storm_clients", cwd=ROOT, preexec_fn=end_with_parent,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        clients = cls(process, order)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        await clients._answer("playing")
        return clients

    async def tell(self, word: str) -> None:
        """`stop` sending, `rest` until everything has come, `close`: returns when it is done. Raises TimeoutError."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        await self._answer(word)

    async def _answer(self, word: str) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            line = (await self._process.stdout.readline()).decode().strip()
        if line != word:
            raise AssertionError(f"a client process said {line!r} instead of {word!r}")

    def signal(self, number: signal.Signals) -> None:
        signalled(self._process.pid, number)

    async def clear(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def _play(player: Player, order: Order, stopping: asyncio.Event) -> None:
    chance = random.Random(f"{order.seed} {player.credentials.account} {player.credentials.device}")
    while not stopping.is_set():
        await player.play(chance.randint(1, 4))
        await asyncio.sleep(chance.expovariate(1 / order.pause))


async def _obey(order: Order, words: asyncio.StreamReader) -> None:
    scene = Scene(order.url, {}, MIX, History(Path(order.history)))
    for account, number, _ in order.devices:
        scene.devices.setdefault(account, []).append(number)
    own = [Credentials(*device) for device in order.devices[order.first : order.last]]
    players = [Player(scene, credentials, f"{order.seed}.{order.first + index}") for index, credentials in enumerate(own)]
    await asyncio.gather(*(player.client.connect() for player in players))
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for player in players:
            group.create_task(player.receive())
        playing = [group.create_task(_play(player, order, stopping)) for player in players]
        print("playing", flush=True)
        while word := (await words.readline()).decode().strip():
            if word == "stop":
                stopping.set()
                await asyncio.wait(playing)
            elif word == "rest":
                await asyncio.gather(*(player.client.drained() for player in players))
            elif word == "close":
                for player in players:
                    await player.release()
                    await player.client.close()
            print(word, flush=True)


async def _main() -> None:
    words = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    await _obey(msgspec.json.decode(await words.readline(), type=Order), words)


if __name__ == "__main__":
    asyncio.run(_main())
