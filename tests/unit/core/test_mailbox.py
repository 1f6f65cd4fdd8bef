"""The mailbox machine against the rules of its own module text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fakes.wire import MemoryWire
from tests.reference.mvcc import MvccMailbox, Transaction
from veredus.core.limits import Limits
from veredus.core.messaging.mailbox import Mailbox, State
from veredus.core.model import Page, Row

LIMITS = Limits(window=8, window_bytes=1_000_000, page_rows=4)


def row(number: int, size: int = 10) -> Row:
    return Row(number, number.to_bytes(16, "big"), 1000 + number, b"e" * size)


def page(*numbers: int, xmin: int = 10, xmax: int = 10, short: bool = True) -> Page:
    return Page(tuple(row(number) for number in numbers), xmin, xmax, short)


def live(limits: Limits = LIMITS) -> tuple[Mailbox, MemoryWire]:
    wire = MemoryWire()
    mailbox = Mailbox(wire, limits)
    mailbox.on_claimed()
    mailbox.begin_page()
    mailbox.on_page(page())
    assert mailbox.state is State.LIVE
    return mailbox, wire


def remove(mailbox: Mailbox, **names: object) -> int:
    """Acknowledge and let the store remove at once. Returns how many names were unknown."""
    entries, unknown = mailbox.acknowledge(names.get("tags", ()), names.get("guids", ()), names.get("up_to", 0))  # type: ignore[arg-type]
    mailbox.on_removed([entry.id for entry in entries], sum(entry.size for entry in entries))
    return unknown


@pytest.mark.requirement("SYN-3", "SYN-1")
def test_stored_rows_are_sent_first_and_in_id_order_before_anything_live() -> None:
    wire = MemoryWire()
    mailbox = Mailbox(wire, LIMITS)
    mailbox.on_claimed()
    assert mailbox.wants_page
    mailbox.begin_page()
    assert not mailbox.on_live(row(9))  # only a doorbell now
    mailbox.on_page(page(1, 2))
    assert mailbox.wants_page  # the page was asked for before the doorbell
    mailbox.begin_page()
    mailbox.on_page(page(9))
    assert [tag for tag, _, _ in wire.deliveries] == [1, 2, 3]
    assert wire.drained_at == [3]
    assert mailbox.state is State.LIVE


def test_a_full_page_is_followed_by_another() -> None:
    wire = MemoryWire()
    mailbox = Mailbox(wire, LIMITS)
    mailbox.on_claimed()
    mailbox.begin_page()
    mailbox.on_page(page(1, 2, 3, 4, short=False))
    assert mailbox.wants_page
    assert wire.drained_at == []


def test_a_row_is_pushed_once_on_a_connection() -> None:
    mailbox, wire = live()
    assert mailbox.on_live(row(1))
    assert mailbox.on_live(row(1))
    mailbox.on_doorbell()
    mailbox.begin_page()
    mailbox.on_page(page(1, 2))
    assert [tag for tag, _, _ in wire.deliveries] == [1, 2]


@pytest.mark.requirement("SYN-7")
def test_up_to_means_entries_of_the_send_log_not_a_range_of_ids() -> None:
    mailbox, _ = live()
    mailbox.on_live(row(20))
    mailbox.on_live(row(10))  # committed late, with a smaller id
    entries, unknown = mailbox.acknowledge((), (), 1)
    assert ([entry.id for entry in entries], unknown) == ([20], 0)


@pytest.mark.requirement("MSG-15")
def test_tags_and_guids_name_single_deliveries() -> None:
    mailbox, _ = live()
    for number in (1, 2, 3):
        mailbox.on_live(row(number))
    entries, _ = mailbox.acknowledge([2], [row(3).guid], 0)
    assert [entry.id for entry in entries] == [2, 3]


def test_what_was_not_sent_cannot_be_acknowledged() -> None:
    mailbox, _ = live()
    mailbox.on_live(row(1))
    entries, unknown = mailbox.acknowledge([0, 7], [b"x" * 16], 9)
    assert (entries, unknown) == ([], 4)


def test_repeating_an_acknowledgement_is_no_fault_and_removes_nothing_twice() -> None:
    mailbox, _ = live()
    mailbox.on_live(row(1))
    assert remove(mailbox, tags=[1]) == 0
    assert mailbox.acknowledge([1], (), 1) == ([], 0)


def test_a_full_window_turns_pushing_into_paging_and_removal_opens_it_again() -> None:
    mailbox, wire = live()
    for number in range(1, 10):
        mailbox.on_live(row(number))
    assert len(wire.deliveries) == LIMITS.window
    assert mailbox.state is State.LAGGING
    entries, _ = mailbox.acknowledge((), (), 8)
    assert mailbox.state is State.LAGGING  # places are free when the rows are gone, not before
    mailbox.on_removed([entry.id for entry in entries], sum(entry.size for entry in entries))
    assert mailbox.wants_page
    mailbox.begin_page()
    mailbox.on_page(page(9))
    assert mailbox.state is State.LIVE
    assert wire.deliveries[-1][0] == 9


def test_a_full_outbox_drops_nothing() -> None:
    mailbox, wire = live()
    wire.room = 1
    assert mailbox.on_live(row(1))
    assert not mailbox.on_live(row(2))
    assert not mailbox.on_live(row(3))
    assert not mailbox.wants_page
    wire.room = None
    mailbox.on_writable()
    assert mailbox.wants_page
    mailbox.begin_page()
    mailbox.on_page(page(2, 3))
    assert [tag for tag, _, _ in wire.deliveries] == [1, 2, 3]


def test_one_row_larger_than_the_window_of_bytes_still_passes() -> None:
    mailbox, wire = live(Limits(window_bytes=100))
    assert mailbox.on_live(row(1, size=500))
    assert not mailbox.on_live(row(2, size=1))
    assert len(wire.deliveries) == 1


def test_the_floor_waits_for_transactions_the_page_could_not_see() -> None:
    mailbox, wire = live()
    mailbox.on_doorbell()
    mailbox.begin_page()
    mailbox.on_page(page(5, xmin=50, xmax=60))  # something from 50 on was still running
    mailbox.on_doorbell()
    assert mailbox.begin_page() == (0, [5])
    mailbox.on_page(page(xmin=55, xmax=70))  # and still is
    mailbox.on_doorbell()
    assert mailbox.begin_page() == (0, [5])
    mailbox.on_page(page(3, xmin=61, xmax=70))  # ended: row 3 came with it
    mailbox.on_doorbell()
    assert mailbox.begin_page()[0] == 5
    assert [envelope for _, envelope, _ in wire.deliveries] == [row(5).envelope, row(3).envelope]


def test_a_page_that_was_cut_short_moves_the_floor_no_further_than_it_read() -> None:
    mailbox, _ = live()
    mailbox.on_doorbell()
    mailbox.begin_page()
    mailbox.on_page(page(50, xmin=1, xmax=60))
    mailbox.on_doorbell()
    mailbox.begin_page()
    mailbox.on_page(page(1, 2, 3, 4, xmin=99, xmax=99, short=False))  # many late rows below 50
    assert mailbox.begin_page()[0] == 4


def test_removed_rows_are_forgotten_in_bounded_memory() -> None:
    mailbox, _ = live()
    for number in range(1, 2000):
        mailbox.on_live(row(number))
        remove(mailbox, tags=[mailbox.tag])
    assert len(mailbox.begin_page()[1]) <= 300


class MailboxUnderMvcc(RuleBasedStateMachine):
    """P2, P4 and P5 of one mailbox: whatever commits in whatever order, each committed row reaches the connection once, and nothing that
    began after another had been committed reaches it earlier."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MvccMailbox()
        self.wire = MemoryWire()
        self.mailbox = Mailbox(self.wire, LIMITS)
        self.open: list[Transaction] = []
        self.pending_page: Page | None = None
        self.precedes: list[tuple[int, int]] = []
        self.committed: list[int] = []
        self.mailbox.on_claimed()

    def ids(self) -> list[int]:
        return [int(envelope.split()[1]) for _, envelope, _ in self.wire.deliveries]

    @rule(rows=st.integers(1, 3))
    def begin(self, rows: int) -> None:
        transaction = self.store.begin(rows)
        self.open.append(transaction)
        known = self.committed[-1:]
        self.precedes += [(earlier, new.id) for earlier in known for new in transaction.rows]

    @precondition(lambda self: self.open)
    @rule(data=st.data(), commit=st.booleans(), pushed=st.booleans())
    def end(self, data: st.DataObject, commit: bool, pushed: bool) -> None:
        transaction = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.store.end(transaction, commit)
        if commit:
            if pushed:
                for new in transaction.rows:
                    self.mailbox.on_live(new)
            else:
                self.mailbox.on_doorbell()
            self.committed += [new.id for new in transaction.rows]

    @precondition(lambda self: self.pending_page is None and self.mailbox.wants_page)
    @rule()
    def read_page(self) -> None:
        floor, skip = self.mailbox.begin_page()
        self.pending_page = self.store.page(floor, set(skip), LIMITS.page_rows)

    @precondition(lambda self: self.pending_page is not None)
    @rule()
    def bring_page(self) -> None:
        page, self.pending_page = self.pending_page, None
        assert page is not None
        self.mailbox.on_page(page)

    @rule(share=st.floats(0, 1), cumulative=st.booleans())
    def acknowledge(self, share: float, cumulative: bool) -> None:
        upper = int(self.mailbox.tag * share)
        tags = [] if cumulative else list(range(upper, self.mailbox.tag + 1))
        entries, _ = self.mailbox.acknowledge([tag for tag in tags if tag], (), upper if cumulative else 0)
        self.store.removed |= {entry.id for entry in entries}
        self.mailbox.on_removed([entry.id for entry in entries], sum(entry.size for entry in entries))

    @rule(room=st.none() | st.integers(0, 3))
    def peer_speed(self, room: int | None) -> None:
        self.wire.room = room
        if room is None:
            self.mailbox.on_writable()

    @invariant()
    def nothing_twice(self) -> None:
        ids = self.ids()
        assert len(ids) == len(set(ids))
        assert [tag for tag, _, _ in self.wire.deliveries] == list(range(1, len(ids) + 1))
        assert set(ids) <= set(self.committed)

    def teardown(self) -> None:
        for transaction in self.open:
            self.store.end(transaction, commit=True)
            self.committed += [new.id for new in transaction.rows]
            self.mailbox.on_doorbell()
        self.wire.room = None
        self.mailbox.on_writable()
        for _ in range(200):
            if self.pending_page is None and self.mailbox.wants_page:
                self.read_page()
            if self.pending_page is not None:
                self.bring_page()
            self.acknowledge(1.0, True)
        self.nothing_twice()
        ids = self.ids()
        assert set(ids) == set(self.committed)
        position = {number: index for index, number in enumerate(ids)}
        assert all(position[earlier] < position[later] for earlier, later in self.precedes if later in position)


# SYN-4: a page may miss what a snapshot cannot see yet; a later one brings it.
TestMailboxUnderMvcc = pytest.mark.requirement("SYN-4")(MailboxUnderMvcc.TestCase)
TestMailboxUnderMvcc.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(st.sampled_from(list(State)), max_size=6))
def test_every_state_can_end(states: list[State]) -> None:
    mailbox = Mailbox(MemoryWire(), LIMITS)
    mailbox.close()
    assert mailbox.state is State.CLOSED
    mailbox.on_page(page(1))
    assert not mailbox.wants_page
