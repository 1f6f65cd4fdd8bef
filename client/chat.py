"""`veredus chat`: a terminal client, so that two windows can talk. For trying the server out: content is not encrypted end to end.

Owns the screen and the commands; everything about messages is the SDK's. Reads plain lines, so the terminal itself does the editing.
What comes from others is shown with control characters replaced: a message cannot drive the terminal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TextIO
from uuid import UUID, uuid4

import uvloop

from veredus.client.client import Client
from veredus.client.errors import ClientClosed, ConnectionRefused, DevicesMismatch, SendRefused
from veredus.client.model import Credentials, Message
from veredus.client.observer import Observer
from veredus.core.model import EnvelopeType
from veredus.ext.frames import Hello

HELP = "/to UUID  talk to somebody    /quit  leave (so does Ctrl-D)    /help  this. Anything else is sent."
WARNING = "for trying things out: messages are sent as type PLAINTEXT, not encrypted end to end"
LINE_BYTES = 4096  # what a terminal gives at once


class Screen:
    """Lines on a terminal, or in a file without anything that only a terminal understands."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._colours = self._terminal and "NO_COLOR" not in os.environ
        self._last: object = None
        self.clock, self.tick, self.cross = "◷", "✓", "✗"
        try:
            "◷✓✗".encode(out.encoding or "ascii")
        except UnicodeEncodeError:
            self.clock, self.tick, self.cross = "~", "+", "!"

    def line(self, text: str, *, key: object = None, colour: str = "") -> None:
        """Show a line. One with the `key` of the line shown last takes its place, on a terminal."""
        if self._terminal:
            above = "\x1b[1A" if key is not None and key is self._last else ""
            start, end = (f"\x1b[{colour}m", "\x1b[0m") if self._colours and colour else ("", "")
            text = f"\r{above}\x1b[K{start}{text}{end}"
        self._last = key
        self._out.write(f"{text}\n".encode(self._out.encoding or "ascii", "replace").decode(self._out.encoding or "ascii"))
        self._out.flush()

    def typed(self, key: object) -> None:
        """The line above is what was just typed: the line with this `key` takes its place."""
        self._last = key

    def note(self, text: str) -> None:
        self.line(f"-- {text}", colour="2")


class Notes(Observer):
    """Tells when the connection comes and goes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def connected(self, connection: int, hello: Hello) -> None:
        self._screen.note(f"connected as {UUID(bytes=hello.account)}.{hello.device}")

    def waiting(self, reason: str, seconds: float) -> None:
        self._screen.note(f"not connected: {reason}")


class Chat:
    """One conversation at a time, in one window."""

    def __init__(self, client: Client, screen: Screen, peer: UUID | None) -> None:
        self._client = client
        self._screen = screen
        self._peer = peer
        self._devices: dict[UUID, tuple[int, ...]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Talk until /quit or the end of the input; what was typed before is sent first. Raises `ConnectionRefused`."""
        self._screen.note(WARNING)
        await self._client.connect()
        self._screen.note(f"talking to {self._peer}" if self._peer else "say /to UUID to talk to somebody; /help for more")
        receiving = asyncio.create_task(self._receive())
        typing = asyncio.create_task(self._type())
        try:
            done, _ = await asyncio.wait({receiving, typing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._sending:
                await asyncio.wait(self._sending)
        finally:
            for task in (receiving, typing, *self._sending):
                task.cancel()
            await asyncio.gather(receiving, typing, *self._sending, return_exceptions=True)
            await self._client.close()

    async def _receive(self) -> None:
        async for message in self._client.messages(auto_ack=True):
            self._show(message)

    def _show(self, message: Message) -> None:
        if message.type is not EnvelopeType.PLAINTEXT:
            self._screen.note(f"a message of type {message.type.name} came, which this program cannot read")
            return
        self._screen.line(f"{_time(message.server_timestamp)} {_name(message.source)}  {printable(message.text)}", colour="36")
        if self._peer is None and message.source is not None:
            self._peer = message.source
            self._screen.note(f"talking to {self._peer}")

    async def _type(self) -> None:
        async for line in lines_of(sys.stdin.fileno()):
            text = line.strip()
            command, _, argument = text.partition(" ")
            if command == "/quit":
                return
            if command == "/help":
                self._screen.note(HELP)
            elif command == "/to":
                self._turn_to(argument.strip())
            elif text.startswith("/"):
                self._screen.note(f"no such command; {HELP}")
            elif text and self._peer is None:
                self._screen.note("to whom? say /to UUID")
            elif text and self._peer is not None:
                task = asyncio.create_task(self._send(self._peer, text))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    def _turn_to(self, name: str) -> None:
        try:
            self._peer = UUID(name)
        except ValueError:
            self._screen.note("that is not an account: it has the form of a UUID")
        else:
            self._screen.note(f"talking to {self._peer}")

    async def _send(self, peer: UUID, text: str) -> None:
        shown = f"{printable(text)}"
        key = object()
        if sys.stdin.isatty():
            self._screen.typed(key)
        self._screen.line(f"{self._screen.clock} {shown}", key=key)
        try:
            moment = await self._send_to_all_devices(peer, text)
        except (SendRefused, ConnectionRefused) as error:
            self._screen.line(f"{self._screen.cross} {shown}  ({error.code.name.lower().replace('_', ' ')})", key=key, colour="31")
        except ClientClosed:
            self._screen.line(f"{self._screen.cross} {shown}  (left before the answer came)", key=key, colour="31")
        else:
            self._screen.line(f"{self._screen.tick} {shown}  {_time(moment)}", key=key)

    async def _send_to_all_devices(self, peer: UUID, text: str) -> int:
        """Send, learning the peer's devices from the refusal that lists them: nothing is encrypted, so all get the same."""
        client_id = uuid4()
        while True:
            devices = self._devices.get(peer, (1,))
            try:
                sent = await self._client.send(peer, text, client_id=client_id, devices=devices)
            except DevicesMismatch as mismatch:
                known = tuple(sorted({*devices, *mismatch.missing} - {*mismatch.extra}))
                if known == devices or not known:
                    raise
                self._devices[peer] = known
            else:
                return sent.server_timestamp


async def lines_of(descriptor: int) -> AsyncIterator[str]:
    """Lines of a terminal, pipe or file, until its end.

    A thread reads, since not all of these can be polled, and making a terminal non-blocking would do the same to the shell's.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        chunk = b"?"
        while chunk:
            try:
                chunk = os.read(descriptor, LINE_BYTES)
            except OSError:  # a terminal that hung up
                chunk = b""
            if loop.is_closed():
                return
            loop.call_soon_threadsafe(queue.put_nowait, chunk)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    rest = b""
    while chunk := await queue.get():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def printable(text: str) -> str:
    """Text that moves no cursor and sets no colour."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%H:%M")


def _name(source: UUID | None) -> str:
    return str(source)[:8] if source else "sealed"


def _arguments(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="veredus chat", description=f"Talk over a Veredus server; {WARNING}.", epilog=HELP)
    parser.add_argument("url", metavar="URL", help="ws://HOST:PORT (or wss://), with or without the path /v1/websocket")
    parser.add_argument("--as", dest="me", metavar="UUID.DEVICE:PASSWORD", help="who you are; else from $VEREDUS_AS")
    parser.add_argument("--to", type=UUID, metavar="UUID", help="whom to talk to")
    found = parser.parse_args(args)
    try:
        found.me = Credentials.parse(found.me or os.environ.get("VEREDUS_AS", ""))
    except ValueError:  # whose text may hold what was given, and that is a secret
        parser.error("--as: credentials have the form UUID.DEVICE:PASSWORD")
    if "/" not in found.url.partition("://")[2]:
        found.url += "/v1/websocket"
    return found


def main(args: Sequence[str]) -> int:
    """Run the terminal client. 0: the user left; 1: the server will not have this client; 2: the arguments; 130: interrupted."""
    try:
        found = _arguments(args)
    except SystemExit as exit:
        return int(exit.code or 0)
    screen = Screen(sys.stdout)

    async def talk() -> None:
        client = Client(found.url, found.me, observer=Notes(screen))
        await Chat(client, screen, found.to).run()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(talk())
    except ConnectionRefused as error:
        screen.note(error.detail)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
