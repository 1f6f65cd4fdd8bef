"""Which devices this worker says it holds, and what of that Redis was not told yet. Pure state; opens no connection.

Theory of operation. `_wanted` is the truth: devices connected here. What Redis may not know stands in `_claims_due` and `_releases_due`, a
device in at most one of them, until an answer says it was written. So claims and releases may cross, fail, or be repeated: the last
state wins and nothing is replayed. A release deletes only an entry of this worker's own incarnation, so repeating one is harmless too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from veredus.core.model import Location

ANY_TOKEN = ""  # a claim was perhaps made and its answer lost


class Claim:
    """One connection's claim. `token` is 0 until Redis gave one, and is kept over every repetition for the same connection."""

    __slots__ = ("token", "waiter")

    def __init__(self, waiter: asyncio.Future[Location | None]) -> None:
        self.token = 0
        self.waiter = waiter

    @property
    def awaited(self) -> bool:
        """Whoever claims still waits for it, and looks into the mailbox then."""
        return not self.waiter.done()

    def answer(self, displaced: Location | None) -> None:
        """Tell whoever still waits."""
        if not self.waiter.done():
            self.waiter.set_result(displaced)


class Work(NamedTuple):
    """What to write next."""

    claims: list[tuple[int, Claim]]
    releases: list[tuple[int, str]]  # device, token or ANY_TOKEN


class Made(NamedTuple):
    """What came of claims that nobody waits for."""

    claimed: dict[int, Location | None]  # device → whom it displaced
    superseded: list[int]  # a newer claim elsewhere stands


class Claims:
    """The difference between what is wanted and what Redis was told."""

    def __init__(self, kept_releases: int) -> None:
        """`kept_releases` bounds what is remembered of devices that left while Redis was away."""
        self.newest_token = 0
        self.dropped_releases = 0
        self._kept_releases = kept_releases
        self._wanted: dict[int, Claim] = {}
        self._claims_due: dict[int, None] = {}
        self._releases_due: dict[int, str] = {}

    def __contains__(self, device: int) -> bool:
        return device in self._wanted

    @property
    def settled(self) -> bool:
        """Redis knows everything."""
        return not self._claims_due and not self._releases_due

    def want(self, device: int, waiter: asyncio.Future[Location | None]) -> None:
        """A new connection of a device: newer than every claim before it."""
        self._give_up(device)
        self._wanted[device] = Claim(waiter)
        self._claims_due[device] = None
        self._releases_due.pop(device, None)

    def drop(self, device: int) -> None:
        """The device is not here any more."""
        claim = self._give_up(device)
        if claim is None:
            return
        if len(self._releases_due) < self._kept_releases:
            self._releases_due[device] = str(claim.token) if claim.token else ANY_TOKEN
        else:
            self.dropped_releases += 1

    def repeat_all(self) -> None:
        """Redis may have lost everything: tell it again."""
        self._claims_due = dict.fromkeys(self._wanted)

    def next(self, limit: int) -> Work:
        """The oldest of what is due. It stays due until `made` or `released`."""
        claims = [(device, self._wanted[device]) for device in islice(self._claims_due, limit)]
        return Work(claims, list(islice(self._releases_due.items(), limit)))

    def made(self, claims: Sequence[tuple[int, Claim]], answers: Sequence[tuple[str, Location | None]]) -> Made:
        """These claims were answered: the token that is held ("" when a newer one stands), and who else lives under the device."""
        made = Made({}, [])
        for (device, claim), (token, other) in zip(claims, answers, strict=True):
            current = self._wanted.get(device) is claim
            if token:
                claim.token = int(token)
                self.newest_token = max(self.newest_token, claim.token)
                if current:
                    self._claims_due.pop(device, None)
                    if claim.waiter.done():
                        made.claimed[device] = other
            elif current:
                self._give_up(device)
                made.superseded.append(device)
            claim.answer(other)
        return made

    def released(self, releases: Sequence[tuple[int, str]]) -> None:
        """These releases were done."""
        for device, token in releases:
            if self._releases_due.get(device) == token:
                del self._releases_due[device]

    def answer_all(self) -> None:
        """Nobody is to wait any longer. The claims stay due."""
        for device in self._claims_due:
            self._wanted[device].answer(None)

    def _give_up(self, device: int) -> Claim | None:
        claim = self._wanted.pop(device, None)
        self._claims_due.pop(device, None)
        if claim:
            claim.answer(None)
        return claim
