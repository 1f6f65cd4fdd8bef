"""Makes and changes accounts and devices. Owns the rule that every change of who can be delivered to moves `devices_version`.

Secrets come hashed; what was hashed is nobody's business here.
"""

from __future__ import annotations

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID

from veredus.core.errors import Code, StoreUnavailable, VeredusError
from veredus.core.model import Device
from veredus.server.store.pool import Connections, Lost

CREATE = """
WITH a AS (INSERT INTO account (uuid) VALUES ($1) RETURNING id)
INSERT INTO device (account, number, registration_id, secret_salt, secret_hash) SELECT id, 1, $2, $3, $4 FROM a
RETURNING id, number, registration_id
"""

# The account's row is locked first; whoever waited for it still counts numbers in his old snapshot, is stopped by the unique index, and
# tries again.
ADD = """
WITH a AS (UPDATE account SET devices_version = nextval('devices_version') WHERE uuid = $1 AND disabled_at IS NULL RETURNING id),
 n AS (SELECT a.id, min(g) AS number FROM a, generate_series(1, $5::int) g
       WHERE NOT EXISTS (SELECT FROM device d WHERE d.account = a.id AND d.number = g AND d.revoked_at IS NULL) GROUP BY a.id)
INSERT INTO device (account, number, registration_id, secret_salt, secret_hash) SELECT id, number, $2, $3, $4 FROM n
RETURNING id, number, registration_id
"""

# The insert reads from the update, so it comes after it, and the number is free by then.
REPLACE = """
WITH a AS (UPDATE account SET devices_version = nextval('devices_version') WHERE uuid = $1 AND disabled_at IS NULL RETURNING id),
 o AS (UPDATE device d SET revoked_at = clock_timestamp() FROM a WHERE d.account = a.id AND d.number = $5 AND d.revoked_at IS NULL
       RETURNING d.account, d.number)
INSERT INTO device (account, number, registration_id, secret_salt, secret_hash) SELECT account, number, $2, $3, $4 FROM o
RETURNING id, number, registration_id
"""

REVOKE = """
WITH a AS (UPDATE account SET devices_version = nextval('devices_version') WHERE uuid = $1 RETURNING id)
UPDATE device d SET revoked_at = clock_timestamp() FROM a WHERE d.account = a.id AND d.number = $2 AND d.revoked_at IS NULL
"""

DISABLE = """
UPDATE account SET disabled_at = clock_timestamp(), devices_version = nextval('devices_version') WHERE uuid = $1 AND disabled_at IS NULL
"""

# Everybody else's change of one account must come between two of our tries for the next to be needed.
ROUNDS = 10


class Secret(msgspec.Struct, frozen=True):
    """A device's secret as it is stored: a salted keyed hash."""

    salt: bytes
    hash: bytes


class Accounts:
    """Every method raises `StoreUnavailable`; what it may have done then is found by reading (an account, a device or none)."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def create(self, uuid: bytes, registration_id: int, secret: Secret) -> Device:
        """A new account with device 1. Raises INVALID_REQUEST when the uuid is taken."""
        try:
            device = await self._device(CREATE, UUID(uuid), registration_id, secret.salt, secret.hash)
        except asyncpg.UniqueViolationError:
            raise VeredusError(Code.INVALID_REQUEST, "the account exists") from None
        if device is None:
            raise StoreUnavailable("the account was not made")
        return device

    async def add_device(self, account: bytes, registration_id: int, secret: Secret, max_devices: int) -> Device | None:
        """A new device under the lowest free number up to `max_devices`; None when there is no such account or no number free."""
        for _ in range(ROUNDS):
            try:
                return await self._device(ADD, UUID(account), registration_id, secret.salt, secret.hash, max_devices)
            except asyncpg.UniqueViolationError:
                continue
        raise StoreUnavailable("too many changes of one account at once")

    async def replace_device(self, account: bytes, number: int, registration_id: int, secret: Secret) -> Device | None:
        """Register a device anew: same number, another mailbox. None when there is no such active device."""
        return await self._device(REPLACE, UUID(account), registration_id, secret.salt, secret.hash, number)

    async def revoke_device(self, account: bytes, number: int) -> bool:
        """End a device: nothing is delivered to it any more. Says whether it was active."""
        return await self._changed(REVOKE, UUID(account), number)

    async def disable(self, account: bytes) -> bool:
        """End an account. Says whether it was active."""
        return await self._changed(DISABLE, UUID(account))

    async def _device(self, sql: str, *args: object) -> Device | None:
        try:
            row = await self._connections.fetchrow(sql, *args)
        except asyncpg.UniqueViolationError:
            raise
        except (Lost, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"cannot change an account ({type(error).__name__})") from None
        return None if row is None else Device(row["id"], row["number"], row["registration_id"])

    async def _changed(self, sql: str, *args: object) -> bool:
        try:
            return (await self._connections.execute(sql, *args)) != "UPDATE 0"
        except (Lost, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"cannot change an account ({type(error).__name__})") from None
