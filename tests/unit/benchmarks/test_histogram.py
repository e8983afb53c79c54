"""The histogram: buckets without gaps, percentiles within their bucket, nothing lost in JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.histogram import Histogram, bucket_of, bucket_range

NANOSECONDS = st.integers(0, 10**11)


@given(NANOSECONDS)
def test_a_value_lies_within_the_range_of_its_bucket(value: int) -> None:
    low, high = bucket_range(bucket_of(value))
    assert low <= value <= high


@given(NANOSECONDS)
def test_a_bucket_is_at_most_a_64th_of_its_value_wide(value: int) -> None:
    low, high = bucket_range(bucket_of(value))
    assert high - low <= low / 64


def test_buckets_follow_each_other_without_gap_or_overlap() -> None:
    end = -1
    for bucket in range(2000):
        low, high = bucket_range(bucket)
        assert low == end + 1
        assert bucket_of(low) == bucket_of(high) == bucket
        end = high


def test_small_values_are_exact() -> None:
    histogram = Histogram()
    histogram.record_all(range(1, 101))
    assert [histogram.percentile(p) for p in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]


def test_mean_least_and_greatest_are_exact() -> None:
    histogram = Histogram()
    histogram.record_all([1_000_003, 5, 70_000_001])
    assert (histogram.least, histogram.greatest, histogram.count) == (5, 70_000_001, 3)
    assert histogram.mean == pytest.approx((1_000_003 + 5 + 70_000_001) / 3)


@given(st.lists(NANOSECONDS, min_size=1, max_size=300), st.floats(0, 100))
def test_percentile_is_the_rank_to_within_its_bucket(values: list[int], percent: float) -> None:
    histogram = Histogram()
    histogram.record_all(values)
    wanted = percent / 100 * len(values)
    exact = next(value for rank, value in enumerate(sorted(values), 1) if rank >= wanted)
    low, high = bucket_range(bucket_of(exact))
    assert low <= histogram.percentile(percent) <= high


@given(st.lists(NANOSECONDS), st.lists(NANOSECONDS))
def test_merging_is_recording_both(first: list[int], second: list[int]) -> None:
    merged, other, together = Histogram(), Histogram(), Histogram()
    merged.record_all(first)
    other.record_all(second)
    merged.merge(other)
    together.record_all(first + second)
    assert merged.to_json() == together.to_json()


@given(st.lists(NANOSECONDS))
def test_json_gives_the_same_histogram_back(values: list[int]) -> None:
    histogram = Histogram()
    histogram.record_all(values)
    again = Histogram.from_json(json.loads(json.dumps(histogram.to_json())))
    assert again.to_json() == histogram.to_json()


def test_an_empty_histogram_answers_zero() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.mean, histogram.percentile(99)) == (0, 0.0, 0)


def test_counting_nothing_changes_nothing() -> None:
    histogram = Histogram()
    histogram.add(17, 0)
    assert histogram.to_json() == Histogram().to_json()


def test_a_negative_latency_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 ns"):
        Histogram().record_all([5, -1])


@pytest.mark.parametrize("percent", [-0.1, 100.1])
def test_a_percentile_outside_0_to_100_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        Histogram().percentile(percent)


def test_counts_that_do_not_add_up_are_refused() -> None:
    histogram = Histogram()
    histogram.record_all([1, 2, 3])
    with pytest.raises(ValueError, match="3 values in the buckets, 4 said"):
        Histogram.from_json(histogram.to_json() | {"count": 4})


def test_another_bucket_width_is_refused() -> None:
    with pytest.raises(ValueError, match="bits per power of two"):
        Histogram.from_json(Histogram().to_json() | {"sub_bits": 5})
