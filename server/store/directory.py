"""Accounts and credentials as delivery reads them: the adapters of `Directory` and `CredentialRows`. Never caches, never writes."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from veredus.core.errors import StoreUnavailable
from veredus.core.model import Account, CredentialRow, Device
from veredus.server.store.pool import Connections, Lost

# One statement, one snapshot: the version and the devices belong together. OFFSET 0 keeps each look-up what it says, one descent of an
# index; as joins they may be planned for tables that are still empty.
ACCOUNTS = """
SELECT a.uuid, a.id, a.devices_version, d.id AS device, d.number, d.registration_id
FROM unnest($1::uuid[]) u(uuid)
JOIN LATERAL (SELECT * FROM account WHERE uuid = u.uuid AND disabled_at IS NULL OFFSET 0) a ON true
LEFT JOIN LATERAL (SELECT * FROM device WHERE account = a.id AND revoked_at IS NULL OFFSET 0) d ON true
ORDER BY a.id, d.number"""

# The newest registration of each number: an older one is revoked for good.
CREDENTIALS = """
SELECT u.uuid, u.number, a.id AS account, d.id AS device, d.secret_salt, d.secret_hash,
       d.revoked_at IS NOT NULL OR a.disabled_at IS NOT NULL AS revoked
FROM unnest($1::uuid[], $2::int[]) u(uuid, number)
JOIN LATERAL (SELECT * FROM account WHERE uuid = u.uuid OFFSET 0) a ON true
JOIN LATERAL (SELECT * FROM device WHERE account = a.id AND number = u.number ORDER BY id DESC LIMIT 1) d ON true"""

MAX_NUMBER = 2**31 - 1  # of an integer column; a larger number is nobody's


class PostgresDirectory:
    """`Directory` and `CredentialRows`."""

    def __init__(self, reads: Connections) -> None:
        self._reads = reads

    async def accounts(self, uuids: Sequence[bytes]) -> dict[bytes, Account]:
        """See `Directory.accounts`. Names that are not 16 bytes are nobody's."""
        names = [UUID(uuid) for uuid in dict.fromkeys(uuids) if len(uuid) == 16]
        rows = await self._fetch(ACCOUNTS, names) if names else []
        found: dict[bytes, Account] = {}
        for row in rows:
            uuid = row["uuid"].bytes
            if uuid not in found:
                found[uuid] = Account(row["id"], uuid, row["devices_version"], {})
            if row["device"] is not None:
                found[uuid].devices[row["number"]] = Device(row["device"], row["number"], row["registration_id"])
        return found

    async def credential(self, account: bytes, device: int) -> CredentialRow | None:
        """See `CredentialRows.credential`."""
        return (await self.credentials([(account, device)])).get((account, device))

    async def credentials(self, names: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], CredentialRow]:
        """The stored secrets of many (account UUID, device number) in one statement. Raises `StoreUnavailable`."""
        asked = [(uuid, number) for uuid, number in names if len(uuid) == 16 and 0 < number <= MAX_NUMBER]
        if not asked:
            return {}
        rows = await self._fetch(CREDENTIALS, [UUID(uuid) for uuid, _ in asked], [number for _, number in asked])
        return {
            (row["uuid"].bytes, row["number"]): CredentialRow(
                row["account"], row["device"], row["secret_salt"], row["secret_hash"], row["revoked"]
            )
            for row in rows
        }

    async def _fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        try:
            return await self._reads.fetch(sql, *args)
        except (Lost, asyncpg.PostgresError) as error:
            raise StoreUnavailable(f"cannot read accounts ({type(error).__name__})") from None
