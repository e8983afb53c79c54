"""From rounds to figures: medians, spread, noise, ratios within a round, and whether two runs differ.

A figure is the median of its rounds. Its *spread* is half the distance between the lowest and the highest
round, as a part of the median. Ratios within a run are taken round by round (``roles``), where both sides
met the same minute of the machine; two runs have no rounds in common, so all are set against all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist, median

from benchmarks.histogram import Histogram
from benchmarks.pages.load import Load
from benchmarks.pages.resultfile import Round, Usage

__all__ = [
    "SIDES",
    "Sample",
    "Series",
    "least_chance",
    "ratio_between_runs",
    "series_of",
    "unlikely_equal",
]

SIDES = ("client", "server", "front")
"""Whose CPU time and context switches are counted; ``front`` is an NBD front end between the two."""

EXACT_ROUNDS = 100
"""Up to so many rounds the rank test counts; beyond, the normal distribution is near enough."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value for each round, at least one; ``values`` are in ascending order."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Sample:
        """The sample of ``values`` in any order. Raises: ValueError (none)."""
        ordered = tuple(sorted(values))
        if not ordered:
            raise ValueError("no round")
        return cls(ordered)

    @property
    def median(self) -> float:
        """The middle."""
        return median(self.values)

    @property
    def low(self) -> float:
        """The lowest round."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The highest round."""
        return self.values[-1]

    @property
    def spread(self) -> float:
        """Half the distance between lowest and highest, as a part of the median; 0.0 for one round."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """All rounds of one configuration under one load; equal to itself alone."""

    configuration: str
    load: Load
    rounds: tuple[Round, ...]

    @property
    def iops(self) -> Sample:
        """I/Os a second."""
        return Sample.of(one.iops for one in self.rounds)

    @property
    def bytes_per_s(self) -> Sample:
        """Bytes a second."""
        return Sample.of(one.bytes / one.took_ns * 1e9 for one in self.rounds)

    @property
    def latency(self) -> Histogram:
        """The latencies of all rounds together, in nanoseconds."""
        together = Histogram()
        for one in self.rounds:
            together.merge(one.latency)
        return together

    def percentile(self, percent: float) -> Sample:
        """A percentile of each round, in nanoseconds."""
        return Sample.of(one.latency.percentile(percent) for one in self.rounds)

    def cpu(self, side: str | None = None) -> Sample | None:
        """Nanoseconds of CPU for each I/O on one side, or on all that were measured.

        ``None`` if a round lacks them.
        """
        return self._per_io(side, lambda used: used.cpu_ns)

    def switches(self, side: str | None = None) -> Sample | None:
        """Context switches for each I/O, likewise."""
        return self._per_io(side, _switches)

    def _per_io(self, side: str | None, counted: Callable[[Usage], int | None]) -> Sample | None:
        """One kind of use in each round, for each I/O; without a ``side``, of all that every round has."""
        measured = [side] if side else [one for one in SIDES if self._per_io(one, counted)]
        values = []
        for one in self.rounds:
            parts = [counted(one.usage[name]) if name in one.usage else None for name in measured]
            known = [part for part in parts if part is not None]
            if not known or len(known) < len(parts):
                return None
            values.append(sum(known) / one.ios)
        return Sample.of(values)


def _switches(used: Usage) -> int | None:
    if used.voluntary is None or used.involuntary is None:
        return None
    return used.voluntary + used.involuntary


def series_of(rounds: Iterable[Round]) -> list[Series]:
    """One series for each configuration and load, in the order in which they first appear."""
    groups: dict[tuple[str, Load], list[Round]] = {}
    for one in rounds:
        groups.setdefault((one.configuration, one.load), []).append(one)
    return [Series(configuration, load, tuple(group)) for (configuration, load), group in groups.items()]


# ---------------------------------------------------------------------------------------- two runs


def ratio_between_runs(before: Sample, after: Sample) -> Sample:
    """Every round after divided by every round before: rounds of two runs have no partner of their own."""
    return Sample.of(late / early for early in before.values for late in after.values)


def least_chance(rounds: int, others: int) -> float:
    """The smallest value that :func:`unlikely_equal` can give for so many rounds."""
    return 2 / math.comb(rounds + others, rounds)


def unlikely_equal(before: Sample, after: Sample) -> float:
    """How often two runs without any difference would lie at least this far apart: 1.0 always, 0.0 never.

    The two-sided rank test of Mann and Whitney: it asks only which rounds are above which, so one wild
    round cannot make a change. Equal values count against a change.
    """
    below = sum(early < late for early in before.values for late in after.values)
    above = sum(early > late for early in before.values for late in after.values)
    pairs = len(before.values) * len(after.values)
    contrary = pairs - max(below, above)
    if 2 * contrary >= pairs:
        return 1.0
    return min(1.0, 2 * _at_most(contrary, len(before.values), len(after.values)))


def _at_most(contrary: int, rounds: int, others: int) -> float:
    """The part of all orders of so many values in which at most so many pairs are contrary."""
    if max(rounds, others) > EXACT_ROUNDS:
        deviation = math.sqrt(rounds * others * (rounds + others + 1) / 12)
        return NormalDist(rounds * others / 2, deviation).cdf(contrary + 0.5)
    # As many orders have u contrary pairs as u has partitions into at most `rounds` parts, each at most
    # `others`: the coefficient of q^u in the product of (1 - q^(others+i)) / (1 - q^i), i = 1 to rounds.
    orders = [1] + [0] * contrary
    for i in range(1, rounds + 1):
        for u in range(contrary, others + i - 1, -1):
            orders[u] -= orders[u - others - i]
        for u in range(i, contrary + 1):
            orders[u] += orders[u - i]
    return sum(orders) / math.comb(rounds + others, rounds)
