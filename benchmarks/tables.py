"""Tables for the terminal and for Markdown: figures, goals, and the steps of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.goals import Standing
from benchmarks.path import Step
from benchmarks.results import Row
from benchmarks.workload import parse_workload

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["GOAL_COLUMNS", "ROW_COLUMNS", "count", "goals_table", "markdown", "number", "show", "show_path"]

SIDES = ("client", "front", "server")
WIDTH = 150  # where there is no terminal to ask
LEGEND = (
    "IOPS: median of the rounds, ± half their range. Latencies: of all rounds together; in an open loop they "
    "count from when a request was due. CPU s/M: seconds of CPU per million I/Os; switches/k: context "
    "switches per thousand I/Os; both of client / server, or client / front end / server."
)


def count(value: float) -> str:
    """Three significant digits, thousands as k."""
    if value >= 99_950:
        return f"{value / 1000:.0f}k"
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def number(value: float | None) -> str:
    """Three significant digits; a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _sides(values: Mapping[str, float]) -> str:
    return " / ".join(number(values[side]) for side in SIDES if side in values) or "–"


def _percentile(percent: float) -> Callable[[Row], str]:
    return lambda row: number(row.latency.percentile(percent) / 1e3)


ROW_COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "IOPS": lambda row: count(row.iops),
    "±": lambda row: f"{row.spread:.0%}",
    "GB/s": lambda row: f"{row.bytes_per_s / 1e9:.2f}",
    "p50 µs": _percentile(50),
    "p99 µs": _percentile(99),
    "p99.9 µs": _percentile(99.9),
    "max µs": lambda row: number(row.latency.greatest / 1e3),
    "CPU s/M": lambda row: _sides(row.cpu),
    "switches/k": lambda row: _sides(row.switches),
}

GOAL_COLUMNS: Mapping[str, Callable[[Standing], str]] = {
    "workload": lambda one: parse_workload(one.goal.workload).title,
    "ours": lambda one: one.goal.configuration + (f": {one.usual_ours}" if one.usual_ours else ""),
    "against": lambda one: one.goal.against + (f": {one.usual_best}" if one.usual_best else ""),
    "goal": lambda one: f"≥ {one.goal.goal:g} ×",
    "ratio": lambda one: f"{one.ratio:.2f} ×" if one.ratios else "–",
    "±": lambda one: f"{one.spread:.0%}" if one.ratios else "–",
    "rounds": lambda one: " ".join(f"{ratio:.2f}" for ratio in one.ratios) or "–",
    "verdict": lambda one: one.verdict,
}


def _subject(row: Row) -> str:
    return row.configuration + (f", {row.disks} disks" if row.disks > 1 else "")


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By workload: what is compared stands together."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        rate = f", {row.rate:g} due a second" if row.rate is not None else ""
        groups.setdefault(row.workload.title + rate, []).append(row)
    return groups


def _cells(row: Row) -> list[str]:
    return [_subject(row), *(cell(row) for cell in ROW_COLUMNS.values())]


def rows_table(title: str, rows: Sequence[Row]) -> Table:
    """One workload."""
    return _table(title, ["configuration", *ROW_COLUMNS], [_cells(row) for row in rows], left=1)


def goals_table(standings: Sequence[Standing]) -> Table:
    """The goals."""
    rows = [[cell(one) for cell in GOAL_COLUMNS.values()] for one in standings]
    return _table("goals", list(GOAL_COLUMNS), rows, left=3)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right", no_wrap=place == 0)
    for row in rows:
        table.add_row(*row)
    return table


def make_console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for the tables where there is none."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=WIDTH)


def show(rows: Sequence[Row], standings: Sequence[Standing] = ()) -> None:
    """Print one table for each workload, and the goals, to standard output."""
    console = make_console()
    for title, group in _grouped(rows).items():
        console.print(rows_table(title, group))
    console.print(LEGEND)
    if standings:
        console.print(goals_table(standings))


def markdown(rows: Sequence[Row], standings: Sequence[Standing] = ()) -> str:
    """The same as Markdown."""
    lines: list[str] = []
    for title, group in _grouped(rows).items():
        lines += _lines(title, ["configuration", *ROW_COLUMNS], [_cells(row) for row in group])
    if standings:
        cells = [[cell(one) for cell in GOAL_COLUMNS.values()] for one in standings]
        lines += _lines("goals", list(GOAL_COLUMNS), cells)
    return "\n".join(lines)


def _lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        *(f"### {title}", "", "| " + " | ".join(columns) + " |"),
        "|---|" + "---:|" * (len(columns) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def show_path(chapters: Mapping[str, Sequence[Step]]) -> None:
    """Print what each step of a request costs, under the titles of their chapters; parts are indented."""
    for title, steps in chapters.items():
        print(title)
        for step in steps:
            what = f"{step.side:6s}  " * bool(step.side) + "    " * step.part + step.what
            print(f"  {what:56s} {step.nanoseconds / 1000:7.2f} µs")
