"""What was measured, as rounds, and a row of the table from the rounds of one configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.histogram import Histogram
from benchmarks.processes import Usage
from benchmarks.workload import Workload

__all__ = ["Round", "Row", "spread", "summarise"]


def spread(values: Sequence[float]) -> float:
    """Half the distance between the least and the greatest, as a part of the median; 0.0 for one value."""
    middle = median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One workload under one configuration, measured once.

    ``usage`` is of each side (client, server, front) between the first request and the last answer;
    ``user`` and ``system`` are the client's parts of ``took_ns`` in percent, as fio gives them.
    """

    configuration: str
    workload: Workload
    number: int
    took_ns: int
    reads: Histogram
    writes: Histogram
    usage: Mapping[str, Usage] = field(default_factory=dict)
    user: float = 0.0
    system: float = 0.0
    disks: int = 1
    rate: float | None = None
    verify_errors: int | None = None
    first_error: str | None = None

    @property
    def ios(self) -> int:
        """How many were answered."""
        return self.reads.count + self.writes.count

    @property
    def iops(self) -> float:
        """How many were answered in a second."""
        return self.ios / self.took_ns * 1e9

    @property
    def latency(self) -> Histogram:
        """Of reads and writes together."""
        both = Histogram()
        both.merge(self.reads)
        both.merge(self.writes)
        return both


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload under one configuration; rates are medians of the rounds, percentiles are of all answers.

    ``cpu`` is seconds per million I/Os of each side, ``switches`` context switches per thousand I/Os.
    """

    configuration: str
    workload: Workload
    disks: int
    rate: float | None
    rounds: int
    iops: float
    spread: float
    latency: Histogram
    cpu: Mapping[str, float]
    switches: Mapping[str, float]
    verify_errors: int | None

    @property
    def bytes_per_s(self) -> float:
        """Of the median round."""
        return self.iops * self.workload.block_size


def _row(rounds: list[Round]) -> Row:
    first = rounds[0]
    rates = [one.iops for one in rounds]
    latency = Histogram()
    for one in rounds:
        latency.merge(one.latency)
    ios = sum(one.ios for one in rounds)
    used = {side: [one.usage[side] for one in rounds if side in one.usage] for side in first.usage}
    checked = [one.verify_errors for one in rounds if one.verify_errors is not None]
    return Row(
        configuration=first.configuration,
        workload=first.workload,
        disks=first.disks,
        rate=first.rate,
        rounds=len(rounds),
        iops=median(rates),
        spread=spread(rates),
        latency=latency,
        cpu={side: sum(one.cpu_ns for one in all_) / ios / 1e3 for side, all_ in used.items()},
        switches={side: sum(one.switches for one in all_) / ios * 1e3 for side, all_ in used.items()},
        verify_errors=sum(checked) if checked else None,
    )


def summarise(rounds: Iterable[Round]) -> list[Row]:
    """One row for each configuration, number of disks and workload, in the order of their first rounds.

    A round has at least one I/O.
    """
    groups: dict[tuple[str, int, str], list[Round]] = {}
    for one in rounds:
        groups.setdefault((one.configuration, one.disks, one.workload.name), []).append(one)
    return [_row(group) for group in groups.values()]
