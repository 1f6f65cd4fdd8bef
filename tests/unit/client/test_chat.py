"""Two windows talk: the terminal client on real terminals and on pipes, against a server in memory."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from tests.fakes.server import PASSWORD, FakeServer
from veredus.client import Client
from veredus.client.chat import main, printable
from veredus.core.errors import Code

ALICE, BOB = UUID(int=1), UUID(int=2)
PROGRAM = (sys.executable, "-c", "import sys; from veredus.client.chat import main; sys.exit(main(sys.argv[1:]))")
ENVIRONMENT = {**os.environ, "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def arguments(server: FakeServer, me: UUID, *more: str) -> Sequence[str]:
    return (*PROGRAM, server.url, "--as", f"{me}.1:{PASSWORD}", *more)


def window(server: FakeServer, me: UUID, *more: str) -> AbstractAsyncContextManager[Window]:
    return opened(arguments(server, me, *more))


class Window:
    """A terminal with the program in it."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self.process = process
        self.shown = ""
        self._terminal = terminal
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(terminal, self._read)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    async def shows(self, pattern: str) -> str:
        while not (found := re.search(pattern, ESCAPES.sub("", self.shown))):
            self._changed.clear()
            await self._changed.wait()
        return found.group()

    def _read(self) -> None:
        try:
            chunk = os.read(self._terminal, 65536)
        except OSError:  # Linux: the last process on the terminal is gone
            asyncio.get_running_loop().remove_reader(self._terminal)
            return
        self.shown += chunk.decode()
        self._changed.set()


@asynccontextmanager
async def opened(command: Sequence[str]) -> AsyncIterator[Window]:
    """The program on a terminal of its own, until the block ends."""
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(*command, stdin=slave, stdout=slave, stderr=slave, env=ENVIRONMENT)
    os.close(slave)
    window = Window(process, master)
    try:
        yield window
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)


async def test_two_windows_talk() -> None:
    async with FakeServer() as server, window(server, ALICE, "--to", str(BOB)) as alice, window(server, BOB) as bob:
        await alice.shows("not encrypted end to end")
        await alice.shows(f"talking to {BOB}")
        await bob.shows("/to UUID")
        alice.type("good morning\n")
        await alice.shows(r"◷ good morning")
        await alice.shows(r"✓ good morning  \d\d:\d\d")
        await bob.shows(r"\d\d:\d\d 00000000  good morning")
        await bob.shows(f"talking to {ALICE}")
        bob.type("and to you\n")
        await alice.shows("and to you")
        bob.type("/quit\n")
        assert await bob.process.wait() == 0
        alice.type("\x04")
        assert await alice.process.wait() == 0


async def test_the_line_with_the_clock_becomes_the_line_with_the_tick() -> None:
    async with FakeServer() as server, window(server, ALICE, "--to", str(BOB)) as alice:
        await alice.shows("talking to")
        server.levers.answers.clear()
        alice.type("one\n")
        await alice.shows("◷ one")
        await server.until(lambda: server.line(ALICE).queue)
        server.levers.answers.set()
        server.line(ALICE).look()
        await alice.shows("✓ one")
        assert "\x1b[1A\x1b[K✓ one" in alice.shown


async def test_commands_and_mistakes_are_answered() -> None:
    async with FakeServer() as server, window(server, ALICE) as alice:
        await alice.shows("/to UUID")
        for typed, answer in [("hello", "to whom"), ("/to me", "not an account"), ("/dance", "no such command"), ("/help", "Ctrl-D")]:
            alice.type(f"{typed}\n")
            await alice.shows(answer)
        alice.type(f"/to {BOB}\n")
        await alice.shows(f"talking to {BOB}")
        server.levers.refuse.append(Code.UNKNOWN_RECIPIENT)
        alice.type("hello\n")
        await alice.shows(r"✗ hello  \(unknown recipient\)")


async def test_a_recipient_with_more_devices_is_learnt() -> None:
    async with FakeServer() as server, window(server, ALICE, "--to", str(BOB)) as alice:
        await alice.shows("talking to")
        server.levers.refuse.append(Code.DEVICES_MISMATCH)
        server.levers.devices = (2,)
        alice.type("hello\n")
        await alice.shows("✓ hello")
        assert [len(server.mailboxes[BOB.bytes, device]) for device in (1, 2)] == [1, 1]


async def test_a_message_cannot_drive_the_terminal() -> None:
    async with FakeServer() as server, window(server, BOB) as bob:
        async with Client(server.url, server.credentials(ALICE)) as alice:
            await alice.send(BOB, "red \x1b[31m alert\r\x07")
        await bob.shows("alert")
        assert "red \N{REPLACEMENT CHARACTER}[31m alert\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in bob.shown
    assert printable("a\tb\x9bc") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"


async def test_a_lost_connection_is_told_and_comes_back() -> None:
    async with FakeServer() as server, window(server, ALICE) as alice:
        await alice.shows("connected as")
        server.line(ALICE).drop()
        await alice.shows("not connected: the connection was lost(.|\n)*connected as")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
async def test_what_is_piped_in_is_sent_and_shown_plainly(encoding: str) -> None:
    environment = {**ENVIRONMENT, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    async with FakeServer() as server:
        process = await asyncio.create_subprocess_exec(
            *arguments(server, ALICE, "--to", str(BOB)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        shown, _ = await process.communicate("erst\nzuletzt ä".encode())
        assert process.returncode == 0
        assert len(server.mailboxes[BOB.bytes, 1]) == 2
    text = shown.decode(encoding)
    assert "\x1b" not in text
    assert ("✓ zuletzt ä" if encoding == "utf-8" else "+ zuletzt ?") in text


async def test_wrong_credentials_and_wrong_arguments_end_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with FakeServer() as server:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, server.url, "--as", f"{ALICE}:wrong", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        shown, _ = await process.communicate()
        assert (process.returncode, b"401" in shown, b"wrong" in shown) == (1, True, False)
    assert main(["ws://localhost", "--as", "nobody:secret"]) == 2
    assert "secret" not in capsys.readouterr().err
