"""From raw rounds to one row: medians, spread, percentiles of all rounds together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.workload import parse_workload

__all__ = ["Row", "spread", "summarise"]


def spread(values: list[float]) -> float:
    """Half the distance between the least and the greatest, as a part of the median; 0.0 for one value."""
    middle = median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload under one configuration; rates are medians of the rounds, percentiles are of all answers.

    CPU is in seconds per million I/Os, switches per thousand I/Os; ``None`` where it was not measured.
    """

    configuration: str
    workload: str
    rounds: int
    iops: float
    spread: float
    bytes_per_s: float
    p50_us: float
    p99_us: float
    p999_us: float
    client_cpu: float | None
    server_cpu: float | None
    client_switches: float | None
    server_switches: float | None


def _per_io(rounds: list[Mapping[str, Any]], side: str, keys: tuple[str, ...]) -> float | None:
    """The sum of ``keys`` of one side over all rounds, divided by their I/Os; None if a round lacks one."""
    if any(key not in one["usage"].get(side, {}) for one in rounds for key in keys):
        return None
    used = sum(int(one["usage"][side][key]) for one in rounds for key in keys)
    return used / sum(int(one["ios"]) for one in rounds)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _row(configuration: str, name: str, rounds: list[Mapping[str, Any]]) -> Row:
    rates = [one["ios"] / one["took_ns"] * 1e9 for one in rounds]
    latency = Histogram()
    for one in rounds:
        latency.merge(Histogram.from_json(one["latency"]))
    switches = ("voluntary", "involuntary")
    return Row(
        configuration=configuration,
        workload=name,
        rounds=len(rounds),
        iops=median(rates),
        spread=spread(rates),
        bytes_per_s=median(rates) * parse_workload(name).block_size,
        p50_us=latency.percentile(50) / 1e3,
        p99_us=latency.percentile(99) / 1e3,
        p999_us=latency.percentile(99.9) / 1e3,
        client_cpu=_times(_per_io(rounds, "client", ("cpu_ns",)), 1e-3),
        server_cpu=_times(_per_io(rounds, "server", ("cpu_ns",)), 1e-3),
        client_switches=_times(_per_io(rounds, "client", switches), 1e3),
        server_switches=_times(_per_io(rounds, "server", switches), 1e3),
    )


def summarise(rounds: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row for each configuration and workload, in the order in which they first appear.

    Each round is a mapping with ``configuration``, ``workload``, ``ios`` (at least 1), ``took_ns``,
    ``usage`` and ``latency`` (:meth:`Histogram.to_json`), as the JSON file holds them.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in rounds:
        groups.setdefault((one["configuration"], one["workload"]), []).append(one)
    return [_row(configuration, name, group) for (configuration, name), group in groups.items()]
