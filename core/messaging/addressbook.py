"""Accounts and their devices as delivery remembers them.

A cache and nothing more: what it says is verified inside the commit statement (`devices_version`), so a stale entry costs a second
statement, never a wrong delivery. Accounts that do not exist are not remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from veredus.core.model import Account
from veredus.core.ports import Directory

CACHED_ACCOUNTS = 100_000  # about 1 KiB each with one or two devices: 100 MB at most in a worker


class Addressbook:
    """Accounts by UUID. One read for all that a batch misses."""

    def __init__(self, directory: Directory, limit: int = CACHED_ACCOUNTS) -> None:
        self._directory = directory
        self._limit = limit
        self._accounts: dict[bytes, Account] = {}

    def get(self, account: bytes) -> Account | None:
        """The account as last read, None when it was not (or does not exist)."""
        return self._accounts.get(account)

    def missing(self, accounts: Iterable[bytes]) -> list[bytes]:
        """Those that have to be read first, each once."""
        return [account for account in dict.fromkeys(accounts) if account not in self._accounts]

    async def load(self, accounts: list[bytes]) -> None:
        """Read these anew. Raises `StoreUnavailable`."""
        found = await self._directory.accounts(accounts)
        for account in accounts:
            self._accounts.pop(account, None)
        self._accounts.update(found)
        excess = len(self._accounts) - self._limit
        if excess > 0:
            for account in list(islice(self._accounts, excess)):
                del self._accounts[account]

    def forget(self, account: bytes) -> None:
        """Read it anew when it is next needed."""
        self._accounts.pop(account, None)
