"""The client as an application uses it; docs/client.md shows how. Composes the parts and owns none of their work."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from veredus.client.connection import Connection, connect
from veredus.client.errors import ClientClosed, SendRefused, TooLarge
from veredus.client.model import Config, Credentials, Draft, Message, Sent
from veredus.client.observer import Observer
from veredus.client.pipeline import Pipeline
from veredus.client.session import Session
from veredus.client.store import MemoryStore, PendingStore
from veredus.core.clock import SystemClock
from veredus.core.errors import Code
from veredus.core.model import EnvelopeType

Content = bytes | str


class Client:
    """One device's connection to a server, over as many WebSockets as it takes.

    Sends leave in the order of the calls and arrive in it. What was not answered when a connection broke is sent again under the same
    client id, so nothing is lost and nothing is doubled. Use it in one event loop, asyncio's or uvloop's.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        *,
        store: PendingStore | None = None,
        observer: Observer | None = None,
        config: Config | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`url` is `ws(s)://host:port/v1/websocket`, else ValueError; `trust` replaces the system's certificates for `wss`."""
        if urlsplit(url).scheme not in {"ws", "wss"} or not urlsplit(url).hostname:
            raise ValueError("the URL has the form ws://HOST:PORT/v1/websocket or wss://…")
        self._config = config or Config()
        self._clock = SystemClock()
        self._pipeline = Pipeline(self._config.window, store or MemoryStore())

        async def connector(session: Session, number: int) -> Connection:
            return await connect(url, credentials, session, number, trust)

        self._session = Session(connector, self._pipeline, self._arrive, observer or Observer(), self._config)
        self._arrived: deque[Message] = deque()  # bounded by the server's window: it waits for acknowledgements
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ended: Exception | None = None

    async def connect(self) -> None:
        """Start, and return once the server has said Hello. Tries for as long as it takes (bound it with `asyncio.timeout`).

        Raises `ConnectionRefused` when the server will not have this client, `ClientClosed` after `close`.
        """
        if self._ended is not None:
            raise self._ended
        if self._task is None:
            self._task = asyncio.create_task(self._session.run(), name="veredus-client")
            self._task.add_done_callback(self._stopped)
        await self._until(self._session.connected)

    async def send(
        self,
        destination: UUID,
        contents: Content | Mapping[int, Content],
        *,
        client_id: UUID | None = None,
        type: EnvelopeType | None = None,
        devices: Sequence[int] = (1,),
        registration_ids: Mapping[int, int] | None = None,
        types: Mapping[int, EnvelopeType] | None = None,
        urgent: bool = False,
        ephemeral: bool = False,
    ) -> Sent:
        """Send one message and wait until it is stored durably.

        `contents` is one content for all `devices`, or one for each device number. A `str` is text of at most 65,535 bytes; its type is
        PLAINTEXT unless `type` says otherwise, that of bytes CIPHERTEXT. `registration_ids` says by device which registration a content
        was encrypted for (left out: not checked), `types` which contents are of another type than the message (PREKEY_BUNDLE beside
        CIPHERTEXT; SEALED for all or none). A `client_id` used before gives the first answer again.

        Raises `SendRefused` (see veredus.client.errors) when the server refuses for good, `ClientClosed`, or `ConnectionRefused`.
        Refusals that are worth a repeat are waited out. Cancelled before the message left, it does not leave; afterwards it goes on.
        """
        return await self.submit(
            destination,
            contents,
            client_id=client_id,
            type=type,
            devices=devices,
            registration_ids=registration_ids,
            types=types,
            urgent=urgent,
            ephemeral=ephemeral,
        )

    def submit(
        self,
        destination: UUID,
        contents: Content | Mapping[int, Content],
        *,
        client_id: UUID | None = None,
        type: EnvelopeType | None = None,
        devices: Sequence[int] = (1,),
        registration_ids: Mapping[int, int] | None = None,
        types: Mapping[int, EnvelopeType] | None = None,
        urgent: bool = False,
        ephemeral: bool = False,
    ) -> asyncio.Future[Sent]:
        """The same without waiting: many can be on their way at once, `Config.window` of them on the wire."""
        if self._ended is not None:
            raise self._ended
        by_device = contents if isinstance(contents, Mapping) else dict.fromkeys(devices, contents)
        registrations, own = registration_ids or {}, types or {}
        if type is None:
            type = EnvelopeType.PLAINTEXT if any(isinstance(content, str) for content in by_device.values()) else EnvelopeType.CIPHERTEXT
        draft = Draft(
            client_id=(client_id or uuid4()).bytes,
            destination=destination.bytes,
            type=type,
            client_timestamp=self._clock.now_ms(),
            urgent=urgent,
            ephemeral=ephemeral,
            contents=tuple(
                (number, registrations.get(number, 0), self._bytes_of(content), own.get(number, 0)) for number, content in by_device.items()
            ),
        )
        self._judge(draft)
        waiter: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        self._pipeline.submit(draft, waiter)
        self._session.wake()
        return waiter

    async def messages(self, *, auto_ack: bool = False) -> AsyncIterator[Message]:
        """Messages as they come, each once, until `close`. With `auto_ack` each is acknowledged when the next is asked for.

        Several iterators share the messages. Raises `ConnectionRefused` when the server will not have this client any more.
        """
        while True:
            while not self._arrived:
                if isinstance(self._ended, ClientClosed):
                    return
                if self._ended is not None:
                    raise self._ended
                self._arrival.clear()
                await self._arrival.wait()
            message = self._arrived.popleft()
            yield message
            if auto_ack:
                await message.ack()

    def take(self) -> list[Message]:
        """Messages that have come and that nobody has taken yet, without waiting."""
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    async def drained(self) -> None:
        """Wait until everything that was stored when the present connection began has come (the next connection's, if there is none)."""
        await self._until(self._session.drained)

    async def sync(self) -> None:
        """Ask for what is stored now, and wait until it has come."""
        self._session.sync()
        await self.drained()

    def reconnect(self) -> None:
        """Leave the present connection without a word and make another: for a network that is known to have changed."""
        self._session.reconnect()

    async def close(self) -> None:
        """Tell the server what is acknowledged and go. Sends without an answer fail with `ClientClosed`; a `FileStore` keeps them."""
        if self._task is not None and not self._task.done():
            await self._session.close()
            self._task.cancel()
            await asyncio.wait({self._task})
        self._finish(ClientClosed())

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def _bytes_of(self, content: Content) -> bytes:
        if isinstance(content, bytes):
            return content
        encoded = content.encode()
        if len(encoded) > self._config.text_bytes:
            raise TooLarge(Code.TOO_LARGE, f"a text has at most {self._config.text_bytes} bytes")
        return encoded

    def _judge(self, draft: Draft) -> None:
        """What the server would close the connection for is refused here."""
        hello = self._session.hello
        if not draft.contents:
            raise SendRefused(Code.INVALID_DESTINATION)
        if draft.size() > (self._config.message_bytes if hello is None else hello.max_message_bytes):
            raise TooLarge(Code.TOO_LARGE)

    def _arrive(self, message: Message) -> None:
        self._arrived.append(message)
        self._arrival.set()

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for an event of the session, or raise what ended it."""
        if self._task is None or self._ended is not None:
            raise self._ended or ClientClosed()
        waiting = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not event.is_set():
            await asyncio.sleep(0)  # lets the task's end be told
            raise self._ended or ClientClosed()

    def _stopped(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        self._finish(error if isinstance(error, Exception) else ClientClosed())

    def _finish(self, error: Exception) -> None:
        if self._ended is None:
            self._ended = error
            self._pipeline.fail(error)
            self._arrival.set()
