"""What a run has to show: which plots, of which series, in which order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmarks.pages.canvas import Theme
from benchmarks.pages.plots import Looks, draw_cost, draw_depths, draw_disks, draw_latency, draw_rates
from benchmarks.pages.roles import better_clients
from benchmarks.pages.statistics import Series
from benchmarks.pages.tables import Table, cost_table, depth_table, disks_table, latency_table

__all__ = ["Chapter", "Draw", "Plate", "chapters"]

Draw = Callable[[Sequence[Series], Looks, Theme], Figure]
Tabulate = Callable[[Sequence[Series]], Table]

LINES: frozenset[Draw] = frozenset({draw_depths, draw_latency})
"""Plots in which every configuration is a line, so that fewer are clearer."""


@dataclass(frozen=True, slots=True)
class Plate:
    """A plot with its table; ``name`` is that of its file.

    Where lines are drawn, of each peer only the better client has one; the table has all.
    """

    name: str
    title: str
    series: tuple[Series, ...]
    draw: Draw
    tabulate: Tabulate

    @property
    def drawn(self) -> Sequence[Series]:
        """What the plot shows."""
        return better_clients(self.series) if self.draw in LINES else self.series


@dataclass(frozen=True, slots=True)
class Chapter:
    """Plates that answer one question."""

    title: str
    words: str
    plates: tuple[Plate, ...]


def _grouped(every: Iterable[Series], key: Callable[[Series], str]) -> dict[str, list[Series]]:
    groups: dict[str, list[Series]] = {}
    for series in every:
        groups.setdefault(key(series), []).append(series)
    return groups


def _file(kind: str, title: str) -> str:
    return f"{kind}-{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}"


def _rates(every: Sequence[Series]) -> list[Plate]:
    """Lines for what was measured at several depths, rows for every load that they do not show wholly.

    In open loop the rate was given, so there is nothing to show.
    """
    plates = []
    closed = [series for series in every if series.load.rate is None]
    for family, group in _grouped(closed, lambda series: series.load.family).items():
        by_name = _grouped(group, lambda series: series.configuration)
        lines = {name for name, some in by_name.items() if len({one.load.depth for one in some}) > 1}
        if lines:
            drawn = tuple(series for series in group if series.configuration in lines)
            plates.append(Plate(_file("rate", family), family, drawn, draw_depths, depth_table))
        for title, some in _grouped(group, lambda series: series.load.title).items():
            if not {series.configuration for series in some} <= lines:
                plates.append(Plate(_file("rate", title), title, tuple(some), draw_rates, depth_table))
    return plates


def _by_load(every: Sequence[Series], kind: str, draw: Draw, tabulate: Tabulate) -> list[Plate]:
    groups = _grouped(every, lambda series: series.load.title)
    return [Plate(_file(kind, title), title, tuple(group), draw, tabulate) for title, group in groups.items()]


def _disks(every: Sequence[Series]) -> list[Plate]:
    """One plot for each load that was put on different numbers of disks."""
    plates = []
    for title, group in _grouped(every, lambda series: series.load.each).items():
        some = {series.configuration for series in group if series.load.disks > 1}
        chosen = tuple(series for series in group if series.configuration in some)
        if len({series.load.disks for series in chosen}) > 1:
            plates.append(Plate(_file("disks", title), title, chosen, draw_disks, disks_table))
    return plates


def chapters(every: Sequence[Series]) -> list[Chapter]:
    """All that the series of one run show; chapters without a plate are left out."""
    disks = _disks(every)
    there = {series for plate in disks for series in plate.series if series.load.disks > 1}
    rest = [series for series in every if series not in there]
    found = [
        Chapter(
            "How much",
            "I/Os a second. What is ours has a colour, dashed where it sleeps instead of polling; other "
            "servers on the same file are grey, the file without any server is dotted. All took turns in the "
            "same rounds. Of each peer the client that does better has a line; the tables have both.",
            tuple(_rates(rest)),
        ),
        Chapter(
            "How long",
            "What one request waits, from the call to its answer; in open loop (“at … a second”) from the "
            "moment it was due, so that a stall counts for all that it held up. Lower is better.",
            tuple(_by_load(every, "latency", draw_latency, latency_table)),
        ),
        Chapter(
            "At what cost",
            "Processor time and context switches of each side. Who polls buys latency with processor time: "
            "read this beside the rates.",
            tuple(_by_load(rest, "cost", draw_cost, cost_table)),
        ),
        Chapter(
            "With many disks",
            "The same load on each disk of one server: what they reach together, and what an I/O then costs.",
            tuple(disks),
        ),
    ]
    return [chapter for chapter in found if chapter.plates]
