"""What a driver is asked to do and what it gives back: one measured stretch of a workload."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.histogram import Histogram
from benchmarks.verify import Ledger
from benchmarks.workload import Workload

__all__ = ["Job", "Stretch", "payload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all stretches of a worker have in common: each disk has its own places, and its own ledger if
    what is read is checked."""

    workload: Workload
    places: list[Iterator[int]]
    pool: bool
    polling: bool
    rate: float | None = None
    ledgers: list[Ledger] | None = None

    @property
    def interval_ns(self) -> float:
        """Between two requests that are due, in an open loop."""
        return 1e9 / self.rate if self.rate else 0.0


@dataclass(slots=True)
class Stretch:
    """Latencies in nanoseconds, of reads and of writes, and how long it took altogether."""

    times: tuple[array[int], array[int]] = field(default_factory=lambda: (array("q"), array("q")))
    """Of reads and of writes: ``times[place & 1]`` is where a place's goes."""
    took_ns: int = 0

    def histograms(self) -> tuple[Histogram, Histogram]:
        """Of reads and of writes."""
        reads, writes = Histogram(), Histogram()
        reads.record_all(self.times[0])
        writes.record_all(self.times[1])
        return reads, writes


def payload(size: int) -> bytes:
    """What is written where nothing is checked: no zeros, which a backend could treat in its own way."""
    return (bytes(range(1, 256)) * (size // 255 + 1))[:size]
