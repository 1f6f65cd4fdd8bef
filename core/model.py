"""The nouns that travel between layers. Plain values: no I/O, no behaviour beyond their own invariants.

Accounts and devices have two names each: the public one (account UUID as 16 bytes, device number 1, 2, …) and the store's own (a bigint),
which is what mailbox rows and keys are stored under.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from veredus.core.errors import Code

if TYPE_CHECKING:
    from veredus.ext.envelope import Send


class EnvelopeType(IntEnum):
    """`veredus.v1.Envelope.Type`."""

    UNKNOWN = 0
    CIPHERTEXT = 1
    PREKEY_BUNDLE = 3
    RECEIPT = 5
    SEALED = 6
    PLAINTEXT = 8


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Who was authenticated: `AuthenticatedDevice{accountId, deviceId}` with the store's own names beside (MSG-3)."""

    account: bytes
    device: int
    account_id: int
    device_id: int


class Device(msgspec.Struct, frozen=True, gc=False):
    """A device of an account. `id` names its mailbox."""

    id: int
    number: int
    registration_id: int


class Account(msgspec.Struct, frozen=True):
    """An account with its active devices by number. `devices_version` moves with every change of the devices."""

    id: int
    uuid: bytes
    devices_version: int
    devices: dict[int, Device]


class CredentialRow(msgspec.Struct, frozen=True, gc=False):
    """What the store keeps of a device's secret: a salted keyed hash, never the secret. `revoked` covers the account as well."""

    account_id: int
    device_id: int
    salt: bytes
    hash: bytes
    revoked: bool = False


class Submission(msgspec.Struct, gc=False):
    """A send that passed admission, ready to commit: one key and one row per target, all or none.

    `targets[i]` is the mailbox (device id) of `send.envelopes[i]`. `sender` is the sender's device id; for sealed envelopes it is used
    for the idempotency key only and stored nowhere.
    """

    send: Send
    sender: int
    sealed: bool
    account_id: int
    devices_version: int
    targets: tuple[int, ...]
    needs_sync: bool


class Verdict(IntEnum):
    """What became of a submission."""

    COMMITTED = 0  # new: key and rows are durable
    REPEATED = 1  # the key was known with the same digest: the first answer
    MISMATCH = 2  # the key was known with another digest
    STALE_DEVICES = 3  # devices_version has moved: reload the account and look again
    REFUSED = 4  # the store cannot take this one's data; nothing of it was stored


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The store's answer to one submission. For COMMITTED `ids[i]` is the mailbox row of `targets[i]`."""

    verdict: Verdict
    guid: bytes = b""
    server_timestamp: int = 0
    needs_sync: bool = False
    ids: tuple[int, ...] = ()


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The answer to one send, as every edge shows it."""

    client_id: bytes
    code: Code
    guid: bytes = b""
    server_timestamp: int = 0
    needs_sync: bool = False
    retry_after_ms: int = 0
    missing_devices: tuple[int, ...] = ()
    extra_devices: tuple[int, ...] = ()
    stale_devices: tuple[int, ...] = ()


class Row(msgspec.Struct, frozen=True, gc=False):
    """A mailbox row: `envelope` is the encoded Envelope without its last field, `server_timestamp` that field's value."""

    id: int
    guid: bytes
    server_timestamp: int
    envelope: bytes


class Page(msgspec.Struct, frozen=True):
    """Rows of one mailbox in id order, with the snapshot that saw them.

    Every transaction below `xmin` had ended (`pg_snapshot_xmin`); none at or above `xmax` had begun. (`pg_snapshot_xmax` says less: that
    none at or above it had ended. A running one may be there.) `short` says that the snapshot held no further row.
    """

    rows: tuple[Row, ...]
    xmin: int
    xmax: int
    short: bool


class Location(msgspec.Struct, frozen=True, gc=False):
    """Where a device is connected: a hint, never the truth."""

    worker: str
    incarnation: str
    token: int


class ItemKind(IntEnum):
    """What one worker tells another about a device."""

    ROW = 0  # a committed mailbox row, whole
    DOORBELL = 1  # there may be rows that nobody pushes: look into the mailbox
    REPLACED = 2  # the device connected elsewhere since: its connection gives way
    EPHEMERAL = 3  # for whoever is there now: stored nowhere


class Item(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One line of a bus frame. `hops` counts how often it was passed on."""

    kind: ItemKind
    device: int
    id: int = 0
    guid: bytes = b""
    server_timestamp: int = 0
    envelope: bytes = b""
    hops: int = 0


class PushJob(msgspec.Struct, frozen=True, gc=False):
    """«Look whether this device has to be told»: `key` is the transport's name for it."""

    key: str
    device: int


class Push(msgspec.Struct, frozen=True, gc=False):
    """A push to send now. `due` names the row it became due for, `sent` and `failed` how often it was tried before."""

    device: int
    due: int
    urgent: bool
    sent: int
    failed: int


class PushVerdict(IntEnum):
    """What a provider made of a push."""

    SENT = 0  # it took it; whether the device is told is beyond anybody's knowledge
    FAILED = 1  # not now: try again
    UNREACHABLE = 2  # it knows no way to this device; not before the device came here again


class PushOutcome(msgspec.Struct, frozen=True, gc=False):
    """A provider's answer. `retry_after`: seconds it asks to be left alone about this device, with FAILED."""

    verdict: PushVerdict
    retry_after: float = 0.0


class PushRecord(msgspec.Struct, frozen=True, gc=False):
    """What became of a push, and in how many seconds the next may leave; None: not before the device came here."""

    device: int
    due: int
    sent: bool
    wait: float | None
