"""Answers to sends: to whom, and what a refusal means for what the same connection sent after it.

After a retryable refusal everything a connection has waiting is refused with the same code, and so is everything it sends until it says
RESUME: otherwise later sends of its window would be stored before the refused one, which the client sends again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from veredus.core.errors import CATALOGUE, Code
from veredus.core.messaging.counters import Counters
from veredus.core.messaging.lane import Lane, Pending
from veredus.core.messaging.ratelimit import Throttle
from veredus.core.messaging.seen import Seen
from veredus.core.model import Reply
from veredus.core.ports import Origin


class Answers:
    """Gives every send exactly one answer, or closes its connection."""

    def __init__(self, seen: Seen, lanes: Sequence[Lane], counters: Counters, throttle: Throttle) -> None:
        self._seen = seen
        self._lanes = lanes
        self._counters = counters
        self._throttle = throttle

    def give(self, answered: Iterable[tuple[Pending, Reply]]) -> None:
        """Answer these, everyone who repeated them meanwhile, and whatever has to be refused in consequence."""
        replies: dict[Origin, list[Reply]] = {}
        work = list(answered)
        while work:
            refused: dict[Origin, Reply] = {}
            for pending, reply in work:
                retryable = CATALOGUE[reply.code].retryable
                if retryable:
                    self._throttle.refund(pending.principal.account_id)  # it is sent again
                for origin in (pending.origin, *self._seen.settle((pending.principal.device_id, reply.client_id), reply)):
                    replies.setdefault(origin, []).append(reply)
                    if retryable:
                        refused.setdefault(origin, reply)
            work = [item for origin, reply in refused.items() for item in self._refuse_waiting(origin, reply)]
        for origin, answers in replies.items():
            self._counters.refused += sum(reply.code is not Code.OK for reply in answers)
            origin.answer(answers)

    def refuse_lane(self, lane: Lane, code: Code, retry_after_ms: int) -> None:
        """Refuse everything that waits in a lane."""
        waiting = [pending for origin in lane.origins() for pending in lane.withdraw(origin)]
        self.give([(pending, Reply(pending.send.client_id, code, retry_after_ms=retry_after_ms)) for pending in waiting])

    def disown(self, origins: Iterable[Origin]) -> None:
        """The results of these connections' sends cannot be told in time: they close, and so does who repeats what they had waiting."""
        work = list(dict.fromkeys(origins))
        done: set[Origin] = set()
        while work:
            origin = work.pop()
            if origin in done:
                continue
            done.add(origin)
            origin.refusal = Code.RESULT_UNKNOWN
            for lane in self._lanes:
                for pending in lane.withdraw(origin):
                    work += self._seen.abandon((pending.principal.device_id, pending.send.client_id))
            origin.result_unknown()

    def _refuse_waiting(self, origin: Origin, reply: Reply) -> list[tuple[Pending, Reply]]:
        origin.refusal = reply.code
        waiting = [pending for lane in self._lanes for pending in lane.withdraw(origin)]
        return [(pending, Reply(pending.send.client_id, reply.code, retry_after_ms=reply.retry_after_ms)) for pending in waiting]
