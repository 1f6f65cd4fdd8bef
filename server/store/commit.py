"""Commits one batch: shapes it into columns, runs the statement that fits, and says what became of each submission.

Owns the meaning of the server's errors for a commit. Repeats what had no effect (deadlock, a window change, a clash with a concurrent
send), halves a batch with data the store cannot take, and never guesses: what may have been committed is `ResultUnknown`.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID

from veredus.core.errors import ResultUnknown, StoreUnavailable
from veredus.core.model import Outcome, Submission, Verdict
from veredus.server.store import statements
from veredus.server.store.pool import Connections, Lost
from veredus.server.store.windows import SEALED_SENDER, Windows, WindowState

# Each round makes progress unless the world changes under it again; ten changes within one commit mean that something is badly wrong.
ROUNDS = 10

# After a repeat was met, so many batches are committed carefully. Repeats come in bursts (a client resends after reconnecting), and a plain
# statement that meets one has worked for nothing: 16 careful batches cost less than two such.
CAREFUL_BATCHES = 16

REFUSED = Outcome(Verdict.REFUSED)
STALE = Outcome(Verdict.STALE_DEVICES)
MISMATCH = Outcome(Verdict.MISMATCH)


class BadData(Exception):
    """Something in the batch cannot be stored; nothing of the batch was."""


class Progress(msgspec.Struct):
    """What a commit has done so far: once anything is stored, «nothing happened» would be a lie."""

    stored: bool = False


class Committer:
    """The commit of `MessageStore`."""

    def __init__(self, connections: Connections, windows: Windows) -> None:
        self._connections = connections
        self._windows = windows
        self._careful = 0

    async def commit(self, batch: Sequence[Submission]) -> list[Outcome]:
        """See `MessageStore.commit`."""
        progress = Progress()
        try:
            return await self._divide(batch, progress)
        except Lost as error:
            raise ResultUnknown(f"the connection was lost during a commit ({error})") from None
        except StoreUnavailable as error:
            if progress.stored:
                raise ResultUnknown("a part of the batch was committed") from error
            raise

    async def _divide(self, batch: Sequence[Submission], progress: Progress) -> list[Outcome]:
        """Commit all, or the halves one after the other: each sender's order stays."""
        try:
            return await self._settle(batch, progress)
        except BadData:
            if len(batch) == 1:
                return [REFUSED]
            middle = len(batch) // 2
            return await self._divide(batch[:middle], progress) + await self._divide(batch[middle:], progress)

    async def _settle(self, batch: Sequence[Submission], progress: Progress) -> list[Outcome]:
        """Insert, then look up what was left out, until every submission has its outcome."""
        outcomes: dict[int, Outcome] = {}
        pending = list(range(len(batch)))
        for _ in range(ROUNDS):
            if not pending:
                return [outcomes[index] for index in range(len(batch))]
            state = await self._windows.state()
            part = [batch[index] for index in pending]
            inserted = await self._insert(part, state)
            if inserted is None:
                continue
            progress.stored = progress.stored or any(inserted)
            left_out = [index for index, outcome in zip(pending, inserted, strict=True) if outcome is None]
            outcomes.update((index, outcome) for index, outcome in zip(pending, inserted, strict=True) if outcome is not None)
            known = await self._lookup([batch[index] for index in left_out], state) if left_out else []
            outcomes.update((index, outcome) for index, outcome in zip(left_out, known, strict=True) if outcome is not None)
            pending = [index for index in left_out if index not in outcomes]
        raise StoreUnavailable(f"no result after {ROUNDS} rounds")

    async def _insert(self, batch: Sequence[Submission], state: WindowState) -> list[Outcome | None] | None:
        """The outcomes of what is new, None for each left out; or None when nothing happened and the state is to be looked at again."""
        sql, args = self._statement(batch, state)
        try:
            row = await self._connections.fetchrow(sql, *args)
        except asyncpg.UniqueViolationError:
            self._careful = CAREFUL_BATCHES
            return None
        except asyncpg.PostgresError as error:
            judge(error)
            return None
        except (ValueError, TypeError, OverflowError) as error:  # could not be encoded: never sent
            raise BadData(type(error).__name__) from None
        assert row is not None
        if row["ms"] is None:
            await self._windows.reload()
            return None
        return committed(batch, row["ms"], row["lost"], row["ids"] or ())

    def _statement(self, batch: Sequence[Submission], state: WindowState) -> tuple[str, list[object]]:
        args = columns(batch, state)
        if state.changing:
            return statements.CHANGING, [*args, state.next, other_client_ids(batch, state, state.next)]
        if self._careful:
            self._careful -= 1
            return statements.CAREFUL, args
        return statements.PLAIN, args

    async def _lookup(self, batch: Sequence[Submission], state: WindowState) -> list[Outcome | None]:
        """What became of submissions that were left out; None where that is to be tried again."""
        windows = [state.next, state.current, state.previous] if state.changing else [state.current, state.previous, None]
        args: list[object] = [state.version]
        for window in windows:
            args += [window, [] if window is None else client_ids(batch, state, window)]
        args += [[key_sender(each) for each in batch], [each.account_id for each in batch], [each.devices_version for each in batch]]
        try:
            rows = await self._connections.fetch(statements.LOOKUP, *args)
        except asyncpg.PostgresError as error:
            raise StoreUnavailable(f"the store failed a lookup ({error.sqlstate})") from None
        if not rows[0]["valid"]:
            await self._windows.reload()
            return [None] * len(batch)
        return [answer(each, row) for each, row in zip(batch, rows, strict=True)]


def key_sender(submission: Submission) -> int:
    return SEALED_SENDER if submission.sealed else submission.sender


def client_ids(batch: Sequence[Submission], state: WindowState, window: int) -> list[UUID]:
    return [UUID(state.client_id(each, window)) for each in batch]


def other_client_ids(batch: Sequence[Submission], state: WindowState, window: int) -> list[UUID]:
    """As `client_ids`, or nothing where they are the same in every window."""
    return client_ids(batch, state, window) if any([each.sealed for each in batch]) else []


def columns(batch: Sequence[Submission], state: WindowState) -> list[object]:
    """The parameters of `statements` that every batch has. Raises `BadData`."""
    try:
        sends = [each.send for each in batch]
        versions = list(dict.fromkeys([(each.account_id, each.devices_version) for each in batch]))
        one_each = all([len(each.targets) == 1 for each in batch])
        return [
            state.version,
            state.current,
            state.previous,
            [account for account, _ in versions],
            [version for _, version in versions],
            [SEALED_SENDER if each.sealed else each.sender for each in batch],
            client_ids(batch, state, state.current),
            other_client_ids(batch, state, state.previous),
            [UUID(send.guid) for send in sends],
            [send.digest for send in sends],
            [each.needs_sync * statements.NEEDS_SYNC + each.send.urgent * statements.URGENT for each in batch],
            [each.account_id for each in batch],
            [envelope for send in sends for envelope in send.envelopes],
            [device for each in batch for device in each.targets],
            [] if one_each else [number for number, each in enumerate(batch, 1) for _ in each.targets],
        ]
    except (ValueError, TypeError, OverflowError) as error:
        raise BadData(type(error).__name__) from None


def committed(batch: Sequence[Submission], ms: int, lost: list[int], ids: Sequence[int]) -> list[Outcome | None]:
    """Deal the ids out to the submissions that were stored: both are in input order."""
    left_out = set(lost)
    outcomes: list[Outcome | None] = []
    used = 0
    for number, each in enumerate(batch, 1):
        if number in left_out:
            outcomes.append(None)
            continue
        end = used + len(each.targets)
        outcomes.append(Outcome(Verdict.COMMITTED, each.send.guid, ms, each.needs_sync, tuple(ids[used:end])))
        used = end
    if used != len(ids):
        raise ResultUnknown("the store answered with another number of rows than were sent")
    return outcomes


def answer(submission: Submission, row: asyncpg.Record) -> Outcome | None:
    """What the store knows of a left-out submission. Absent with the devices unchanged: whoever was in its way is gone, try again."""
    if row["guid"] is None:
        return None if row["fresh"] else STALE
    if row["digest"] != submission.send.digest:
        return MISMATCH
    return Outcome(Verdict.REPEATED, row["guid"].bytes, row["server_time"], row["needs_sync"])


def judge(error: asyncpg.PostgresError) -> None:
    """Sort an error that had no effect: returns to repeat, raises `BadData` or `StoreUnavailable`. The server's text may hold data and
    goes nowhere."""
    state = error.sqlstate or ""
    if state in ("40P01", "40001"):
        return
    # A missing partition has the code of a violated CHECK, but names no constraint: that is our fault, not the message's.
    about_data = state[:2] == "22" or (state[:2] == "23" and (error.constraint_name or error.column_name))
    if about_data:
        raise BadData(state)
    raise StoreUnavailable(f"the store failed a commit ({state})") from None
