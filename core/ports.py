"""What the core needs of the world. Each port stands here beside its users; every adapter passes the suite in `tests/contract`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from veredus.core.errors import Code
from veredus.core.model import (
    Account,
    CredentialRow,
    Item,
    Location,
    Outcome,
    Page,
    Principal,
    Push,
    PushJob,
    PushOutcome,
    PushRecord,
    Reply,
    Submission,
)

if TYPE_CHECKING:
    from veredus.ext.envelope import Inbound


class MessageStore(Protocol):
    """Mailboxes and idempotency keys: the only truth (MSG-32).

    Every method may raise `StoreUnavailable`: nothing happened.
    """

    async def commit(self, batch: Sequence[Submission]) -> list[Outcome]:
        """Make a batch durable in one statement and say what became of each, in order.

        No key stands twice in a batch. Rows get ids in input order. Either a submission's key and all its rows are stored, or nothing
        of it. Data the store cannot take is found by bisection, answered REFUSED, and costs nobody else his message. Raises
        `ResultUnknown` when the connection was lost or the deadline passed: call again with the same batch to learn (and settle) the
        result, since keys make that harmless.
        """
        ...

    async def page(self, device: int, floor: int, skip: Sequence[int], limit: int) -> Page:
        """The first `limit` rows of a mailbox with id > `floor` whose id is not in `skip`."""
        ...

    async def remove(self, rows: Sequence[tuple[int, int]]) -> int:
        """Delete acknowledged rows, named (device, id), each alone: never a range. Returns how many were there. Safe to repeat."""
        ...

    async def remove_guid(self, device: int, guid: bytes) -> bool:
        """Delete one row of a mailbox by the message's guid. Says whether it was there."""
        ...

    async def epoch(self) -> UUID:
        """The store's epoch: another one means that what a client knows of positions is void."""
        ...


class Directory(Protocol):
    """Accounts and their devices, as far as delivery needs them. Truth is the store; implementations may not cache (the core does)."""

    async def accounts(self, uuids: Sequence[bytes]) -> dict[bytes, Account]:
        """The active accounts among these, each with its active devices. Raises `StoreUnavailable`."""
        ...


class CredentialRows(Protocol):
    """Reads what is stored of device secrets. Implementations may not cache (the core does)."""

    async def credential(self, account: bytes, device: int) -> CredentialRow | None:
        """The row of account UUID and device number; None where there is none. Raises `StoreUnavailable`."""
        ...


class Credentials(Protocol):
    """Verifies who calls."""

    async def basic(self, username: str, password: str) -> Principal | None:
        """The principal of `uuid.device` (or `uuid`, device 1) and its password; None whatever is wrong (nothing is learnt from a None).

        Raises `StoreUnavailable`.
        """
        ...


class Presence(Protocol):
    """Which worker holds a device's connection: hints. Absence or failure of this port costs speed, never a message."""

    @property
    def settled(self) -> bool:
        """Until this is true nobody's absence means anything."""
        ...

    async def claim(self, devices: Sequence[int]) -> list[Location | None]:
        """Say that these devices are here, from now on: newer than every earlier claim. Answers whom each displaced elsewhere."""
        ...

    async def release(self, devices: Sequence[int]) -> None:
        """Take back claims of this worker, as far as nobody newer holds them."""
        ...

    async def locate(self, devices: Sequence[int]) -> Mapping[int, Location]:
        """Where these devices are; whoever is not in the answer is absent. One read for all of them."""
        ...


class Bus(Protocol):
    """Carries items between workers: transport of hints, at most once. What it loses is found by those who wait (section 5e)."""

    async def publish(self, items: Mapping[str, Sequence[Item]]) -> set[str]:
        """Give each worker (by name) its items, in order, and return the workers that nobody is listening as now.

        When it returns, whatever is published later by anybody comes later. Bounded in time; never raises for the transport's sake: what
        could not be handed over leaves a gap in the stream, which its receiver notices.
        """
        ...


class BusEvents(Protocol):
    """What the bus tells. Must not raise, must not block."""

    def received(self, items: Sequence[Item]) -> None:
        """Items for devices that were here when they were sent."""
        ...

    def interrupted(self) -> None:
        """Something may have been lost, or a worker died on its way here: look into the mailboxes of all devices that are here."""
        ...


class Wakeups(Protocol):
    """Devices that are nowhere and have something stored: their push, due in the store until carried out (MSG-23)."""

    async def due(self, devices: Mapping[int, int]) -> list[int]:
        """For these devices (id → mailbox row id) a push is due. Row 0: if its mailbox holds anything. Raises `StoreUnavailable`.

        Returns those to be told now: not whose push was due already, nor whose rows can wait for more.
        """
        ...

    async def awake(self, devices: Sequence[int]) -> None:
        """These devices have looked into their mailboxes: no push is due any more. Raises `StoreUnavailable`."""
        ...

    async def occupied(self, devices: Sequence[int]) -> set[int]:
        """Those of these devices whose mailboxes hold anything. One statement for up to 500. Raises `StoreUnavailable`."""
        ...

    async def overdue(self, seconds: float) -> list[tuple[int, int]]:
        """(device, newest row) of mailboxes with rows that were stored one to three times so long ago and are still there.

        Empty for whoever asks before `seconds` have passed since anybody did.
        """
        ...


class PushStore(Protocol):
    """Pushes that are due, and how far they have come: the truth behind the jobs. Every method may raise `StoreUnavailable`."""

    async def begin(self, devices: Sequence[int], online: Collection[int], lease: float, hold: float, per_minute: int) -> list[Push]:
        """Those of these devices to push now, each given to one caller only, for `lease` seconds.

        Left out: whose push is not due or not yet due again; who is revoked or has nothing stored (not due any more then); who had
        `per_minute` tries within this minute. Who is `online` is held back once, for `hold` seconds: it should look by itself, and
        whoever does not may be asleep.
        """
        ...

    async def record(self, records: Sequence[PushRecord]) -> None:
        """Write down what became of pushes begun, as far as they are still due. Safe to repeat only after `StoreUnavailable`."""
        ...

    async def unqueued(self, limit: int, seconds: float) -> list[int]:
        """Up to `limit` devices whose job is to be made now; each is given to one caller, and not again for `seconds`."""
        ...


class PushJobs(Protocol):
    """Transport of jobs between workers: each to one of them, at least once as long as the transport lives.

    What it loses is made again from the store. Every method may raise `ConnectionError` or `TimeoutError`, within a bounded time.
    """

    async def add(self, devices: Sequence[int]) -> None:
        """One job for each."""
        ...

    async def take(self, limit: int) -> list[PushJob]:
        """Jobs nobody had before, waiting a moment for the first; perhaps none."""
        ...

    async def take_over(self, limit: int, idle: float) -> list[PushJob]:
        """Jobs somebody took `idle` seconds ago or longer, and did not call done. They count as taken now."""
        ...

    async def done(self, jobs: Sequence[PushJob]) -> None:
        """These need not be carried out again."""
        ...


class PushProvider(Protocol):
    """Tells a device, by whatever way it has, to connect. It owns tokens and their kinds; it is told nothing of what is stored."""

    async def send(self, device: int, urgent: bool) -> PushOutcome:
        """Tell it. Not urgent: when it costs the device little. Raising, or taking too long, counts as FAILED."""
        ...


class Origin(Protocol):
    """Where sends came from and their answers go: a connection, or one HTTP request.

    `refusal` is kept by the core: OK, or the retryable code its sends are refused with until its client says RESUME, so that windows of
    sends cannot be reordered by a refusal in their middle.
    """

    refusal: Code

    @property
    def fresh(self) -> bool:
        """The same device may just have sent over another worker: rows for devices elsewhere are not pushed ahead of those (P4)."""
        ...

    def answer(self, replies: Sequence[Reply]) -> None:
        """Give answers, in this order. Never raises, never blocks."""
        ...

    def result_unknown(self) -> None:
        """The results of this origin's pending sends cannot be told: it must close and its client send again (RESULT_UNKNOWN)."""
        ...

    def pause(self) -> None:
        """Stop reading: its lane is full."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


class Wire(Protocol):
    """The sending half of one connection, whatever its encoding. Calls queue; what one loop iteration queues leaves in one write."""

    def hello(self, epoch: bytes, server_timestamp: int) -> None:
        """The first frame: who the peer is here and which limits hold."""
        ...

    def deliver(self, tag: int, envelope: bytes, server_timestamp: int) -> bool:
        """Queue one delivery. False: the outbox is full and nothing was queued; `Peer.on_writable` follows when there is room."""
        ...

    def answer(self, replies: Sequence[Reply]) -> None:
        """Queue answers to sends. Always takes them: what a connection may have pending is bounded before."""
        ...

    def drained(self, tag: int) -> None:
        """Everything stored so far was sent, `tag` last."""
        ...

    def error(self, code: Code, detail: str = "", retry_after_ms: int = 0) -> None:
        """Tell of a fault that belongs to no send. Closes the connection when the catalogue says so."""
        ...

    def shutdown(self, reconnect_after_ms: int) -> None:
        """Give notice that the server goes."""
        ...

    def close(self, code: Code) -> None:
        """Close with the catalogue's close code after what is queued. Safe to repeat."""
        ...

    def pause_reading(self) -> None:
        """Stop reading from the peer."""
        ...

    def resume_reading(self) -> None:
        """Read from the peer again."""
        ...


class Peer(Protocol):
    """The receiving half: what a wire tells the core."""

    def on_inbound(self, inbound: Inbound) -> None:
        """Everything one socket read brought, in one call. Must not raise."""
        ...

    def on_writable(self) -> None:
        """The outbox has room again after `deliver` said no."""
        ...

    def on_lost(self) -> None:
        """The connection is gone. Called once, last."""
        ...


class Timeline(Protocol):
    """Sees the stages of single messages; set in development only."""

    def mark(self, stage: str, guid: bytes) -> None:
        """One of accepted, committed, routed, delivered, acknowledged, removed."""
        ...
