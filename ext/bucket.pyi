"""Token buckets by 64-bit id in one bounded table: no timer, no allocation per bucket, 24 bytes a slot.

Times are milliseconds of any clock; one that goes backwards stands still. All is exact: a token is 60,000 units, a rate of n a minute gives
n units a millisecond.
"""

from typing import Self, final

@final
class Buckets:
    """Buckets of `burst` tokens that refill by `rate` tokens a minute; one never seen is full.

    At most `entries` are remembered. Only full ones are forgotten; where there is none, a new id is refused (`crowded`). Raises ValueError
    for numbers outside 1 to 10^9.
    """

    def __new__(cls, rate: int, burst: int, entries: int) -> Self: ...
    @property
    def rate(self) -> int:
        """Tokens a minute."""
    @property
    def burst(self) -> int:
        """Tokens of a full bucket."""
    @property
    def used(self) -> int:
        """Slots in use."""
    @property
    def crowded(self) -> int:
        """Takes refused because every bucket remembered was in use."""
    def take(self, key: int, now_ms: int, cost: int = 1) -> int:
        """Take tokens. 0: they were there. Else nothing was taken, and they will be there after so many milliseconds.

        Raises ValueError when `cost` is not 1 to `burst`.
        """
    def wait(self, key: int, now_ms: int, cost: int = 1) -> int:
        """Milliseconds until tokens are there; 0: they are. Takes nothing."""
    def refund(self, key: int, now_ms: int, cost: int = 1) -> None:
        """Put tokens back; a bucket never holds more than it can."""
    def taken(self, key: int, now_ms: int) -> int:
        """What is missing in a bucket, in units: sixty thousand a token."""
    def learn(self, key: int, now_ms: int, units: int) -> None:
        """So many units at least are missing, as others say: perhaps more than the bucket holds, which it will owe."""
