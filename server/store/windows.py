"""The windows of idempotency keys as a commit sees them: which are written and looked at, and the seals of sealed sends.

Theory of operation. A key is remembered for one to two windows of 24 hours. Windows are partitions of `send_key`; dropping one forgets its
keys at no cost per row. One row of `send_state` says what every commit must do:

    steady W     insert into W;                      a key seen in W - 1 counts as known
    changing W   insert into W, and what was new there into W + 1 as well; W - 1 counts as before
    steady W+1   insert into W + 1;                  a key seen in W counts as known

Two statements decide about one key by an insert into a window both write: the unique index makes the second wait for the first. A look at
the previous window decides nothing (a statement sees its own snapshot only), so a window may be merely looked at only when nobody who
writes it alone can still be running. «Changing» is what bridges the two: it shares W with the steady statements before it and W + 1 with
those after it. The job (`window_job.py`) moves on only when every transaction of the state before has ended.

A key in «changing» that is new in W but known in W + 1 leaves a row in W with no message behind it. Answers therefore always come from the
newest window that has the key.
"""

from __future__ import annotations

import hmac

import msgspec

from veredus.core.errors import StoreUnavailable
from veredus.core.model import Submission
from veredus.server.store.pool import Connections

LOAD = """
SELECT s.version, s.current, s.changing, w.number, w.seal
FROM send_state s LEFT JOIN send_window w ON w.number BETWEEN s.current - 1 AND s.current + 1
"""

SEALED_SENDER = 0  # device ids begin at 1


class WindowState(msgspec.Struct, frozen=True):
    """One version of `send_state`, with the seals of the windows around it: the keys of their HMACs."""

    version: int
    current: int
    changing: bool
    seals: dict[int, bytes]

    @property
    def previous(self) -> int:
        return self.current - 1

    @property
    def next(self) -> int:
        return self.current + 1

    @property
    def newest(self) -> int:
        """The newest window that commits of this version write."""
        return self.next if self.changing else self.current

    def client_id(self, submission: Submission, window: int) -> bytes:
        """The client id as `window` stores it (16 bytes). A sealed one tells nothing without the window's key."""
        if not submission.sealed:
            return submission.send.client_id
        seal = self.seals.get(window)
        if seal is None:  # nothing can be stored in a window that is not there
            return bytes(16)
        return hmac.digest(seal, submission.sender.to_bytes(8, "big") + submission.send.client_id, "sha256")[:16]


class Windows:
    """This worker's idea of the window state. Never trusted: every commit has the store compare its version."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._state: WindowState | None = None

    async def state(self) -> WindowState:
        """What was read last. Raises `StoreUnavailable`, `Lost`."""
        return self._state or await self.reload()

    async def reload(self) -> WindowState:
        """Read anew. Raises `StoreUnavailable`, `Lost`."""
        rows = await self._connections.fetch(LOAD)
        if not rows:
            raise StoreUnavailable("the schema is not there; run veredus migrate")
        first = rows[0]
        seals = {row["number"]: row["seal"] for row in rows if row["number"] is not None}
        self._state = WindowState(first["version"], first["current"], first["changing"], seals)
        return self._state
