"""Natural group commit: from lanes of pending sends to durable rows, deliveries and answers.

The order within a batch is the promise (P1, P4): read the recipients' devices → commit, with presence read beside it → ring for repeats
→ push what was committed → answer. Routing may fail; durability may not.

When the store's answer does not come (connection lost, deadline), the result is unknown: the senders' connections are closed, and the same
batch is committed again until the store tells. Keys make that harmless: whatever the first attempt did store is recognised, and a first
attempt that still runs is waited for by the unique key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from veredus.core import faults
from veredus.core.errors import Code, ResultUnknown, StoreUnavailable
from veredus.core.messaging import admission
from veredus.core.messaging.addressbook import Addressbook
from veredus.core.messaging.answers import Answers
from veredus.core.messaging.context import Context
from veredus.core.messaging.lane import Lane, Pending
from veredus.core.messaging.relay import Relay
from veredus.core.messaging.seen import Seen
from veredus.core.model import Item, ItemKind, Location, Outcome, Reply, Submission, Verdict
from veredus.core.ports import MessageStore

_log = logging.getLogger(__name__)

SETTLE_FIRST_SECONDS = 0.05  # a dropped connection is usually replaced at once …
SETTLE_MOST_SECONDS = 2.0  # … and a restarting server should not be hammered

# Refusals that devices read a while ago may give wrongly: given only after a fresh read.
_PERHAPS_OUTDATED = frozenset({Code.DEVICES_MISMATCH, Code.DEVICES_STALE})
_CODES = {Verdict.MISMATCH: Code.IDEMPOTENCY_MISMATCH, Verdict.REFUSED: Code.INVALID_REQUEST}


class Job:
    """A pending send on its way through a batch: refused with `reply`, or with the store's `outcome`."""

    __slots__ = ("outcome", "pending", "reply", "submission")

    def __init__(self, pending: Pending) -> None:
        self.pending = pending
        self.submission: Submission | None = None
        self.outcome: Outcome | None = None
        self.reply: Reply | None = None


class Journal:
    """The lanes of a worker and what happens to each batch.

    `locate` is run beside every commit (presence, MSG-8); it never raises and nothing durable depends on it.
    """

    def __init__(
        self,
        store: MessageStore,
        addressbook: Addressbook,
        relay: Relay,
        locate: Callable[[Sequence[Submission]], Awaitable[Mapping[int, Location]]],
        seen: Seen,
        context: Context,
    ) -> None:
        self._store = store
        self._addressbook = addressbook
        self._relay = relay
        self._routing = relay.routing
        self._locate = locate
        self._context = context
        self._settling = 0
        self._lanes = [Lane(self._process, context.limits) for _ in range(context.limits.lanes)]
        self.answers = Answers(seen, self._lanes, context.counters, context.throttle)

    def submit(self, pending: Pending) -> Code:
        """Queue a send that was entered as the first of its key. OK, or why there is no room for it."""
        if self._settling:
            return Code.UNAVAILABLE  # the store went away in the middle of a commit: nobody should wait for its return
        lane = self._lanes[pending.principal.device_id % len(self._lanes)]
        return Code.OK if lane.offer(pending) else Code.BUSY

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run())

    async def drained(self) -> None:
        """Returns when no send is waiting or with the store."""
        for lane in self._lanes:
            await lane.drained()

    # ---------------------------------------------------------------------------------------------------------------------- a batch

    async def _process(self, batch: list[Pending]) -> None:
        jobs = [Job(pending) for pending in batch]
        located: dict[int, Location] = {}
        try:
            await self._judge(jobs)
            await self._commit(jobs, located)
            stale = [job for job in jobs if job.outcome is not None and job.outcome.verdict is Verdict.STALE_DEVICES]
            if stale:
                await self._judge_again(stale, located)
        except StoreUnavailable as error:
            _refuse_open(jobs, Code.UNAVAILABLE, error.retry_after_ms)
        except Exception as error:
            # Our bug. This batch is refused, the lane lives on: one fault must not stop everybody's messages.
            _log.error("a batch failed: %s", faults.describe(error))
            _refuse_open(jobs, Code.INTERNAL, self._context.limits.retry_after_ms)
        await self._finish(jobs, located)

    async def _judge(self, jobs: list[Job], fresh: bool = False) -> None:
        """Turn sends into submissions, or into refusals. With `fresh`, after reading the recipients anew."""
        book = self._addressbook
        accounts = [job.pending.send.destination for job in jobs]
        if not fresh:
            accounts = book.missing(accounts + [job.pending.principal.account for job in jobs])
        if accounts:
            await book.load(list(dict.fromkeys(accounts)))
        outdated: list[Job] = []
        for job in jobs:
            send, principal = job.pending.send, job.pending.principal
            judged = admission.judge(send, principal, book.get(send.destination), book.get(principal.account))
            if not isinstance(judged, Reply):
                job.submission = judged
            elif fresh or judged.code not in _PERHAPS_OUTDATED or send.destination in accounts:
                job.reply = judged
            else:
                outdated.append(job)
        if outdated:
            await self._judge(outdated, fresh=True)

    async def _commit(self, jobs: list[Job], located: dict[int, Location]) -> None:
        """Make the submissions durable; beside that, learn into `located` where their devices are. Ephemeral ones are only located."""
        wanted = [job.submission for job in jobs if job.submission is not None]
        storing = [job for job in jobs if job.submission is not None and not job.pending.send.ephemeral]
        locating = asyncio.ensure_future(self._locate(wanted))
        try:
            if storing:
                await self._store_jobs(storing)
        finally:
            located.update(await locating)

    async def _store_jobs(self, jobs: list[Job]) -> None:
        submissions = [job.submission for job in jobs if job.submission is not None]
        self._context.counters.batches += 1
        try:
            outcomes = await self._store.commit(submissions)
        except ResultUnknown:
            self.answers.disown(job.pending.origin for job in jobs)
            outcomes = await self._settle(submissions)
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.outcome = outcome
            if outcome.verdict is Verdict.COMMITTED:
                self._context.mark("committed", outcome.guid)

    async def _judge_again(self, stale: list[Job], located: dict[int, Location]) -> None:
        """The devices of some recipients changed since they were read: once more with fresh ones, in the same order."""
        for job in stale:
            job.submission = job.outcome = None
        await self._judge(stale, fresh=True)
        await self._commit(stale, located)

    async def _settle(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Learn the result of a commit whose answer was lost, however long that takes."""
        self._context.counters.settled_batches += 1
        pause = SETTLE_FIRST_SECONDS
        self._settling += 1
        try:
            while True:
                await asyncio.sleep(pause)
                pause = min(pause * 2, SETTLE_MOST_SECONDS)
                try:
                    return await self._store.commit(submissions)
                except (StoreUnavailable, ResultUnknown):
                    for lane in self._lanes:
                        self.answers.refuse_lane(lane, Code.UNAVAILABLE, self._context.limits.retry_after_ms)
        finally:
            self._settling -= 1

    # -------------------------------------------------------------------------------------------------------------------- afterwards

    async def _finish(self, jobs: list[Job], located: dict[int, Location]) -> None:
        """Tell other workers, ring, push, answer: in this order, so that nothing overtakes a row that has to be paged."""
        counters = self._context.counters
        elsewhere = self._elsewhere(jobs)
        if elsewhere:
            await self._relay.carry(elsewhere, located)
        for job in jobs:
            if job.outcome is not None and job.outcome.verdict is Verdict.REPEATED:
                assert job.submission is not None
                counters.repeated += 1
                self._routing.ring(job.submission.targets)
        for job in jobs:
            if job.submission is None:
                continue
            if job.outcome is None:
                job.reply = job.reply or self._push_ephemeral(job.submission)
            elif job.outcome.verdict is Verdict.COMMITTED:
                counters.committed += 1
                if job.pending.origin.fresh and self._relay.among_others:
                    self._routing.ring(job.submission.targets)
                else:
                    self._routing.route(job.submission, job.outcome)
        self.answers.give([(job.pending, job.reply or self._reply(job)) for job in jobs])

    def _elsewhere(self, jobs: list[Job]) -> list[Item]:
        """What devices that are not here have to hear."""
        items: list[Item] = []
        routing, now = self._routing, self._context.clock.now_ms()
        for job in jobs:
            submission, outcome = job.submission, job.outcome
            if submission is None or (outcome is None and job.reply is not None):
                continue
            for index, device in enumerate(submission.targets):
                if device not in routing and (item := _item(job.pending, device, index, outcome, now)) is not None:
                    items.append(item)
        return items

    def _push_ephemeral(self, submission: Submission) -> Reply | None:
        """An ephemeral send goes to whoever is here and is stored nowhere: OK promises nothing more."""
        send = submission.send
        if not send.ephemeral:
            return None
        now = self._context.clock.now_ms()
        for device, envelope in zip(submission.targets, send.envelopes, strict=True):
            self._routing.push_ephemeral(device, envelope, now)
        return Reply(send.client_id, Code.OK, send.guid, now, submission.needs_sync)

    def _reply(self, job: Job) -> Reply:
        client_id, outcome = job.pending.send.client_id, job.outcome
        if outcome is None or outcome.verdict is Verdict.STALE_DEVICES:  # the devices changed twice while one batch was committed
            return Reply(client_id, Code.BUSY, retry_after_ms=self._context.limits.retry_after_ms)
        if outcome.verdict in _CODES:
            return Reply(client_id, _CODES[outcome.verdict])
        return Reply(client_id, Code.OK, outcome.guid, outcome.server_timestamp, outcome.needs_sync)


def _item(pending: Pending, device: int, index: int, outcome: Outcome | None, now: int) -> Item | None:
    """What another worker is told of one target of a send; None: nothing."""
    send = pending.send
    if outcome is None:
        return Item(ItemKind.EPHEMERAL, device, 0, send.guid, now, send.envelopes[index]) if send.ephemeral else None
    if outcome.verdict is Verdict.COMMITTED and not pending.origin.fresh:
        return Item(ItemKind.ROW, device, outcome.ids[index], outcome.guid, outcome.server_timestamp, send.envelopes[index])
    if outcome.verdict is Verdict.COMMITTED:
        return Item(ItemKind.DOORBELL, device, outcome.ids[index])
    return Item(ItemKind.DOORBELL, device) if outcome.verdict is Verdict.REPEATED else None


def _refuse_open(jobs: list[Job], code: Code, retry_after_ms: int) -> None:
    """Refuse those that have neither an answer nor a final outcome."""
    for job in jobs:
        if job.reply is None and (job.outcome is None or job.outcome.verdict is Verdict.STALE_DEVICES):
            job.outcome = None
            job.reply = Reply(job.pending.send.client_id, code, retry_after_ms=retry_after_ms)
