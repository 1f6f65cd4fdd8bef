"""Token buckets in plain Python: what `ext/bucket` does, as simply as it can be said. Unbounded; forgets nothing."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

UNITS = 60_000  # of a token, as the compiled one reports them


class Buckets:
    """See the stub of `ext/bucket`. Exact: fractions of tokens."""

    def __init__(self, rate: int, burst: int) -> None:
        self.per_ms = Fraction(rate, 60_000)
        self.burst = burst
        self._missing: dict[int, tuple[Fraction, int]] = {}

    def missing(self, key: int, now: int) -> Fraction:
        missing, at = self._missing.get(key, (Fraction(0), now))
        return max(missing - max(now - at, 0) * self.per_ms, Fraction(0))

    def put(self, key: int, now: int, missing: Fraction) -> None:
        self._missing[key] = (missing, max(now, self._missing.get(key, (0, now))[1]))

    def wait(self, key: int, now: int, cost: int = 1) -> int:
        return max(ceil((self.missing(key, now) + cost - self.burst) / self.per_ms), 0)

    def take(self, key: int, now: int, cost: int = 1) -> int:
        wait = self.wait(key, now, cost)
        self.put(key, now, self.missing(key, now) + (0 if wait else cost))
        return wait

    def refund(self, key: int, now: int, cost: int = 1) -> None:
        self.put(key, now, max(self.missing(key, now) - cost, Fraction(0)))

    def taken(self, key: int, now: int) -> int:
        return int(self.missing(key, now) * UNITS)

    def learn(self, key: int, now: int, units: int) -> None:
        self.put(key, now, max(self.missing(key, now), Fraction(units, UNITS)))
