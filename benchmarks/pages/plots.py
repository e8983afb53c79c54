"""The plots: rate against depth, latency percentiles, cost of an I/O, cost against the number of disks.

Each function gives one figure of one run; what is drawn is the median of the rounds, and whiskers reach
from the lowest to the highest round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from benchmarks.pages.canvas import SMALL, WIDTH, Look, Theme, canvas, label_ends, name_axes, place
from benchmarks.pages.statistics import SIDES, Sample, Series
from benchmarks.pages.text import count, number

__all__ = ["draw_cost", "draw_depths", "draw_disks", "draw_latency", "draw_rates"]

Looks = Mapping[str, Look]

LABELS = 2.3  # inches on the right, for the names of the lines
LABEL = 0.2  # inches for each of those names
ROW = 0.34  # inches for each row of a plot with names on the left
NAMES = 2.2  # inches on the left, for those names

STEP = 0.05  # of a nine, between two points of a percentile line
TICKS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
NARROW = 3.2  # nines, from which on there is no room for both 0 % and 50 %
MARKED = (50.0, 99.0, 99.9)  # percentiles whose rounds are shown
WIDE = 3e3  # highest by lowest latency, from which on every power of ten is enough of a grid
BEYOND = 10  # answers that must lie beyond a percentile for it to mean something


def _rounds(every: Sequence[Series]) -> str:
    rounds = max(len(series.rounds) for series in every)
    return (
        f"median of {rounds} rounds, whiskers from the lowest to the highest" if rounds > 1 else "one round"
    )


def _tall(every: Sequence[Series]) -> float:
    """The height in inches at which the names of all lines find room beside the plot."""
    return max(4.6, 1.7 + LABEL * len({series.configuration for series in every}))


def _line(axes: Axes, look: Look, points: Sequence[tuple[float, Sample]]) -> tuple[float, float]:
    """Draw a line with bars, and give its right end."""
    x = [at for at, _ in points]
    y = [sample.median for _, sample in points]
    bars = [
        [sample.median - sample.low for _, sample in points],
        [sample.high - sample.median for _, sample in points],
    ]
    axes.errorbar(
        x,
        y,
        yerr=bars,
        color=look.colour,
        linestyle=look.dash,
        linewidth=look.weight,
        marker=look.marker,
        markersize=4.5,
        elinewidth=1.2,
        capsize=0,
    )
    return x[-1], y[-1]


def _powers(axes: Axes, values: set[int]) -> None:
    """A logarithmic axis with a tick at each of ``values`` and nowhere else."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(values), [str(value) for value in sorted(values)])
    axes.xaxis.set_minor_locator(NullLocator())


def _exact(value: float, _: object) -> str:
    """What stands at a tick: all of its digits."""
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(0, axes.get_ylim()[1] * 1.04)
    axes.yaxis.set_major_formatter(FuncFormatter(_exact))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _by_configuration(every: Sequence[Series]) -> dict[str, list[Series]]:
    groups: dict[str, list[Series]] = {}
    for series in every:
        groups.setdefault(series.configuration, []).append(series)
    return groups


def draw_depths(every: Sequence[Series], looks: Looks, theme: Theme) -> Figure:
    """I/Os a second against depth, of series that differ in configuration and depth alone."""
    figure, (axes,) = canvas(
        theme, every[0].load.family, f"I/Os a second against depth; {_rounds(every)}", _tall(every)
    )
    place(figure, left=0.75, right=LABELS)
    ends = []
    for name, group in _by_configuration(every).items():
        points = sorted(((float(one.load.depth), one.iops) for one in group), key=lambda point: point[0])
        ends.append((name, *_line(axes, looks[name], points), looks[name].colour))
    _powers(axes, {series.load.depth for series in every})
    _from_zero(axes)
    name_axes(axes, theme, "depth (requests in flight)", "I/Os a second")
    label_ends(axes, ends)
    return figure


def _rows(axes: Axes, names: Sequence[str], looks: Looks) -> None:
    """Names on the left, the first on top."""
    axes.set_yticks(range(len(names)), names, size=SMALL)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(looks[name].colour)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_exact))


def draw_rates(every: Sequence[Series], looks: Looks, theme: Theme) -> Figure:
    """I/Os a second of one load, a row for each configuration."""
    names = [series.configuration for series in every]
    figure, (axes,) = canvas(
        theme, every[0].load.title, f"I/Os a second; {_rounds(every)}", 1.6 + ROW * len(names)
    )
    place(figure, left=NAMES, right=0.8, top=0.75)
    for row, series in enumerate(every):
        sample, look = series.iops, looks[series.configuration]
        axes.plot([sample.low, sample.high], [row, row], color=look.colour, linewidth=1.5)
        axes.plot([sample.median], [row], marker=look.marker, markersize=5, color=look.colour)
        axes.annotate(
            count(sample.median),
            (sample.high, row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            size=SMALL,
            color=theme.ink,
        )
    _rows(axes, names, looks)
    name_axes(axes, theme, "I/Os a second", "")
    return figure


def _nines(percent: float) -> float:
    """Where a percentile stands: every nine takes the same room."""
    return -math.log10(1 - percent / 100)


def draw_latency(every: Sequence[Series], looks: Looks, theme: Theme) -> Figure:
    """Latency percentiles of one load, on logarithmic scales, as far as the answers carry them."""
    note = f"all rounds together, as far as {BEYOND} answers lie beyond; whiskers: lowest and highest round"
    figure, (axes,) = canvas(theme, every[0].load.title, note, _tall(every))
    place(figure, left=0.75, right=LABELS)
    ends, furthest = [], 0.0
    for series in every:
        latency, look = series.latency, looks[series.configuration]
        last = _nines(100 * max(0.0, 1 - BEYOND / latency.count))
        x = [step * STEP for step in range(int(last / STEP) + 1)]
        y = [latency.percentile(100 * (1 - 10**-nines)) / 1e3 for nines in x]
        axes.plot(x, y, color=look.colour, linestyle=look.dash, linewidth=look.weight)
        for percent in MARKED:
            if _nines(percent) <= last:
                _bar(axes, look, percent, series)
        ends.append((series.configuration, x[-1], y[-1], look.colour))
        furthest = max(furthest, last)
    shown = [percent for percent in TICKS if _nines(percent) <= furthest and (percent or furthest < NARROW)]
    axes.set_xticks([_nines(percent) for percent in shown], [f"{percent:g} %" for percent in shown])
    _logarithmic(axes)
    name_axes(axes, theme, "part of the answers that took no longer", "latency, µs")
    label_ends(axes, ends)
    return figure


def _logarithmic(axes: Axes) -> None:
    """An upright axis in powers of ten; 2 and 5 have lines too where it does not span many."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < WIDE * low else (1,)))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    )
    axes.yaxis.set_minor_locator(NullLocator())


def _bar(axes: Axes, look: Look, percent: float, series: Series) -> None:
    """The lowest and the highest round of one percentile."""
    sample = series.percentile(percent)
    at = _nines(percent)
    axes.plot([at, at], [sample.low / 1e3, sample.high / 1e3], color=look.colour, linewidth=1.2)
    axes.plot(
        [at],
        [series.latency.percentile(percent) / 1e3],
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
    )


def draw_cost(every: Sequence[Series], looks: Looks, theme: Theme) -> Figure:
    """CPU time and context switches for each I/O of one load, split by side; a row for each configuration."""
    names = [series.configuration for series in every]
    note = f"CPU time and context switches for each I/O; {_rounds(every)}"
    figure, (cpu, switches) = canvas(theme, every[0].load.title, note, 2.0 + ROW * len(names), panels=2)
    place(figure, left=NAMES, right=0.5, top=1.05, gap=0.55)
    _stack(cpu, every, theme, Series.cpu, 1e-3)
    _stack(switches, every, theme, Series.switches, 1)
    for axes in (cpu, switches):
        _rows(axes, names, looks)
    switches.set_yticklabels([])
    name_axes(cpu, theme, "CPU, µs for each I/O", "")
    name_axes(switches, theme, "context switches for each I/O", "")
    _name_sides(figure, every, theme)
    return figure


def _stack(
    axes: Axes,
    every: Sequence[Series],
    theme: Theme,
    cost: Callable[[Series, str | None], Sample | None],
    unit: float,
) -> None:
    """Bars of the sides end to end, their sum beside them; a side that was not counted has no part."""
    for row, series in enumerate(every):
        done = 0.0
        for side, colour in zip(SIDES, theme.sides, strict=True):
            if sample := cost(series, side):
                axes.barh(
                    row, sample.median * unit, left=done, height=0.62, color=colour, edgecolor=theme.paper
                )
                done += sample.median * unit
        total = cost(series, None)
        if total:
            axes.plot([total.low * unit, total.high * unit], [row, row], color=theme.ink, linewidth=1.5)
        axes.annotate(
            number(total.median * unit) if total else "not counted",
            (max(done, total.high * unit) if total else 0, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            size=SMALL,
            color=theme.ink,
        )
    axes.margins(x=0.2)


def _name_sides(figure: Figure, every: Sequence[Series], theme: Theme) -> None:
    """The sides' names beside their colours, above the bars."""
    x, y = NAMES / WIDTH, 1 - 0.85 / float(figure.get_figheight())
    for side, colour in zip(SIDES, theme.sides, strict=True):
        if any(series.cpu(side) for series in every):
            words = {"front": "NBD front end"}.get(side, side)
            figure.text(x, y, "■", size=SMALL, color=colour, va="center")
            figure.text(x + 0.14 / WIDTH, y, words, size=SMALL, color=theme.ink, va="center")
            x += (0.4 + 0.075 * len(words)) / WIDTH


def draw_disks(every: Sequence[Series], looks: Looks, theme: Theme) -> Figure:
    """Rate and cost against the number of disks, of series that differ in configuration and disks alone."""
    note = f"all disks together; {_rounds(every)}"
    title = f"{every[0].load.each} on each disk"
    figure, (rate, cost) = canvas(theme, title, note, 4.2, panels=2)
    place(figure, left=0.7, right=1.9, gap=0.65)
    ends = []
    for name, group in _by_configuration(every).items():
        ordered = sorted(group, key=lambda series: series.load.disks)
        _line(rate, looks[name], [(float(one.load.disks), one.iops) for one in ordered])
        costs = [(float(one.load.disks), total) for one in ordered if (total := one.cpu())]
        scaled = [(at, Sample(tuple(value / 1e3 for value in total.values))) for at, total in costs]
        if scaled:
            ends.append((name, *_line(cost, looks[name], scaled), looks[name].colour))
    for axes, what in ((rate, "I/Os a second"), (cost, "CPU, µs for each I/O, all sides")):
        _powers(axes, {series.load.disks for series in every})
        _from_zero(axes)
        name_axes(axes, theme, "disks", what)
    label_ends(cost, ends)
    return figure
