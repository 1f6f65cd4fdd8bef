"""What clients saw, in order: the events and the list that keeps them.

Owns recording and reading back; never judges. Whoever records an event does so before the next step is taken: a send before its bytes
leave, a delivery before anybody acts on it. With a path every event is also a line of JSON handed to the kernel at once, so that the
history survives a `kill -9` of the client. Contents are kept as digests only.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec


class Device(NamedTuple):
    """A device by its public names: account UUID as 16 bytes, device number."""

    account: bytes
    number: int

    def __str__(self) -> str:
        return f"{self.account.hex()[:8]}.{self.number}"


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower, kw_only=True, omit_defaults=True):
    """One step of one client. `at` is CLOCK_MONOTONIC in ns: the same clock for every process of a machine."""

    at: int = 0


class Connect(Event, frozen=True):
    """The handshake is done. `connection` names it in every later event and is never used again."""

    connection: str
    device: Device


class Send(Event, frozen=True):
    """A Send is about to leave as number `seq` of its connection.

    `contents` are (device number, digest of the content); `form` stands for the rest of what a repeat must equal (type, flags, …).
    """

    connection: str
    seq: int
    client_id: bytes
    destination: bytes
    contents: tuple[tuple[int, bytes], ...]
    form: str = ""
    ephemeral: bool = False


class Sent(Event, frozen=True):
    """The answer SENT."""

    connection: str
    client_id: bytes
    guid: bytes
    server_timestamp: int = 0
    needs_sync: bool = False


class Refused(Event, frozen=True):
    """An answer with a code of the catalogue other than SENT."""

    connection: str
    client_id: bytes
    code: int


class Resume(Event, frozen=True):
    """Resume is about to leave."""

    connection: str


class Deliver(Event, frozen=True):
    """A delivery came. `source` and `destination` are what the envelope says, where it says it; tag 0 is ephemeral."""

    connection: str
    tag: int
    guid: bytes
    digest: bytes
    source: Device | None = None
    destination: Device | None = None
    server_timestamp: int = 0


class Ack(Event, frozen=True):
    """An acknowledgement is about to leave."""

    connection: str
    tags: tuple[int, ...] = ()
    guids: tuple[bytes, ...] = ()
    up_to: int = 0


class Confirmed(Event, frozen=True):
    """It is known that every acknowledgement this connection sent so far has taken effect (the wire does not say so: somebody looked)."""

    connection: str


class Drained(Event, frozen=True):
    """Drained came, naming `tag` as the last one used."""

    connection: str
    tag: int


class Disconnect(Event, frozen=True):
    """The connection is over; what it sent without an answer stays unanswered on it."""

    connection: str


class Quiescent(Event, frozen=True):
    """Everything in flight was given time to arrive: each device online now must have got everything (P5)."""


AnyEvent = Connect | Send | Sent | Refused | Resume | Deliver | Ack | Confirmed | Drained | Disconnect | Quiescent


def digest_of(content: bytes) -> bytes:
    """What a history keeps of a content: 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


class History:
    """An append-only list of events, and optionally a file of JSON lines beside it."""

    def __init__(self, path: Path | None = None) -> None:
        self._events: list[AnyEvent] = []
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def record(self, event: AnyEvent) -> None:
        """Keep an event. With a file, the kernel has it when this returns."""
        stamped = msgspec.structs.replace(event, at=time.monotonic_ns())
        self._events.append(stamped)
        if self._file is not None:
            os.write(self._file, msgspec.json.encode(stamped) + b"\n")

    def close(self) -> None:
        """Close the file, if any. Recording goes on in memory only."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __iter__(self) -> Iterator[AnyEvent]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    @classmethod
    def read(cls, *paths: Path) -> History:
        """Join the files of several clients of one machine by time.

        A last line cut short is left out: whoever was writing it had not taken the step after it.
        """
        decoder = msgspec.json.Decoder(AnyEvent)
        history = cls()
        for path in paths:
            history._events += [decoder.decode(line) for line in path.read_bytes().split(b"\n")[:-1]]
        history._events.sort(key=lambda event: event.at)
        return history
