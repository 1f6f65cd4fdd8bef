"""A proxy between two parties, whose network can be taken away: refused, silent, or silent for some connections only.

Hands bytes on and nothing else; knows no protocol. TCP or unix sockets on either side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

Address = str | tuple[str, int]  # the path of a unix socket, or host and port
CHUNK = 65_536


class Line:
    """One proxied connection."""

    def __init__(self, open: asyncio.Event) -> None:
        self._network = open
        self._own = asyncio.Event()
        self._own.set()
        self.writers: list[asyncio.StreamWriter] = []

    def swallow(self) -> None:
        """Hand nothing on any more, and tell nobody: both ends believe in it until they ask and get no answer."""
        self._own.clear()

    @property
    def swallowing(self) -> bool:
        return not self._own.is_set()

    async def passable(self) -> None:
        await self._network.wait()
        await self._own.wait()

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until it ends. A connection that is half closed is closed: neither of our protocols uses that."""
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self.passable()
                if writer.is_closing():  # meanwhile; uvloop's transports do not take that
                    break
                writer.write(data)
                await writer.drain()
        for each in self.writers:
            each.close()


class Proxy:
    """Listens until `close`. `upstreams` names where to connect, asked anew for each connection, the best first."""

    def __init__(self, upstreams: Callable[[], list[Address]]) -> None:
        self._upstreams = upstreams
        self._network = asyncio.Event()
        self._network.set()
        self._refusing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.lines: set[Line] = set()

    async def listen(self, address: Address) -> None:
        if isinstance(address, str):
            self._server: asyncio.Server = await asyncio.start_unix_server(self._accept, address)
        else:
            self._server = await asyncio.start_server(self._accept, *address)

    @property
    def port(self) -> int:
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    def refuse(self) -> None:
        """End every connection, and every new one at once, until `heal`."""
        self._refusing = True
        for line in list(self.lines):
            line.abort()

    def silence(self) -> None:
        """A network without a path: connections stay, nothing moves; what was under way arrives after `heal`."""
        self._network.clear()

    def heal(self) -> None:
        self._refusing = False
        self._network.set()

    async def close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = Line(self._network)
        line.writers.append(writer)
        self.lines.add(line)
        try:
            if not self._refusing:
                await line.passable()
                await self._join(line, reader, writer)
        except asyncio.CancelledError:
            pass  # ours alone: the server's own handling would log it
        finally:
            line.abort()
            self.lines.discard(line)
            self._tasks.discard(task)

    async def _join(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for address in self._upstreams():
            try:
                opened = await (asyncio.open_unix_connection(address) if isinstance(address, str) else asyncio.open_connection(*address))
            except OSError:
                continue
            line.writers.append(opened[1])
            if self._refusing:  # since we began to connect
                return
            await asyncio.gather(line.pump(reader, opened[1]), line.pump(opened[0], writer))
            # Closed ones still write what they have: a refusal's text, say.
            for each in line.writers:
                with suppress(OSError):
                    await each.wait_closed()
            return
