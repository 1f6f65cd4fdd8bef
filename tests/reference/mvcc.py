"""A mailbox under PostgreSQL's rules in forty lines: ids are taken before commit, snapshots decide what a page sees."""

from __future__ import annotations

from dataclasses import dataclass, field

from veredus.core.model import Page, Row


@dataclass
class Transaction:
    xid: int
    rows: list[Row] = field(default_factory=list)
    ended: bool = False
    committed: bool = False


@dataclass
class MvccMailbox:
    """One device's rows. Transactions insert (taking ids at once) and commit or roll back later, in any order."""

    next_xid: int = 100
    next_id: int = 1
    transactions: list[Transaction] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)

    def begin(self, rows: int) -> Transaction:
        transaction = Transaction(self.next_xid)
        self.next_xid += 1
        for _ in range(rows):
            transaction.rows.append(Row(self.next_id, self.next_id.to_bytes(16, "big"), 0, b"envelope %d" % self.next_id))
            self.next_id += 1
        self.transactions.append(transaction)
        return transaction

    def end(self, transaction: Transaction, commit: bool) -> None:
        transaction.ended = True
        transaction.committed = commit

    def page(self, floor: int, skip: set[int], limit: int) -> Page:
        running = [transaction.xid for transaction in self.transactions if not transaction.ended]
        rows = [
            row
            for transaction in self.transactions
            if transaction.committed
            for row in transaction.rows
            if row.id > floor and row.id not in skip and row.id not in self.removed
        ]
        rows.sort(key=lambda row: row.id)
        return Page(tuple(rows[:limit]), min(running, default=self.next_xid), self.next_xid, len(rows) < limit)
