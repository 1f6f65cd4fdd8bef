"""Delivery, read this first: a send from acceptance to its recipients' devices.

    accept ─► lane ─► [read devices] ─► commit ‖ locate ─► ring, push ─► answer          (journal.py)
    push ─► session ─► mailbox machine ─► wire                                           (session.py, mailbox.py)
    acknowledgement ─► send log ─► removal                                               (mailbox.py, acks.py)

This module owns acceptance and builds the rest of one worker. A send is answered only after it is durable; what cannot be made durable is
refused with a code of the catalogue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from veredus.core.errors import CATALOGUE, Code
from veredus.core.messaging.acks import Remover
from veredus.core.messaging.addressbook import Addressbook
from veredus.core.messaging.context import Context
from veredus.core.messaging.journal import Journal
from veredus.core.messaging.lane import Pending
from veredus.core.messaging.pager import Pager
from veredus.core.messaging.relay import Relay
from veredus.core.messaging.seen import Seen
from veredus.core.messaging.session import Session
from veredus.core.model import Location, Principal, Reply, Submission
from veredus.core.ports import Directory, MessageStore, Origin, Presence, Wire
from veredus.ext.envelope import Send

CLAIM_SECONDS = 1.0  # presence is a hint: a device does not wait longer than this for it before it gets its messages


class Delivery:
    """The message path of one worker. `run` must be running while it is used."""

    def __init__(self, store: MessageStore, directory: Directory, presence: Presence, relay: Relay, epoch: bytes, context: Context) -> None:
        self._presence = presence
        self._epoch = epoch
        self._context = context
        self._addressbook = Addressbook(directory, context.clock)
        self._seen = Seen(context.limits.seen_entries)
        self._closing = False
        self.relay = relay
        self.routing = relay.routing
        self.remover = Remover(store, context)
        self._pager = Pager(store, context)
        self._journal = Journal(store, self._addressbook, relay, self._locate, self._seen, context)

    # --------------------------------------------------------------------------------------------------------------------- sending

    def accept(self, origin: Origin, principal: Principal, sends: Sequence[Send]) -> None:
        """Take sends in order. Each is answered through `origin.answer` exactly once, unless `origin.result_unknown` is called."""
        known: list[Reply] = []
        for send in sends:
            reply = self._take(Pending(send, origin, principal))
            if reply is None:
                continue
            known.append(reply)
            if CATALOGUE[reply.code].retryable:
                origin.refusal = reply.code
        if known:
            self._context.counters.refused += sum(reply.code is not Code.OK for reply in known)
            origin.answer(known)

    def _take(self, pending: Pending) -> Reply | None:
        """Queue one send; the answer when there is one at once."""
        send, origin = pending.send, pending.origin
        self._context.counters.accepted += 1
        code = Code.SHUTTING_DOWN if self._closing else origin.refusal
        if code:
            return Reply(send.client_id, code, retry_after_ms=self._retry_after(code, pending.principal))
        if send.code:
            return Reply(send.client_id, Code(send.code))
        self._context.mark("accepted", send.guid)
        key = (pending.principal.device_id, send.client_id)
        entered = self._seen.enter(key, send.digest, origin)
        if isinstance(entered, Reply):
            self._ring_again(send, entered)
            return entered
        if not entered:
            return None
        reply = self._enter(pending)
        if reply is not None:
            self._seen.settle(key, reply)
        return reply

    def _enter(self, pending: Pending) -> Reply | None:
        """A send never seen here: its account may send only so often, and its lane must have room. Repeats cost nothing."""
        context, client_id, account = self._context, pending.send.client_id, pending.principal.account_id
        wait = context.throttle.take(account)
        if wait:
            return Reply(client_id, Code.RATE_LIMITED, retry_after_ms=wait)
        code = self._journal.submit(pending)
        if code is Code.OK:
            return None
        context.throttle.refund(account)
        return Reply(client_id, code, retry_after_ms=context.limits.retry_after_ms)

    def _retry_after(self, code: Code, principal: Principal) -> int:
        """Milliseconds until a connection that was refused may ask again."""
        if code is Code.RATE_LIMITED:
            return max(self._context.throttle.wait(principal.account_id), 1)
        return self._context.limits.retry_after_ms

    def _ring_again(self, send: Send, reply: Reply) -> None:
        """A repeat of something committed: perhaps its recipient was never told (section 5g)."""
        if reply.code is Code.OK:
            self._context.counters.repeated += 1
            recipient = self._addressbook.get(send.destination)
            if recipient is not None:
                self.relay.owe_all([device.id for device in recipient.devices.values()])

    async def _locate(self, submissions: Sequence[Submission]) -> Mapping[int, Location]:
        """Where are the recipients that are not here? Runs beside the commit."""
        elsewhere = {device for submission in submissions for device in submission.targets if device not in self.routing}
        if not elsewhere:
            return {}
        try:
            return await self._presence.locate(sorted(elsewhere))
        except Exception:  # presence holds hints: whatever happened to it, the messages are in the store
            self._context.counters.presence_failures += 1
            return {}

    # ------------------------------------------------------------------------------------------------------------------- receiving

    def open(self, principal: Principal, wire: Wire) -> Session:
        """Begin the session of a connection that was authenticated. Its mailbox is sent at once."""
        session = Session(principal, wire, self, self._pager, self._context)
        wire.hello(self._epoch, self._context.clock.now_ms())
        self.routing.attach(principal.device_id, session)
        self._pager.spawn(self._claim(principal, session))
        return session

    async def _claim(self, principal: Principal, session: Session) -> None:
        """Register here, claim, then look into the mailbox: in this order nobody's wake-up is lost (section 5a)."""
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                [displaced] = await self._presence.claim([principal.device_id])
                await self.relay.displaced({principal.device_id: displaced})
        except Exception:
            self._context.counters.presence_failures += 1
        session.on_claimed()
        self.relay.woke(principal.device_id)

    def left(self, principal: Principal, session: Session, unsure: int | None) -> None:
        """A session ended; with `unsure`, with rows up to this one that its device may not have (0: nobody knows)."""
        if self.routing.detach(principal.device_id, session) and not self._closing:
            self._pager.spawn(self._release(principal.device_id, unsure))

    async def _release(self, device: int, unsure: int | None) -> None:
        try:
            await self._presence.release([device])
        except Exception:
            self._context.counters.presence_failures += 1
        if unsure is not None:
            self.relay.owe(device, unsure)

    # -------------------------------------------------------------------------------------------------------------------- lifetime

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._journal.run())
            group.create_task(self.remover.run())
            group.create_task(self._pager.run())
            group.create_task(self.relay.run())

    async def close(self) -> None:
        """Take nothing more, finish what was taken: sends are committed and answered, acknowledged rows removed."""
        self._closing = True
        await self._journal.drained()
        await self.remover.drained()
