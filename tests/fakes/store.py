"""MessageStore and Directory in memory, with gates: a test decides when a commit begins, lands and answers.

Passes the same contract suite as the PostgreSQL adapter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from veredus.core.errors import ResultUnknown, StoreUnavailable
from veredus.core.model import Account, Outcome, Page, Row, Submission, Verdict

PAGE_BYTES = 1024 * 1024
MOST_BYTES = 256 * 1024 + 1024  # as the table's own check: a content with its header


@dataclass
class KeyRow:
    digest: bytes
    guid: bytes
    server_timestamp: int
    needs_sync: bool


@dataclass
class MemoryStore:
    """One dictionary a table. `accounts` is shared with the directory, so that versions are checked as the store would."""

    accounts: dict[bytes, Account] = field(default_factory=dict)
    keys: dict[tuple[int, bytes], KeyRow] = field(default_factory=dict)
    mailbox: dict[tuple[int, int], Row] = field(default_factory=dict)
    refuse: Callable[[Submission], bool] = lambda submission: any(len(envelope) > MOST_BYTES for envelope in submission.send.envelopes)
    now_ms: int = 1_700_000_000_000
    last_id: int = 0
    transaction: int = 100
    store_epoch: UUID = field(default_factory=uuid4)

    # Faults: what the next calls do.
    available: bool = True
    lose_answer: list[bool] = field(default_factory=list)  # one entry a commit: True after storing, False before
    commits: int = 0
    before_commit: asyncio.Event | None = None  # waited for before storing
    after_commit: asyncio.Event | None = None  # waited for after storing, before answering
    began: asyncio.Event = field(default_factory=asyncio.Event)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    page_gate: asyncio.Event | None = None

    async def commit(self, batch: Sequence[Submission]) -> list[Outcome]:
        self.commits += 1
        self.began.set()
        if not self.available:
            raise StoreUnavailable
        if self.before_commit is not None:
            await self.before_commit.wait()
        loss = self.lose_answer.pop(0) if self.lose_answer else None
        if loss is False:
            raise ResultUnknown
        self.transaction += 1
        outcomes = [self._store(submission) for submission in batch]
        self.stored.set()
        if self.after_commit is not None:
            await self.after_commit.wait()
        if loss:
            raise ResultUnknown
        return outcomes

    def _store(self, submission: Submission) -> Outcome:
        send = submission.send
        key = (submission.sender, send.client_id)
        known = self.keys.get(key)
        if known is not None:
            verdict = Verdict.REPEATED if known.digest == send.digest else Verdict.MISMATCH
            return Outcome(verdict, known.guid, known.server_timestamp, known.needs_sync)
        if self._version(submission.account_id) != submission.devices_version:
            return Outcome(Verdict.STALE_DEVICES)
        if self.refuse(submission):
            return Outcome(Verdict.REFUSED)
        self.keys[key] = KeyRow(send.digest, send.guid, self.now_ms, submission.needs_sync)
        ids = []
        for device, envelope in zip(submission.targets, send.envelopes, strict=True):
            self.last_id += 1
            self.mailbox[device, self.last_id] = Row(self.last_id, send.guid, self.now_ms, envelope)
            ids.append(self.last_id)
        return Outcome(Verdict.COMMITTED, send.guid, self.now_ms, submission.needs_sync, tuple(ids))

    def _version(self, account_id: int) -> int | None:
        return next((account.devices_version for account in self.accounts.values() if account.id == account_id), None)

    async def page(self, device: int, floor: int, skip: Sequence[int], limit: int) -> Page:
        if not self.available:
            raise StoreUnavailable
        unwanted = set(skip)
        rows = [
            row for (owner, row_id), row in sorted(self.mailbox.items()) if owner == device and row_id > floor and row_id not in unwanted
        ]
        taken: list[Row] = []
        size = 0
        for row in rows[:limit]:
            if size >= PAGE_BYTES:
                break
            size += len(row.envelope)
            taken.append(row)
        page = Page(tuple(taken), self.transaction + 1, self.transaction + 1, len(taken) == len(rows) < limit)
        if self.page_gate is not None:
            await self.page_gate.wait()
        return page

    async def remove(self, rows: Sequence[tuple[int, int]]) -> int:
        if not self.available:
            raise StoreUnavailable
        return sum(self.mailbox.pop(row, None) is not None for row in rows)

    async def remove_guid(self, device: int, guid: bytes) -> bool:
        found = [key for key, row in self.mailbox.items() if key[0] == device and row.guid == guid]
        for key in found:
            del self.mailbox[key]
        return bool(found)

    async def epoch(self) -> UUID:
        return self.store_epoch

    def of(self, device: int) -> list[Row]:
        """What a device's mailbox holds."""
        return [row for (owner, _), row in sorted(self.mailbox.items()) if owner == device]


@dataclass
class MemoryDirectory:
    """Accounts of a MemoryStore; counts reads."""

    store: MemoryStore
    reads: int = 0

    async def accounts(self, uuids: Sequence[bytes]) -> dict[bytes, Account]:
        self.reads += 1
        if not self.store.available:
            raise StoreUnavailable
        return {uuid: self.store.accounts[uuid] for uuid in uuids if uuid in self.store.accounts}
