"""Token buckets: the same as the reference whatever is asked in whatever order, bounded, and never forgetful of what was taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import bucket as reference
from veredus.ext.bucket import Buckets

KEYS = st.sampled_from([0, 1, 2, 63, 64, 2**63, 2**64 - 1])
STEPS = st.one_of(st.integers(-50, 50), st.integers(0, 90_000), st.just(10**12))
CALLS = st.lists(st.tuples(st.sampled_from(["take", "wait", "refund", "learn", "taken"]), KEYS, STEPS, st.integers(1, 3)), max_size=60)


def ask(buckets: Buckets | reference.Buckets, name: str, key: int, now: int, number: int) -> int | None:
    if name == "taken":
        return buckets.taken(key, now)
    if name == "learn":
        return buckets.learn(key, now, number * 100_001)
    method = {"take": buckets.take, "wait": buckets.wait, "refund": buckets.refund}[name]
    return method(key, now, number)


@given(rate=st.integers(1, 5000), burst=st.integers(3, 20), calls=CALLS)
def test_every_answer_is_the_reference_s(rate: int, burst: int, calls: list[tuple[str, int, int, int]]) -> None:
    tested, plain, now = Buckets(rate, burst, 1000), reference.Buckets(rate, burst), 1000
    for name, key, step, number in calls:
        now += step
        if name == "refund" and plain.missing(key, now) == 0:
            continue  # a full bucket may be forgotten, with the latest time it saw
        assert ask(tested, name, key, now, number) == ask(plain, name, key, now, number)


@given(keys=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=400), burst=st.integers(1, 4))
def test_any_number_of_ids_is_held_apart_while_the_table_grows_and_shrinks(keys: list[int], burst: int) -> None:
    tested, plain, now = Buckets(60, burst, 10_000), reference.Buckets(60, burst), 0
    for number, key in enumerate(keys * 3):
        now += 7 * (number % 11)
        assert tested.take(key, now) == plain.take(key, now)
    assert all(tested.taken(key, now) == plain.taken(key, now) for key in keys)


def test_a_full_bucket_gives_its_burst_at_once_and_then_what_flows_back() -> None:
    buckets = Buckets(100, 100, 10)
    assert [buckets.take(1, 0) for _ in range(100)] == [0] * 100
    assert buckets.take(1, 0) == 600, "a hundred a minute is one in 600 ms"
    assert buckets.take(1, 599) == 1
    assert buckets.take(1, 600) == 0


def test_full_buckets_make_room_and_others_stay() -> None:
    buckets = Buckets(60, 1, 3)
    assert [buckets.take(key, 0) for key in (1, 2, 3)] == [0, 0, 0]
    assert buckets.take(4, 0) == 1000
    assert (buckets.used, buckets.crowded) == (3, 1)
    assert [buckets.take(key, 0) for key in (1, 2, 3)] == [1000] * 3, "nothing was forgotten"
    assert [buckets.take(key, 1000) for key in (4, 5, 6)] == [0, 0, 0]
    assert buckets.used == 3


def test_memory_stays_bounded_whoever_comes() -> None:
    buckets = Buckets(60_000, 5, 1000)
    for key in range(200_000):
        buckets.take(key, key // 100)
    assert buckets.used <= 1000


def test_what_others_took_is_owed() -> None:
    buckets = Buckets(60, 10, 10)
    buckets.learn(1, 0, 15 * reference.UNITS)
    assert buckets.take(1, 0) == 6000
    buckets.learn(1, 0, 3 * reference.UNITS)
    assert buckets.taken(1, 0) == 15 * reference.UNITS, "learning never gives back"


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1), (2 * 10**9, 1, 1)])
def test_senseless_sizes_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="thousand million"):
        Buckets(*numbers)


@pytest.mark.parametrize("cost", [0, -1, 11])
def test_a_cost_that_never_fits_is_refused(cost: int) -> None:
    buckets = Buckets(10, 10, 10)
    for method in (buckets.take, buckets.wait, buckets.refund):
        with pytest.raises(ValueError, match="cost"):
            method(1, 0, cost)
