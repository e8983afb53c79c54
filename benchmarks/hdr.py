"""HdrHistogram logs, which the tools around HdrHistogram read: one file for each configuration and workload,
in it one interval for each round.
"""

from __future__ import annotations

import re
import time
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
    """Write the logs into ``folder``, which is made if it is not there.

    Source: HdrHistogram's HistogramLogWriter, log format 1.3.
    """
    from hdrh.histogram import HdrHistogram

    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Round]] = {}
    for one in rounds:
        groups.setdefault(file_name(one), []).append(one)
    for name, group in groups.items():
        began_s = 0.0  # as if the rounds had followed each other
        lines = [
            f"#[{group[0].configuration}: {group[0].workload.title}; values are nanoseconds]",
            "#[Histogram log format version 1.3]",
            f"#[StartTime: {started_s:.3f} (seconds since epoch), {time.ctime(started_s)}]",
            '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
        ]
        for one in group:
            histogram = HdrHistogram(1, _HIGHEST_NS, _DIGITS)
            for value, times in one.latency.values():
                histogram.record_value(max(value, 1), times)
            took_s = one.took_ns / 1e9
            greatest_ms = one.latency.greatest / 1e6
            lines.append(f"{began_s:.3f},{took_s:.3f},{greatest_ms:.3f},{histogram.encode().decode()}")
            began_s += took_s
        (folder / name).write_text("\n".join(lines) + "\n")
