"""A histogram of durations: fixed memory (58 KiB), one addition a value, quantiles within 0.8 %."""

from collections.abc import Mapping
from typing import final

@final
class Histogram:
    """Counts of values (0 to 2**64 - 1) by size."""

    @property
    def count(self) -> int:
        """How many values there are."""
    @property
    def largest(self) -> int:
        """The largest value; 0 when there is none."""
    def record(self, value: int) -> None:
        """Count one value."""
    def quantile(self, share: float) -> int:
        """The value that `share` (0 to 1) of all are at or below: the upper end of its bucket, never above the largest; 0 when empty."""
    def counts(self) -> dict[int, int]:
        """Buckets that are not empty, for `merge`."""
    def merge(self, counts: Mapping[int, int], largest: int) -> None:
        """Add another histogram's counts. Raises IndexError on a bucket that does not exist."""
