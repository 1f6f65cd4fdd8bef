"""The histogram against sorted lists: every quantile within the width of a bucket, whatever the values."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veredus.ext.hist import Histogram

VALUES = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), min_size=1, max_size=200)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(VALUES, st.floats(0, 1))
def test_a_quantile_is_at_most_a_bucket_above_the_value_it_stands_for(values: list[int], share: float) -> None:
    histogram = filled(values)
    exact = sorted(values)[max(1, ceil(share * len(values) - 1e-9)) - 1]
    assert exact <= histogram.quantile(share) <= min(exact + exact // 128, max(values))


@given(VALUES, VALUES)
def test_merged_histograms_are_the_histogram_of_everything(one: list[int], other: list[int]) -> None:
    merged, second = filled(one), filled(other)
    merged.merge(second.counts(), second.largest)
    whole = filled(one + other)
    assert (merged.counts(), merged.count, merged.largest) == (whole.counts(), whole.count, whole.largest)


def test_nothing_has_no_quantile() -> None:
    assert (Histogram().quantile(0.5), Histogram().count, Histogram().largest) == (0, 0, 0)


def test_a_bucket_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError):
        Histogram().merge({10**6: 1}, 1)
    with pytest.raises(IndexError):
        Histogram().merge({-1: 1}, 1)
