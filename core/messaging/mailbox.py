"""One connected device's mailbox: which rows to send, in which order, and what an acknowledgement means.

Theory of operation
-------------------
The store holds the rows; this machine decides what the connection is sent. It does no I/O: it calls `wire.deliver` (which only queues) and
says, through `wants_page`, when somebody should read a page and bring it to `on_page`.

    CLAIMING ──claimed──► DRAINING ──short page, no doorbell since it was asked for──► LIVE
                             ▲  ▲                                                       │ │
                             │  └──────────────────── doorbell ─────────────────────────┘ │
                             └───room again─── LAGGING ◄──── outbox or window full ───────┘   (from DRAINING too)

In LIVE rows are pushed as they are committed. In every other state a push is only a doorbell: the row is in the store and a page will
bring it, in order. That is what makes a slow reader harmless and keeps what was committed earlier from being overtaken.

Paging. Ids are handed out before commit, so a row with a smaller id may appear after a larger one, and nothing bounds by how much. A page
therefore brings the snapshot that saw it. Having read up to id X with snapshot S, we may forget everything up to X only when a later page,
which looked at those ids again, has a snapshot in which every transaction that S could not see has ended: `later.xmin >= S.xmax`. Until
then pages start at the old `floor`, and `skip` names what this connection was already sent.

Acknowledgements. Each delivery gets the next tag. «Up to X» means the entries of this log at or before X: rows, never a range of ids. An
entry holds its place in the window until the store has removed the row, so the rows waiting for removal are bounded too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

from veredus.core.limits import Limits
from veredus.core.model import Page, Row
from veredus.core.ports import Wire

# Removed rows still remembered, so that a push that comes late does not deliver twice on one connection.
REMEMBERED_REMOVALS = 256


class State(IntEnum):
    """Where a mailbox session is."""

    CLAIMING = 0
    DRAINING = 1
    LIVE = 2
    LAGGING = 3
    CLOSED = 4


TRANSITIONS: dict[State, frozenset[State]] = {
    State.CLAIMING: frozenset({State.DRAINING, State.CLOSED}),
    State.DRAINING: frozenset({State.LIVE, State.LAGGING, State.CLOSED}),
    State.LIVE: frozenset({State.DRAINING, State.LAGGING, State.CLOSED}),
    State.LAGGING: frozenset({State.DRAINING, State.CLOSED}),
    State.CLOSED: frozenset(),
}


class Entry:
    """A line of the send log."""

    __slots__ = ("guid", "id", "size", "tag")

    def __init__(self, tag: int, row: Row) -> None:
        self.tag = tag
        self.id = row.id
        self.guid = row.guid
        self.size = len(row.envelope)


class Mailbox:
    """The machine. `wants_page` is true while a page should be read; whoever reads it calls `begin_page` and then `on_page` or
    `on_page_failed`."""

    __slots__ = (
        "_announced",
        "_by_guid",
        "_floor",
        "_horizon",
        "_limits",
        "_log",
        "_paging",
        "_removals",
        "_rung",
        "_sent",
        "_window_bytes",
        "_window_full",
        "_window_rows",
        "_wire",
        "_writable",
        "state",
        "tag",
    )

    def __init__(self, wire: Wire, limits: Limits) -> None:
        self._wire = wire
        self._limits = limits
        self.state = State.CLAIMING
        self.tag = 0  # the last one used

        # What was sent: the log of unacknowledged deliveries in tag order, and the ids above the floor.
        self._log: dict[int, Entry] = {}
        self._by_guid: dict[bytes, int] = {}
        self._sent: dict[int, None] = {}
        self._removals: dict[int, None] = {}  # ids of `_sent` whose rows are gone, oldest first
        self._window_rows = 0
        self._window_bytes = 0
        self._window_full = False  # a row did not fit: until half of it is free

        # Paging.
        self._floor = 0
        self._horizon: tuple[int, int] | None = None  # (id read up to, xmax of the snapshot that read it)
        self._paging = False
        self._rung = False
        self._announced = False
        self._writable = True

    # ------------------------------------------------------------------------------------------------------------------- store side

    @property
    def wants_page(self) -> bool:
        """A page should be read now."""
        return self.state is State.DRAINING and not self._paging

    def on_claimed(self) -> None:
        """Presence says the device is here: probe the mailbox."""
        if self.state is State.CLAIMING:
            self._enter(State.DRAINING)

    def begin_page(self) -> tuple[int, list[int]]:
        """A page is being read: from this floor, without these ids."""
        self._paging = True
        self._rung = False
        return self._floor, list(self._sent)

    def on_page(self, page: Page) -> None:
        """Deliver what the page holds, as far as the peer keeps up, and decide what comes next."""
        self._paging = False
        if self.state is State.CLOSED:
            return
        delivered = self._deliver_rows(page.rows)
        complete = delivered == len(page.rows)
        self._move_floor(page, delivered)
        if not complete:
            if self.state is not State.LAGGING:
                self._enter(State.LAGGING)
        elif page.short and not self._rung:
            self._settle_down()

    def on_page_failed(self) -> None:
        """The page could not be read: it is still wanted."""
        self._paging = False

    def on_doorbell(self) -> None:
        """There may be rows for this device that nobody pushes."""
        self._rung = True
        if self.state is State.LIVE:
            self._enter(State.DRAINING)

    def on_live(self, row: Row) -> bool:
        """A row was committed. True: it is on its way. False: it stays in the store, a later page brings it."""
        if self.state is not State.LIVE:
            self._rung = True
            return False
        if row.id <= self._floor or row.id in self._sent:
            return True
        if not self._deliver(row):
            self._enter(State.LAGGING)
            return False
        return True

    def on_sync(self) -> None:
        """The peer asks for what is stored: page again and say when done."""
        self._announced = False
        self.on_doorbell()

    # -------------------------------------------------------------------------------------------------------------------- peer side

    def acknowledge(self, tags: Iterable[int], guids: Iterable[bytes], up_to: int) -> tuple[list[Entry], int]:
        """What the peer need not be sent again: the entries to remove, and how many names meant nothing on this connection."""
        entries: list[Entry] = []
        unknown = 0
        if up_to:
            if up_to > self.tag:
                unknown += 1
            else:
                entries += self._take_up_to(up_to)
        for tag in tags:
            unknown += self._take(tag, entries)
        for guid in guids:
            unknown += self._take(self._by_guid.get(guid, 0), entries)
        return entries, unknown

    def on_removed(self, ids: Sequence[int], size: int) -> None:
        """Rows of acknowledged entries, `size` bytes together, are gone from the store: their places in the window are free."""
        self._window_rows -= len(ids)
        self._window_bytes -= size
        for row_id in ids:
            if row_id in self._sent:
                self._removals[row_id] = None
        while len(self._removals) > REMEMBERED_REMOVALS:
            oldest = next(iter(self._removals))
            del self._removals[oldest], self._sent[oldest]
        self._leave_lagging()

    def oldest(self) -> Entry | None:
        """The delivery that has waited longest for its acknowledgement."""
        return next(iter(self._log.values()), None)

    def on_writable(self) -> None:
        """The outbox has room again."""
        self._writable = True
        self._leave_lagging()

    def close(self) -> list[Entry]:
        """The connection is gone. Returns what was sent and not acknowledged."""
        self.state = State.CLOSED
        left = list(self._log.values())
        self._log.clear()
        self._by_guid.clear()
        self._sent.clear()
        self._removals.clear()
        return left

    # ----------------------------------------------------------------------------------------------------------------------- inside

    def _enter(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state = state

    def _settle_down(self) -> None:
        if self.state is State.DRAINING:
            self._enter(State.LIVE)
        if not self._announced:
            self._announced = True
            self._wire.drained(self.tag)

    def _deliver_rows(self, rows: Sequence[Row]) -> int:
        for index, row in enumerate(rows):
            if row.id not in self._sent and not self._deliver(row):
                return index
        return len(rows)

    def _deliver(self, row: Row) -> bool:
        size = len(row.envelope)
        limits = self._limits
        if self._window_rows >= limits.window or (self._window_rows and self._window_bytes + size > limits.window_bytes):
            self._window_full = True
            return False
        tag = self.tag + 1
        if not self._wire.deliver(tag, row.envelope, row.server_timestamp):
            self._writable = False
            return False
        self.tag = tag
        self._log[tag] = Entry(tag, row)
        self._by_guid[row.guid] = tag
        self._sent[row.id] = None
        self._window_rows += 1
        self._window_bytes += size
        return True

    def _move_floor(self, page: Page, delivered: int) -> None:
        """Apply the paging rule of the module's text. `delivered` rows of the page are on their way."""
        rows = page.rows
        if delivered < len(rows):
            covered = rows[delivered - 1].id if delivered else self._floor
        elif page.short:
            covered = max(self._sent, default=self._floor)
        else:
            covered = rows[-1].id
        if self._horizon is not None and page.xmin >= self._horizon[1]:
            self._raise_floor(min(self._horizon[0], max(covered, self._floor)))
            self._horizon = None
        if self._horizon is None and covered > self._floor:
            self._horizon = (covered, page.xmax)

    def _raise_floor(self, floor: int) -> None:
        self._floor = floor
        for row_id in [row_id for row_id in self._sent if row_id <= floor]:
            del self._sent[row_id]
            self._removals.pop(row_id, None)

    def _take(self, tag: int, entries: list[Entry]) -> int:
        entry = self._log.pop(tag, None)
        if entry is None:
            return 0 if 0 < tag <= self.tag else 1  # repeating an acknowledgement is no fault
        if self._by_guid.get(entry.guid) == tag:
            del self._by_guid[entry.guid]
        entries.append(entry)
        return 0

    def _take_up_to(self, tag: int) -> list[Entry]:
        covered: list[int] = []
        for known in self._log:  # in tag order, so it ends at the first larger one
            if known > tag:
                break
            covered.append(known)
        entries: list[Entry] = []
        for known in covered:
            self._take(known, entries)
        return entries

    def _leave_lagging(self) -> None:
        """What stopped the deliveries decides: a window that is not full is the peer's to use, however much of it waits for answers."""
        limits = self._limits
        if self._window_rows * 2 <= limits.window and self._window_bytes * 2 <= limits.window_bytes:
            self._window_full = False
        if self.state is State.LAGGING and self._writable and not self._window_full:
            self._enter(State.DRAINING)
