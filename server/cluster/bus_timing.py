"""The times and sizes of the bus in one place, so that tests can shorten them."""

from __future__ import annotations

import msgspec


class BusTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, unless the name says otherwise. P5 gives 5 s from a failure to the message; the longest way here takes 3.25 s of them."""

    heartbeat: float = 1.0  # two may be late before a worker counts as gone
    silence: float = 3.0  # of a worker, of our own subscription, or of our own loop: then something may have been lost
    look: float = 0.25  # between looks at the clock
    publish: float = 1.0  # a frame takes Redis well under a millisecond; beyond this it is away
    retry: float = 0.1  # between attempts to connect
    calm: float = 0.2  # between two interruptions told: each may look into 50,000 mailboxes
    frame_bytes: int = 1 << 20  # as much as Redis hands on in a millisecond
    envelope_bytes: int = 8 << 10  # larger ones are read from the store by whoever needs them
    waiting_bytes: int = 16 << 20  # published and not answered; half of what Redis keeps for a subscriber at most by default
    absent: float = 60.0  # a worker without listeners for so long has no stream any more
    sources: int = 4096  # workers we listen to; more only when somebody makes names up
