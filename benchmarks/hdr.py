"""HdrHistogram logs, which the tools around HdrHistogram read: one file for each configuration and workload,
in it one interval for each round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.results import Round

__all__ = ["available", "file_name", "write_logs"]

_HIGHEST_NS = 3_600_000_000_000
_DIGITS = 3


def available() -> bool:
    """Whether the package hdrhistogram is installed: the extra ``bench``."""
    from importlib.util import find_spec

    return find_spec("hdrh") is not None


def file_name(one: Round) -> str:
    """Of the log that a round goes into."""
    disks = f"-{one.disks}disks" if one.disks > 1 else ""
    return re.sub(r"[^a-z0-9_-]+", "-", f"{one.configuration.lower()}{disks}-{one.workload.name}") + ".hlog"


def write_logs(folder: Path, rounds: Iterable[Round], started_s: float) -> None:
    """Write the logs into ``folder``, which is made if it is not there. Values are nanoseconds."""
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogWriter

    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Round]] = {}
    for one in rounds:
        groups.setdefault(file_name(one), []).append(one)
    for name, group in groups.items():
        with (folder / name).open("w") as file:
            writer = HistogramLogWriter(file)
            writer.output_comment(f"{group[0].configuration}: {group[0].workload.title}; nanoseconds")
            writer.output_log_format_version()
            writer.output_start_time(started_s * 1000)
            writer.output_base_time(started_s * 1000)
            writer.output_legend()
            at_ms = started_s * 1000
            for one in group:
                histogram = HdrHistogram(1, _HIGHEST_NS, _DIGITS)
                for value, times in one.latency.values():
                    histogram.record_value(max(value, 1), times)
                end_ms = at_ms + one.took_ns / 1e6
                writer.output_interval_histogram(histogram, at_ms / 1000, end_ms / 1000)
                at_ms = end_ms
