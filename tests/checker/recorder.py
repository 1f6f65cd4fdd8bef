"""Records what one SDK client sees: an observer that writes each step into a history before it is taken."""

from __future__ import annotations

from tests.checker.history import Ack, Connect, Deliver, Device, Disconnect, Drained, History, Refused, Resume, Send, Sent, digest_of
from veredus.client import Observer
from veredus.client.model import Draft
from veredus.ext.frames import Delivery, Hello, SendResult


class Recorder(Observer):
    """`name` tells this client's connections from those of others in the same history: use it once."""

    def __init__(self, history: History, name: str) -> None:
        self._history = history
        self._name = name

    def connected(self, connection: int, hello: Hello) -> None:
        self._history.record(Connect(connection=self.connection(connection), device=Device(hello.account, hello.device)))

    def sending(self, connection: int, seq: int, draft: Draft) -> None:
        self._history.record(
            Send(
                connection=self.connection(connection),
                seq=seq,
                client_id=draft.client_id,
                destination=draft.destination,
                contents=tuple((device, digest_of(content)) for device, _, content, _ in draft.contents),
                form=f"{draft.type} {draft.urgent} {[(registration, type) for _, registration, _, type in draft.contents]}",
                ephemeral=draft.ephemeral,
            )
        )

    def resuming(self, connection: int) -> None:
        self._history.record(Resume(connection=self.connection(connection)))

    def answered(self, connection: int, result: SendResult) -> None:
        name = self.connection(connection)
        if result.code:
            self._history.record(Refused(connection=name, client_id=result.client_id, code=result.code))
        else:
            self._history.record(
                Sent(
                    connection=name,
                    client_id=result.client_id,
                    guid=result.guid,
                    server_timestamp=result.server_timestamp,
                    needs_sync=result.needs_sync,
                )
            )

    def delivered(self, connection: int, delivery: Delivery) -> None:
        envelope = delivery.envelope
        self._history.record(
            Deliver(
                connection=self.connection(connection),
                tag=delivery.tag,
                guid=envelope.guid,
                digest=digest_of(envelope.content),
                source=Device(envelope.source_account, envelope.source_device) if envelope.source_account else None,
                destination=Device(envelope.destination_account, envelope.destination_device),
                server_timestamp=envelope.server_timestamp,
            )
        )

    def acknowledging(self, connection: int, tags: tuple[int, ...], up_to: int) -> None:
        self._history.record(Ack(connection=self.connection(connection), tags=tags, up_to=up_to))

    def drained(self, connection: int, tag: int) -> None:
        self._history.record(Drained(connection=self.connection(connection), tag=tag))

    def disconnected(self, connection: int) -> None:
        self._history.record(Disconnect(connection=self.connection(connection)))

    def connection(self, number: int) -> str:
        """How a connection of this client is called in the history."""
        return f"{self._name}/{number}"
