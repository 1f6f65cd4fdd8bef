"""A connected device: between its wire and the rest of delivery.

Owns the connection's mailbox machine and its place as an origin of sends. Does no I/O: pages are read by the pager, rows removed by the
remover, sends stored by the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from veredus.core.errors import Code
from veredus.core.messaging.context import Context
from veredus.core.messaging.mailbox import Mailbox, State
from veredus.core.messaging.pager import Pager
from veredus.core.model import Page, Principal, Reply, Row
from veredus.core.ports import Wire
from veredus.ext.envelope import Inbound

if TYPE_CHECKING:
    from veredus.core.messaging.delivery import Delivery

# For so long after it connects, a connection's sends reach other workers' devices by doorbell and page: what the same device sent just
# before over another worker may still be under way on the bus. An interruption of the bus is noticed within 5 s.
FRESH_SECONDS = 6.0


class Session:
    """`ports.Peer` to its wire, `ports.Origin` to the journal, `routing.Receiver` to everybody who sends to it."""

    __slots__ = ("_context", "_delivery", "_opened", "_pager", "_silent_tag", "_wire", "mailbox", "principal", "refusal")

    def __init__(self, principal: Principal, wire: Wire, delivery: Delivery, pager: Pager, context: Context) -> None:
        self.principal = principal
        self.refusal = Code.OK
        self.mailbox = Mailbox(wire, context.limits)
        self._wire = wire
        self._delivery = delivery
        self._pager = pager
        self._context = context
        self._opened = context.clock.monotonic()
        self._silent_tag = 0

    @property
    def fresh(self) -> bool:
        """See `ports.Origin`."""
        return self._context.clock.monotonic() - self._opened < FRESH_SECONDS

    @property
    def closed(self) -> bool:
        """The connection is gone."""
        return self.mailbox.state is State.CLOSED

    # ------------------------------------------------------------------------------------------------------------ what the wire says

    def on_inbound(self, inbound: Inbound) -> None:
        """Everything one socket read brought. Kinds are handled in the order of their field numbers."""
        if self.closed:
            return
        if inbound.resume and self.refusal is not Code.RESULT_UNKNOWN:
            self.refusal = Code.OK
        if inbound.sends:
            self._delivery.accept(self, self.principal, inbound.sends)
        if inbound.ack_up_to or inbound.ack_tags or inbound.ack_guids:
            self._acknowledge(inbound)
        if inbound.sync:
            self.mailbox.on_sync()
            self._read_on()
        if inbound.malformed:
            self._context.counters.malformed_frames += 1
            self._wire.error(Code.MALFORMED_FRAME)

    def on_writable(self) -> None:
        """The peer reads again."""
        self.mailbox.on_writable()
        self._read_on()

    def on_lost(self) -> None:
        """The connection is gone. Its sends that wait are stored all the same; its client asks for their answers when it is back."""
        unsure = self.mailbox.state is not State.LIVE
        left = self.mailbox.close()
        newest = max([entry.id for entry in left], default=0)
        self._delivery.left(self.principal, self, newest if left or unsure else None)

    # --------------------------------------------------------------------------------------------------------- what the store brings

    def on_claimed(self) -> None:
        """Presence knows the device: look into the mailbox."""
        self.mailbox.on_claimed()
        self._read_on()

    def on_page(self, page: Page) -> None:
        """A page was read."""
        before, state = self.mailbox.tag, self.mailbox.state
        self.mailbox.on_page(page)
        self._context.counters.lagging += self.mailbox.state is State.LAGGING and state is not State.LAGGING
        self._context.counters.delivered += self.mailbox.tag - before
        if self._context.timeline is not None:
            for row in page.rows[: self.mailbox.tag - before]:
                self._context.mark("delivered", row.guid)
        self._read_on()

    def on_removed(self, ids: Sequence[int], size: int) -> None:
        """Acknowledged rows are gone from the store."""
        self.mailbox.on_removed(ids, size)
        self._read_on()

    # ---------------------------------------------------------------------------------------------------------------- as a receiver

    def push(self, row: Row) -> bool:
        """A row was committed for this device."""
        was_live = self.mailbox.state is State.LIVE
        taken = self.mailbox.on_live(row)
        if taken:
            self._context.mark("delivered", row.guid)
        elif was_live:
            self._context.counters.lagging += 1
        return taken

    def push_ephemeral(self, envelope: bytes, server_timestamp: int) -> bool:
        """Something for now or never: dropped first when the peer does not keep up."""
        return self.mailbox.state is State.LIVE and self._wire.deliver(0, envelope, server_timestamp)

    def ring(self) -> None:
        """Somebody knows of rows for this device."""
        self.mailbox.on_doorbell()
        self._read_on()

    def replace(self) -> None:
        """The same device connected again: the newer connection gets the mailbox."""
        self.mailbox.close()
        self._wire.error(Code.REPLACED)
        self._wire.close(Code.REPLACED)

    def silent(self) -> int:
        """See `routing.Receiver`."""
        oldest = self.mailbox.oldest()
        tag = oldest.tag if oldest is not None else 0
        waited = tag != 0 and tag == self._silent_tag
        self._silent_tag = tag
        return oldest.id if waited and oldest is not None else 0

    # ------------------------------------------------------------------------------------------------------------------ as an origin

    def answer(self, replies: Sequence[Reply]) -> None:
        """Tell the peer what became of its sends."""
        self._wire.answer(replies)

    def result_unknown(self) -> None:
        """The store's answer was lost: the peer must come back and ask."""
        self._wire.error(Code.RESULT_UNKNOWN)
        self._wire.close(Code.RESULT_UNKNOWN)

    def pause(self) -> None:
        """Its lane is full."""
        self._wire.pause_reading()

    def resume(self) -> None:
        """Its lane has room again."""
        self._wire.resume_reading()

    # ----------------------------------------------------------------------------------------------------------------------- inside

    def _acknowledge(self, inbound: Inbound) -> None:
        entries, unknown = self.mailbox.acknowledge(inbound.ack_tags, inbound.ack_guids, inbound.ack_up_to)
        counters = self._context.counters
        if unknown:
            counters.unknown_acknowledgements += unknown
            self._wire.error(Code.UNKNOWN_DELIVERY)
        if entries:
            counters.acknowledged += len(entries)
            for entry in entries:
                self._context.mark("acknowledged", entry.guid)
            self._delivery.remover.add(self, entries)

    def _read_on(self) -> None:
        if self.mailbox.wants_page:
            self._pager.read(self)
