"""The times and sizes of presence in one place, so that tests can shorten them."""

from __future__ import annotations

import msgspec


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, unless the name says otherwise."""

    lease: float = 30.0  # P7: a dead worker's devices count as absent after this
    renew: float = 2.0  # a wiped Redis is noticed within this, and P5 gives 5 s; a renewal costs Redis 20 µs
    stall: float = 10.0  # a loop that stood still this long may have missed what it was told
    command: float = 1.0  # claims and renewals: nobody's message waits for them
    locate: float = 0.25  # beside every commit: a commit takes milliseconds, so more only delays wake-ups
    retry: float = 0.5  # between looks at a Redis that is away
    batch_devices: int = 500  # a claim script of 500 blocks Redis for about a millisecond
    pause: float = 0.01  # between batches when everything is claimed again: 50,000 devices a second at most
    swept_entries: int = 200  # looked at after each renewal for what dead workers left
    kept_releases: int = 65_536  # releases remembered while Redis is away, about 10 MB; the others stay until swept or claimed anew
