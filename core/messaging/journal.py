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
from collections.abc import Awaitable, Callable, Sequence

from veredus.core import faults
from veredus.core.errors import Code, ResultUnknown, StoreUnavailable
from veredus.core.messaging import admission
from veredus.core.messaging.addressbook import Addressbook
from veredus.core.messaging.answers import Answers
from veredus.core.messaging.context import Context
from veredus.core.messaging.lane import Lane, Pending
from veredus.core.messaging.routing import Routing
from veredus.core.messaging.seen import Seen
from veredus.core.model import Outcome, Reply, Submission, Verdict
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
        routing: Routing,
        locate: Callable[[Sequence[Submission]], Awaitable[None]],
        seen: Seen,
        context: Context,
    ) -> None:
        self._store = store
        self._addressbook = addressbook
        self._routing = routing
        self._locate = locate
        self._context = context
        self._settling = 0
        self._lanes = [Lane(self._process, context.limits) for _ in range(context.limits.lanes)]
        self.answers = Answers(seen, self._lanes, context.counters)

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
        try:
            await self._judge(jobs)
            self._relay(jobs)
            await self._commit(jobs)
            stale = [job for job in jobs if job.outcome is not None and job.outcome.verdict is Verdict.STALE_DEVICES]
            if stale:
                await self._judge_again(stale)
        except StoreUnavailable as error:
            _refuse_open(jobs, Code.UNAVAILABLE, error.retry_after_ms)
        except Exception as error:
            # Our bug. This batch is refused, the lane lives on: one fault must not stop everybody's messages.
            _log.error("a batch failed: %s", faults.describe(error))
            _refuse_open(jobs, Code.INTERNAL, self._context.limits.retry_after_ms)
        self._finish(jobs)

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

    def _relay(self, jobs: list[Job]) -> None:
        """Ephemeral sends go to whoever is here and are stored nowhere: OK promises nothing more."""
        now = 0
        for job in jobs:
            send, submission = job.pending.send, job.submission
            if send.ephemeral and submission is not None:
                now = now or self._context.clock.now_ms()
                self._routing.route_ephemeral(send, submission.targets, now)
                job.submission = None
                job.reply = Reply(send.client_id, Code.OK, send.guid, now, submission.needs_sync)

    async def _commit(self, jobs: list[Job]) -> None:
        committing = [job for job in jobs if job.submission is not None]
        if not committing:
            return
        submissions = [job.submission for job in committing if job.submission is not None]
        self._context.counters.batches += 1
        locating = asyncio.ensure_future(self._locate(submissions))
        try:
            outcomes = await self._store.commit(submissions)
        except ResultUnknown:
            self.answers.disown(job.pending.origin for job in committing)
            outcomes = await self._settle(submissions)
        finally:
            await locating
        for job, outcome in zip(committing, outcomes, strict=True):
            job.outcome = outcome
            if outcome.verdict is Verdict.COMMITTED:
                self._context.mark("committed", outcome.guid)

    async def _judge_again(self, stale: list[Job]) -> None:
        """The devices of some recipients changed since they were read: once more with fresh ones, in the same order."""
        for job in stale:
            job.submission = job.outcome = None
        await self._judge(stale, fresh=True)
        await self._commit(stale)

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

    def _finish(self, jobs: list[Job]) -> None:
        """Ring, push, answer: in this order, so that nothing overtakes a row that has to be paged."""
        counters = self._context.counters
        for job in jobs:
            if job.outcome is not None and job.outcome.verdict is Verdict.REPEATED:
                assert job.submission is not None
                counters.repeated += 1
                self._routing.ring(job.submission.targets)
        for job in jobs:
            if job.outcome is not None and job.outcome.verdict is Verdict.COMMITTED:
                assert job.submission is not None
                counters.committed += 1
                self._routing.route(job.submission, job.outcome)
        self.answers.give([(job.pending, job.reply or self._reply(job)) for job in jobs])

    def _reply(self, job: Job) -> Reply:
        client_id, outcome = job.pending.send.client_id, job.outcome
        if outcome is None or outcome.verdict is Verdict.STALE_DEVICES:  # the devices changed twice while one batch was committed
            return Reply(client_id, Code.BUSY, retry_after_ms=self._context.limits.retry_after_ms)
        if outcome.verdict in _CODES:
            return Reply(client_id, _CODES[outcome.verdict])
        return Reply(client_id, Code.OK, outcome.guid, outcome.server_timestamp, outcome.needs_sync)


def _refuse_open(jobs: list[Job], code: Code, retry_after_ms: int) -> None:
    """Refuse those that have neither an answer nor a final outcome."""
    for job in jobs:
        if job.reply is None and (job.outcome is None or job.outcome.verdict is Verdict.STALE_DEVICES):
            job.outcome = None
            job.reply = Reply(job.pending.send.client_id, code, retry_after_ms=retry_after_ms)
