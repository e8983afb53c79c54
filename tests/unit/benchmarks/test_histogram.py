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
    assert merged.to_fio() == together.to_fio()


@given(st.lists(NANOSECONDS))
def test_what_was_written_for_fio_gives_the_same_histogram_back(values: list[int]) -> None:
    histogram = Histogram()
    histogram.record_all(values)
    again = Histogram.from_fio(json.loads(json.dumps(histogram.to_fio())))
    assert (again.counts, again.count) == (histogram.counts, histogram.count)
    assert (again.least, again.greatest) == (histogram.least, histogram.greatest)
    assert again.mean == pytest.approx(histogram.mean, abs=0.5)


def test_bins_are_those_of_fio() -> None:
    """The bins are typed from a report of fio 3.33: each is the middle of its bucket."""
    histogram = Histogram()
    histogram.record_all([1080, 13_824, 13_951, 14_079, 99_328, 100_351, 5_000_000])
    assert histogram.to_fio()["bins"] == {
        "1080": 1,
        "13888": 2,
        "14016": 1,
        "99840": 2,
        "5013504": 1,
    }


def test_mean_and_deviation() -> None:
    histogram = Histogram()
    histogram.record_all([10, 20, 30])
    assert histogram.to_fio() | {"percentile": None} == {
        "min": 10,
        "max": 30,
        "mean": 20.0,
        "stddev": pytest.approx(8.164966),
        "N": 3,
        "percentile": None,
        "bins": {"10": 1, "20": 1, "30": 1},
    }


def test_an_empty_histogram_answers_zero() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.mean, histogram.percentile(99)) == (0, 0.0, 0)


def test_counting_nothing_changes_nothing() -> None:
    histogram = Histogram()
    histogram.add(17, 0)
    assert histogram.to_fio() == Histogram().to_fio()


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
    with pytest.raises(ValueError, match="3 values in the bins, 4 said"):
        Histogram.from_fio(histogram.to_fio() | {"N": 4})


def test_an_empty_histogram_has_no_bins_for_fio() -> None:
    assert Histogram().to_fio() == {"min": 0, "max": 0, "mean": 0.0, "stddev": 0.0, "N": 0}
    assert Histogram.from_fio(Histogram().to_fio()).count == 0
