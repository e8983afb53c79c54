"""A log-linear latency histogram: a fixed number of buckets per power of two, so a bounded relative error.

Values are whole nanoseconds. Below 2^(SUB_BITS+1) every value has its own bucket; above, each power of two
is cut into 2^SUB_BITS equal parts, so a bucket is at most 1/64 (1.6 %) of its value wide. Recording during
a measurement is an append to an array of 64-bit integers (about 40 ns); :meth:`Histogram.record_all` sorts
them in afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import sqrt
from typing import Any

__all__ = ["SUB_BITS", "Histogram", "bucket_of", "bucket_range"]

FIO_PERCENTILES = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)
SUB_BITS = 6  # 64 buckets for each power of two: 1.6 % is far below the spread from round to round


def bucket_of(value: int) -> int:
    """The number of the bucket that holds ``value`` (0 or more)."""
    shift = value.bit_length() - SUB_BITS - 1
    if shift <= 0:
        return value
    return (shift << SUB_BITS) + (value >> shift)


def bucket_range(bucket: int) -> tuple[int, int]:
    """The smallest and the largest value of a bucket."""
    if bucket < 2 << SUB_BITS:
        return bucket, bucket
    shift = (bucket >> SUB_BITS) - 1
    low = (bucket - (shift << SUB_BITS)) << shift
    return low, low + (1 << shift) - 1


class Histogram:
    """Counts per bucket, with what they cannot tell (count, sum, least and greatest) kept exactly."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.count = 0
        self.total = 0
        self.least = 0
        self.greatest = 0

    def add(self, value: int, times: int = 1) -> None:
        """Count ``value`` as measured ``times`` times. Raises: ValueError (negative)."""
        if value < 0 or times < 0:
            raise ValueError(f"{times} latencies of {value} ns")
        if times:
            self.counts[bucket_of(value)] += times
            self.total += value * times
            self._widen(value, value, times)

    def record_all(self, values: Iterable[int]) -> None:
        """Sort the measured ``values`` in, in any order. Raises: ValueError (a negative one)."""
        for value, times in Counter(values).items():
            self.add(value, times)

    def merge(self, other: Histogram) -> None:
        """Add what ``other`` has counted."""
        self.counts.update(other.counts)
        self.total += other.total
        if other.count:
            self._widen(other.least, other.greatest, other.count)

    def _widen(self, least: int, greatest: int, count: int) -> None:
        self.least = min(self.least, least) if self.count else least
        self.greatest = max(self.greatest, greatest)
        self.count += count

    @property
    def mean(self) -> float:
        """The exact mean; 0.0 when empty."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> int:
        """The least value that ``percent`` of all do not exceed, to within its bucket; 0 when empty.

        The middle of the bucket is given, never less than the least or more than the greatest value seen.

        Raises: ValueError (not between 0 and 100).
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile of {percent}")
        wanted = percent / 100 * self.count
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(max(_middle(bucket), self.least), self.greatest)
        return self.greatest

    def values(self) -> Iterator[tuple[int, int]]:
        """Each bucket's middle and how often it was met, in order."""
        for bucket in sorted(self.counts):
            yield _middle(bucket), self.counts[bucket]

    @property
    def deviation(self) -> float:
        """The standard deviation, from the middles of the buckets; 0.0 when empty."""
        if not self.count:
            return 0.0
        mean = self.mean
        return sqrt(sum((value - mean) ** 2 * times for value, times in self.values()) / self.count)

    def to_fio(self) -> dict[str, Any]:
        """As fio writes ``clat_ns`` in json+: the inverse of :meth:`from_fio`. Its buckets are these.

        Empty, it has neither percentiles nor bins: fio's own tools stumble over empty ones.
        """
        times: dict[str, Any] = {
            "min": self.least,
            "max": self.greatest,
            "mean": round(self.mean, 6),
            "stddev": round(self.deviation, 6),
            "N": self.count,
        }
        if self.count:
            times["percentile"] = {f"{percent:.6f}": self.percentile(percent) for percent in FIO_PERCENTILES}
            times["bins"] = {str(value): count for value, count in self.values()}
        return times

    @classmethod
    def from_fio(cls, data: Mapping[str, Any]) -> Histogram:
        """What fio, or :meth:`to_fio`, wrote.

        Raises: ValueError (counts that do not add up: written by another fio than json+ is known of).
        """
        histogram = cls()
        bins = data.get("bins", {})
        histogram.counts.update({bucket_of(int(value)): int(times) for value, times in bins.items() if times})
        histogram.count = int(data["N"])
        histogram.total = round(float(data["mean"]) * histogram.count)
        histogram.least = int(data["min"])
        histogram.greatest = int(data["max"])
        if histogram.counts.total() != histogram.count:
            raise ValueError(f"{histogram.counts.total()} values in the bins, {histogram.count} said")
        return histogram


def _middle(bucket: int) -> int:
    """The value that fio gives for a bucket. Source: fio stat.c, plat_idx_to_val."""
    low, high = bucket_range(bucket)
    return low + (high + 1 - low) // 2
