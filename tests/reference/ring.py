"""The ring of `ext/ring` in plain Python, as simple as can be: sorted points and a bisection."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from tests.reference.siphash import siphash128

KEY = b"veredus ring key"
POINTS = 512  # of a member of weight 1
BITS = 2**64


def mixed(key: int) -> int:
    """SplitMix64's output for a state."""
    key = (key + 0x9E3779B97F4A7C15) % BITS
    key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 % BITS
    key = (key ^ key >> 27) * 0x94D049BB133111EB % BITS
    return key ^ key >> 31


class ReferenceRing:
    """Members and the keys that belong to each."""

    def __init__(self, members: Mapping[str, int]) -> None:
        self.points = sorted((point, name) for name, weight in members.items() for point in points_of(name, weight))
        self._places = [place for place, _ in self.points]

    def owner(self, key: int) -> str:
        return self.points[bisect_left(self._places, mixed(key)) % len(self.points)][1]

    def owners(self, key: int, count: int) -> tuple[str, ...]:
        at = bisect_left(self._places, mixed(key))
        return tuple(dict.fromkeys(name for _, name in self.points[at:] + self.points[:at]))[:count]


def points_of(name: str, weight: int) -> list[int]:
    hashes = [siphash128(KEY, name.encode() + number.to_bytes(8, "little")) for number in range(weight * POINTS // 2)]
    return [int.from_bytes(half, "little") for hashed in hashes for half in (hashed[:8], hashed[8:])]
