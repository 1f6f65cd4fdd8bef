"""The cost of one ring lookup beside the same ring in plain Python. Not part of the test suite: `pytest bench/micro/test_ring.py`.

Owns the rings it measures and checks their answers once. Never judges a time: a number without its machine says nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.reference.ring import ReferenceRing
from veredus.ext.ring import Ring

LOOKUPS = 1000
KEYS = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(LOOKUPS)]  # no two lookups alike: the caches are not warm for one place
SIZES = [2, 16, 100]


def names(number: int) -> list[str]:
    return [f"redis-{n}:6379/0" for n in range(number)]


def look_up(owner: Callable[[int], str]) -> None:
    for key in KEYS:
        owner(key)


@pytest.mark.parametrize("members", SIZES)
@pytest.mark.parametrize("kind", ["ours", "python"])
def test_a_thousand_lookups(benchmark: BenchmarkFixture, kind: str, members: int) -> None:
    """Divide by a thousand; the loop is in it."""
    ring, reference = Ring(names(members)), ReferenceRing(dict.fromkeys(names(members), 1))
    benchmark(look_up, ring.owner if kind == "ours" else reference.owner)
    assert [ring.owner(key) for key in KEYS] == [reference.owner(key) for key in KEYS]


@pytest.mark.parametrize("members", SIZES)
def test_split_a_thousand_keys(benchmark: BenchmarkFixture, members: int) -> None:
    ring = Ring(names(members))
    parts = benchmark(ring.split, KEYS)
    assert sum(map(len, parts)) == LOOKUPS


@pytest.mark.parametrize("members", [2, 16])
def test_build_a_ring(benchmark: BenchmarkFixture, members: int) -> None:
    assert len(benchmark(Ring, names(members)).members) == members
