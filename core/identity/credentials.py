"""Device secrets: how they are made, kept and verified (CON-9).

Owns the hash, the comparison and the cache of verified results. Never stores, logs or raises a plain secret, and never tells whether an
account, a device or only the password was wrong: every refusal costs one read and one hash.

Theory of operation. A secret is drawn by the server with 160 bits, so no guessing is to be slowed down: one keyed, salted BLAKE2b is as
strong as a slow hash would be, at a microsecond. The key is the server's pepper, kept outside the store: a copy of the table alone cannot
even confirm a guess.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from base64 import b32encode
from collections import OrderedDict
from functools import partial
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from veredus.core.clock import Clock
from veredus.core.limits import Limits
from veredus.core.model import CredentialRow, Principal
from veredus.core.ports import CredentialRows

SECRET_BYTES = 20  # 160 bits: 32 characters of base32 without padding
SALT_BYTES = blake2b.SALT_SIZE
HASH_BYTES = 32
PEPPER_BYTES = 32  # the least a pepper may have: 256 bits, as long as the hash it keys
KEYED_BLAKE2B = b"\x01"  # first byte of a stored hash: names how it was made, so that another kind can stand beside it
PRIMARY_DEVICE = 1
USERNAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.([1-9][0-9]{0,3}))?", re.ASCII | re.IGNORECASE)


class Issued(NamedTuple):
    """A new secret. `plain` is shown once and kept nowhere; salt and hash are what the store keeps."""

    plain: str
    salt: bytes
    hash: bytes


class DeviceSecrets:
    """Makes and checks secrets under one pepper (at least 32 bytes, else ValueError)."""

    def __init__(self, pepper: bytes) -> None:
        if not PEPPER_BYTES <= len(pepper) <= blake2b.MAX_KEY_SIZE:
            raise ValueError(f"the pepper must have {PEPPER_BYTES} to {blake2b.MAX_KEY_SIZE} bytes")
        self._pepper = pepper
        self._nobody = CredentialRow(
            account_id=0, device_id=0, salt=bytes(SALT_BYTES), hash=secrets.token_bytes(1 + HASH_BYTES), revoked=True
        )

    def issue(self) -> Issued:
        """Draw a secret of 160 bits for a new device."""
        plain = b32encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
        salt = secrets.token_bytes(SALT_BYTES)
        return Issued(plain, salt, self._hash(plain, salt))

    def matches(self, row: CredentialRow | None, password: str) -> bool:
        """Whether this is the secret of that row. Without a row, or with a revoked one, the same work is done and the answer is no."""
        held = row or self._nobody
        equal = hmac.compare_digest(held.hash, self._hash(password, held.salt))
        return equal and not held.revoked

    def _hash(self, password: str, salt: bytes) -> bytes:
        # A salt of another length can only come from a damaged row: digested, it gives a hash that matches nothing, not an exception.
        fitting = salt if len(salt) == SALT_BYTES else blake2b(salt, digest_size=SALT_BYTES).digest()
        return (
            KEYED_BLAKE2B
            + blake2b(_encoded(password), digest_size=HASH_BYTES, key=self._pepper, salt=fitting, person=b"veredus device").digest()
        )


class _Verified(NamedTuple):
    tag: bytes  # keyed hash of the password that was right
    principal: Principal
    until: float  # monotonic seconds


class _Read(NamedTuple):
    task: asyncio.Task[CredentialRow | None]
    forgettings: int  # how often something had been forgotten when it began


Name = tuple[bytes, int]


class DeviceCredentials:
    """`core.ports.Credentials` over stored rows, with a bounded cache of what was verified.

    A verified device is not read again for `credential_cache_seconds`; `forget` ends that at once. Wrong passwords are not remembered:
    they would only push out those that matter. Callers that ask for one device at the same time share one read.
    """

    def __init__(self, rows: CredentialRows, device_secrets: DeviceSecrets, limits: Limits, clock: Clock) -> None:
        self._rows = rows
        self._secrets = device_secrets
        self._limits = limits
        self._clock = clock
        self._cache_key = secrets.token_bytes(32)  # lives and dies with the process: a tag says nothing outside it
        self._verified: OrderedDict[Name, _Verified] = OrderedDict()
        self._reads: dict[Name, _Read] = {}
        self._forgettings = 0

    async def basic(self, username: str, password: str) -> Principal | None:
        """See `core.ports.Credentials`. A name that is no name is refused without a read: it tells nothing of who exists."""
        name = parse_username(username)
        if name is None:
            return None
        tag = blake2b(_encoded(password), digest_size=16, key=self._cache_key).digest()
        known = self._recall(name, tag)
        if known is not None:
            return known
        row = await self._row(name)
        if not self._secrets.matches(row, password) or row is None:
            return None
        principal = Principal(account=name[0], device=name[1], account_id=row.account_id, device_id=row.device_id)
        self._remember(name, _Verified(tag, principal, self._clock.monotonic() + self._limits.credential_cache_seconds))
        return principal

    def forget(self, account: bytes, device: int | None = None) -> None:
        """Drop what is known of a device, or of all devices of an account: called when credentials are revoked or changed.

        A read already under way is not believed either: whoever waits for it reads again.
        """
        self._forgettings += 1
        if device is not None:
            self._verified.pop((account, device), None)
            return
        for name in [name for name in self._verified if name[0] == account]:
            del self._verified[name]

    def forget_all(self) -> None:
        """Drop everything: called when a notice of revocation may have been missed."""
        self._forgettings += 1
        self._verified.clear()

    def _recall(self, name: Name, tag: bytes) -> Principal | None:
        known = self._verified.get(name)
        if known is None or known.until <= self._clock.monotonic() or not hmac.compare_digest(known.tag, tag):
            return None
        self._verified.move_to_end(name)
        return known.principal

    def _remember(self, name: Name, verified: _Verified) -> None:
        self._verified[name] = verified
        self._verified.move_to_end(name)
        while len(self._verified) > self._limits.credential_cache_entries:
            self._verified.popitem(last=False)

    async def _row(self, name: Name) -> CredentialRow | None:
        """The stored row, by a read that began after everything forgotten so far."""
        while True:
            read = self._reads.get(name)
            if read is None or read.forgettings != self._forgettings:
                read = _Read(asyncio.ensure_future(self._rows.credential(*name)), self._forgettings)
                self._reads[name] = read
                read.task.add_done_callback(partial(self._ended, name))
            # Shielded: one caller that goes away must not take the answer from the others.
            row = await asyncio.shield(read.task)
            if read.forgettings == self._forgettings:
                return row

    def _ended(self, name: Name, task: asyncio.Task[CredentialRow | None]) -> None:
        read = self._reads.get(name)
        if read is not None and read.task is task:
            del self._reads[name]
        if not task.cancelled():
            task.exception()  # seen: when every caller has gone away nobody else would look


def parse_username(username: str) -> Name | None:
    """Account UUID as 16 bytes and device number of `uuid.device`, or of `uuid` alone: device 1. None when it is neither."""
    match = USERNAME.fullmatch(username)
    if match is None:
        return None
    return UUID(match[1]).bytes, int(match[2] or PRIMARY_DEVICE)


def _encoded(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")  # any text a caller can come with is comparable, never an exception
