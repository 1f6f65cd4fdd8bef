"""The limit of messages per account: judged here at once, agreed with the other workers once a second.

Theory of operation. Every worker has a bucket per account that sent lately, and judges a send by it without asking anybody. Once a second
it tells the tally what it granted and how much it believes to be missing in each of those buckets; the tally adds, and answers how much is
missing over all workers. So what others granted is learnt a second late at most: until then a worker may grant what was left when it last
heard. What was granted too much that way is owed, a bucket below empty, and flows back before the account sends again. While the tally
cannot be reached every worker judges by its own buckets alone. When it is back it is told what has not flowed back meanwhile; one that
forgot everything learns it again from the buckets here.

Holds account numbers and counts in memory; never whom anything was for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from veredus.core.clock import Clock
from veredus.core.limits import Limits
from veredus.core.messaging.counters import Counters
from veredus.ext.bucket import Buckets

UNITS = 60_000  # of a token: `ext.bucket` counts in them
SETTLE_SECONDS = 1.0  # the bound of what may be granted too much
BATCH = 500  # accounts told at once: a script of as many keys takes Redis less than a millisecond


class Throttle(Protocol):
    """Judges how often an account sends."""

    def take(self, account: int) -> int:
        """One more message. 0: granted. Else it may be asked again after so many milliseconds."""
        ...

    def wait(self, account: int) -> int:
        """Milliseconds until one would be granted; 0: now."""
        ...

    def refund(self, account: int) -> None:
        """One that was granted did not come about, through no fault of the sender."""
        ...


class Unlimited:
    """Grants everything."""

    def take(self, account: int) -> int:
        return 0

    def wait(self, account: int) -> int:
        return 0

    def refund(self, account: int) -> None:
        return


class Share(NamedTuple):
    """What one worker tells of one account, in units."""

    account: int
    granted: int  # since it told the last time, as far as it has not flowed back
    missing: int  # in its own bucket: at least so much is missing in all


class Tally(Protocol):
    """Adds up what workers granted."""

    async def settle(self, number: int, shares: Sequence[Share]) -> Sequence[int]:
        """Add these and answer what is missing in each account's bucket over all workers, in units.

        A `number` not above one this worker told before is a repeat of it, whose answer was lost: nothing is added again. Bounded in time;
        raises whatever hinders it.
        """
        ...


class MessageLimit:
    """The limit of one worker, by `limits.messages_per_minute`, which is not 0. `run` settles it."""

    def __init__(self, limits: Limits, clock: Clock, counters: Counters, tally: Tally) -> None:
        rate = limits.messages_per_minute
        self._buckets = Buckets(rate, limits.messages_burst or rate, limits.limit_entries)
        self._clock = clock
        self._counters = counters
        self._tally = tally
        self._granted: dict[int, int] = {}  # account → messages not told yet
        self._telling: dict[int, int] = {}  # told, not answered
        self._number = 0
        self._settling = asyncio.Lock()  # the last one, of a worker that stops, meets the one of every second

    @property
    def untold(self) -> int:
        """Accounts of which something is to be told."""
        return len(self._granted) + len(self._telling)

    def take(self, account: int) -> int:
        """See `Throttle`."""
        wait = self._buckets.take(account, self._now())
        if wait:
            self._counters.rate_limited += 1
            self._counters.limit_crowded = self._buckets.crowded
        else:
            self._granted[account] = self._granted.get(account, 0) + 1
        return wait

    def wait(self, account: int) -> int:
        """See `Throttle`."""
        return self._buckets.wait(account, self._now())

    def refund(self, account: int) -> None:
        """See `Throttle`. What was told already is owed until it flows back: telling less than nothing could give twice."""
        granted = self._granted.get(account, 0)
        if granted:
            self._buckets.refund(account, self._now())
            if granted > 1:
                self._granted[account] = granted - 1
            else:
                del self._granted[account]

    async def run(self) -> None:
        """Settle every second until cancelled."""
        task = asyncio.current_task()
        while task is None or not task.cancelling():  # a library may swallow the cancellation
            began = self._clock.monotonic()
            await self.settle()
            await asyncio.sleep(max(began + SETTLE_SECONDS - self._clock.monotonic(), 0.0))

    async def settle(self) -> None:
        """Tell everything granted until now, and learn. A tally that fails is counted and told again the next time."""
        async with self._settling:
            for _ in range(bool(self._telling) + 1 + len(self._granted) // BATCH):
                if not self._telling and not self._next():
                    return
                try:
                    await self._tell()
                except Exception:  # the tally only bounds more exactly what is bounded here
                    self._counters.limit_failures += 1
                    self._forget()
                    return

    def _next(self) -> bool:
        """Make the next batch. Says whether there is one."""
        self._telling = {account: self._granted.pop(account) for account in list(islice(self._granted, BATCH))}
        self._number += 1
        return bool(self._telling)

    async def _tell(self) -> None:
        now = self._now()
        shares = []
        for account, granted in self._telling.items():
            # Without what was granted after this batch was made: that is told with the next one.
            missing = self._buckets.taken(account, now) - self._granted_since(account, now)
            shares.append(Share(account, min(granted * UNITS, missing), missing))
        answers = await self._tally.settle(self._number, shares)
        now = self._now()
        for account, missing in zip(self._telling, answers, strict=True):
            self._buckets.learn(account, now, missing + self._granted_since(account, now))
        self._telling = {}

    def _granted_since(self, account: int, now: int) -> int:
        """Units granted and not in a batch yet, as far as they can be missing still."""
        return min(self._granted.get(account, 0) * UNITS, self._buckets.taken(account, now))

    def _forget(self) -> None:
        """What has flowed back need not be told: so this stays as bounded as the buckets are, however long the tally is away."""
        now = self._now()
        self._granted = {account: granted for account, granted in self._granted.items() if self._buckets.taken(account, now)}

    def _now(self) -> int:
        return int(self._clock.monotonic() * 1000)
