"""The in-memory window of idempotency keys.

A key is *in flight* (its first send is on its way to the store; a repeat waits for the same answer) or *committed* (the store said so).
Nothing else is ever answered from memory: a refusal is forgotten, and a key that fell out of the window is the store's to recognise.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from veredus.core.errors import Code
from veredus.core.model import Reply
from veredus.core.ports import Origin

Key = tuple[int, bytes]  # sender's device id, client id


class _Flight:
    """A first send on its way, with everyone who repeated it meanwhile."""

    __slots__ = ("digest", "waiting")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.waiting: list[Origin] = []


class Seen:
    """Keys of one worker, the oldest committed ones forgotten beyond `limit` entries."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._flights: dict[Key, _Flight] = {}
        self._committed: dict[Key, tuple[bytes, Reply]] = {}

    def __len__(self) -> int:
        return len(self._flights) + len(self._committed)

    def enter(self, key: Key, digest: bytes, origin: Origin) -> Reply | bool:
        """Meet a send.

        True: it is the first and now in flight. False: `origin` waits for the first one's answer. Else the answer itself.
        """
        known = self._committed.get(key)
        if known is not None:
            return known[1] if known[0] == digest else _mismatch(key)
        flight = self._flights.get(key)
        if flight is None:
            self._flights[key] = _Flight(digest)
            return True
        if flight.digest != digest:
            return _mismatch(key)
        flight.waiting.append(origin)
        return False

    def settle(self, key: Key, reply: Reply) -> list[Origin]:
        """The first send has its answer; only success is remembered. Returns who else waits for it."""
        flight = self._flights.pop(key, None)
        if flight is None:
            return []
        if reply.code is Code.OK:
            self._committed[key] = (flight.digest, reply)
            if len(self._committed) > self._limit:
                self._forget(len(self._committed) // 8)
        return flight.waiting

    def abandon(self, key: Key) -> list[Origin]:
        """The first send's result will not be known here. Returns who waited for it."""
        flight = self._flights.pop(key, None)
        return flight.waiting if flight is not None else []

    def _forget(self, number: int) -> None:
        oldest: Iterator[Key] = islice(self._committed, number)
        for key in list(oldest):
            del self._committed[key]


def _mismatch(key: Key) -> Reply:
    return Reply(client_id=key[1], code=Code.IDEMPOTENCY_MISMATCH)
