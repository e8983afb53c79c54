"""What a run leaves behind: a table on the screen, the same in Markdown, and everything in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.path import Step
from benchmarks.results import Row
from benchmarks.workload import parse_workload

__all__ = ["SCHEMA", "markdown", "show", "write_json"]

SCHEMA = 1  # of the JSON file; one more when a field changes its meaning

Cell = Callable[[Row], str]


def _count(value: float) -> str:
    """Three significant digits, thousands as k."""
    if value >= 99_950:
        return f"{value / 1000:.0f}k"
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _pair(first: float | None, second: float | None) -> str:
    return f"{_number(first)} / {_number(second)}"


COLUMNS: Sequence[tuple[str, Cell]] = (
    ("workload", lambda row: parse_workload(row.workload).title),
    ("IOPS", lambda row: _count(row.iops)),
    ("±", lambda row: f"{row.spread:.0%}"),
    ("GB/s", lambda row: f"{row.bytes_per_s / 1e9:.2f}"),
    ("p50 µs", lambda row: _number(row.p50_us)),
    ("p99 µs", lambda row: _number(row.p99_us)),
    ("p99.9 µs", lambda row: _number(row.p999_us)),
    ("CPU s/M", lambda row: _pair(row.client_cpu, row.server_cpu)),
    ("switches/k", lambda row: _pair(row.client_switches, row.server_switches)),
)


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.configuration, []).append(row)
    return groups


def show(rows: Sequence[Row]) -> None:
    """Print one table for each configuration to standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    for configuration, group in _grouped(rows).items():
        table = Table(title=configuration, title_justify="left", caption_justify="left")
        for number, (title, _) in enumerate(COLUMNS):
            table.add_column(title, justify="right" if number else "left", no_wrap=True)
        for row in group:
            table.add_row(*(cell(row) for _, cell in COLUMNS))
        console.print(table)
    console.print(
        "IOPS: median of the rounds, ± half their range. Latencies: all rounds together. CPU s/M: seconds of "
        "CPU per million I/Os. switches/k: context switches per thousand I/Os. Both client / server."
    )


def markdown(rows: Sequence[Row]) -> str:
    """All rows as Markdown, one table for each configuration."""
    lines: list[str] = []
    for configuration, group in _grouped(rows).items():
        lines += [f"### {configuration}", ""]
        lines.append("| " + " | ".join(title for title, _ in COLUMNS) + " |")
        lines.append("|---|" + "---:|" * (len(COLUMNS) - 1))
        lines += ["| " + " | ".join(cell(row) for _, cell in COLUMNS) + " |" for row in group]
        lines.append("")
    return "\n".join(lines)


def write_json(
    path: Path,
    *,
    machine: Mapping[str, object],
    commit: str | None,
    options: Mapping[str, object],
    started: str,
    rounds: Sequence[Mapping[str, object]],
    rows: Sequence[Row],
) -> None:
    """Write everything: the summary can be made again from the rounds."""
    document = {
        "schema": SCHEMA,
        "benchmark": "disk",
        "started": started,
        "commit": commit,
        "machine": machine,
        "options": options,
        "summary": [asdict(row) for row in rows],
        "rounds": rounds,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def show_path(steps: Sequence[Step]) -> None:
    """Print what each step of a request costs; parts of a step are indented."""
    for step in steps:
        indent = "    " if step.part else ""
        print(f"{step.side:7s} {indent + step.what:48s} {step.nanoseconds / 1000:7.2f} µs")
