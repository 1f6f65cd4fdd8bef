"""Accounts and their devices as delivery remembers them.

A cache and nothing more: what it says of a recipient is verified inside the commit statement (`devices_version`), and a refusal is given
only after a fresh read, so a stale entry costs a second statement, never a wrong delivery. Of a sender it says whether he has other
devices, which is why entries age. Accounts that do not exist are not remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from veredus.core.clock import Clock
from veredus.core.model import Account
from veredus.core.ports import Directory

CACHED_ACCOUNTS = 100_000  # about 1 KiB each with one or two devices: 100 MB at most in a worker
ACCOUNT_SECONDS = 60.0  # how long a sender may not be told that he has a new device to sync; one read a minute per active account


class Addressbook:
    """Accounts by UUID. One read for all that a batch misses."""

    def __init__(self, directory: Directory, clock: Clock, limit: int = CACHED_ACCOUNTS) -> None:
        self._directory = directory
        self._clock = clock
        self._limit = limit
        self._accounts: dict[bytes, tuple[Account, float]] = {}  # with the time it ages, oldest first

    def get(self, account: bytes) -> Account | None:
        """The account as last read, None when it was not (or does not exist)."""
        known = self._accounts.get(account)
        return known[0] if known is not None else None

    def missing(self, accounts: Iterable[bytes]) -> list[bytes]:
        """Those that have to be read first, each once."""
        now = self._clock.monotonic()
        known = self._accounts
        return [account for account in dict.fromkeys(accounts) if account not in known or known[account][1] <= now]

    async def load(self, accounts: list[bytes]) -> None:
        """Read these anew. Raises `StoreUnavailable`."""
        found = await self._directory.accounts(accounts)
        ages = self._clock.monotonic() + ACCOUNT_SECONDS
        for account in accounts:
            self._accounts.pop(account, None)
            if account in found:
                self._accounts[account] = (found[account], ages)
        excess = len(self._accounts) - self._limit
        if excess > 0:
            for account in list(islice(self._accounts, excess)):
                del self._accounts[account]
