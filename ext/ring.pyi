"""A consistent-hash ring over 64-bit points."""

from collections.abc import Iterable, Mapping
from typing import Self, final

@final
class Ring:
    """Members and the keys that belong to each. Immutable; the same in every process with the same membership."""

    def __new__(cls, members: Iterable[str] | Mapping[str, int]) -> Self:
        """Names, or names with weights (1 and up; sums to 8,192 at most). ValueError for none, for a name that stands twice, and for other
        weights."""
    @property
    def members(self) -> tuple[str, ...]:
        """Names, sorted."""
    @property
    def weights(self) -> tuple[int, ...]:
        """The weight of each of `members`."""
    @property
    def signature(self) -> int:
        """64 bits that are equal for equal membership, in whatever order it was given."""
    def owner(self, key: int) -> str:
        """The member that a key (0 to 2**64 - 1, else OverflowError) belongs to."""
    def owners(self, key: int, count: int) -> tuple[str, ...]:
        """Up to `count` different members: the owner, who would own the key without him, and so on."""
    def split(self, keys: Iterable[int]) -> list[list[int]]:
        """The same keys, those of each member together in their order; a list for each of `members`."""

def key_of(name: str) -> int:
    """A key for what has a name and no number: the same in every process."""
