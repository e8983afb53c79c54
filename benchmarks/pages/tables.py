"""The numbers behind each plot, and the facts of a run, as tables of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.pages.resultfile import Goal, Result
from benchmarks.pages.roles import ratio_to_best_peer
from benchmarks.pages.statistics import SIDES, Sample, Series
from benchmarks.pages.text import count, factor, microseconds, number, percent, size

__all__ = [
    "Cell",
    "Table",
    "cost_table",
    "depth_table",
    "disks_table",
    "facts",
    "goal_table",
    "latency_table",
]

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)
MOODS = frozenset({"met", "missed", "tie"})
SPREAD_SHOWN = (50.0, 99.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, a smaller one beside it, and whether it is good or bad news (``met``, ``missed``, ``tie``)."""

    text: str
    small: str = ""
    mood: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def facts(result: Result) -> list[tuple[str, str]]:
    """Where, with what and how a run was made, all of it."""
    machine = dict(result.machine)
    packages = machine.pop("packages", None)
    versions = {**(packages if isinstance(packages, dict) else {}), **result.versions}
    return [
        ("measured", f"{result.time}, python -m benchmarks {result.command}"),
        ("commit", result.commit or "unknown"),
        ("machine", _list(machine)),
        ("versions", _list({name: version or "absent" for name, version in versions.items()})),
        ("options", _list(result.options)),
        ("seed", "none" if result.seed is None else str(result.seed)),
        ("verified", _verified(result)),
    ]


def _list(values: Mapping[str, object]) -> str:
    return " · ".join(
        f"{name.removesuffix('_bytes').replace('_', ' ')} {_value(name, value)}"
        for name, value in values.items()
    )


def _value(name: str, value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / (1 << 30):.1f} GiB"
    if name == "size" and isinstance(value, int):
        return size(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _verified(result: Result) -> str:
    if result.verify_errors is None:
        return "no block was checked during the measurement"
    return f"{result.verify_errors} wrong answers"


def goal_table(goals: Sequence[Goal]) -> Table:
    """Each goal, the ratio reached, and the verdict."""
    return Table(
        "Ratios are taken within each round, and their median stands here. "
        "A tie: the distance to the goal is smaller than the noise.",
        ("workload", "ours", "against", "goal", "reached", "verdict"),
        tuple(
            (
                Cell(goal.title or goal.workload),
                Cell(goal.configuration),
                Cell(goal.against, _who(goal)),
                Cell(f"≥ {factor(goal.goal)}"),
                Cell(factor(goal.ratio), _plus_minus(goal.spread)) if goal.ratio else Cell("–"),
                Cell(goal.verdict, mood=goal.verdict if goal.verdict in MOODS else ""),
            )
            for goal in goals
        ),
    )


def _who(goal: Goal) -> str:
    """Who the best was, in how many rounds."""
    names = Counter(name for name in goal.best if name != goal.against)
    return ", ".join(f"{name} ({rounds} of {len(goal.best)})" for name, rounds in names.most_common())


def _plus_minus(spread: float | None) -> str:
    return "" if spread is None else f"± {percent(spread)}"


def _shown(sample: Sample | None, words: Callable[[float], str]) -> Cell:
    return Cell("–") if sample is None else Cell(words(sample.median), _plus_minus(sample.spread))


def _by_configuration(every: Iterable[Series]) -> dict[str, list[Series]]:
    groups: dict[str, list[Series]] = {}
    for series in every:
        groups.setdefault(series.configuration, []).append(series)
    return groups


def depth_table(every: Sequence[Series]) -> Table:
    """I/Os a second and bytes a second, a column for each depth; where peers were measured, how we stand."""
    depths = sorted({series.load.depth for series in every})
    peers = any(ratio_to_best_peer(series, every) for series in every)
    head = ["configuration"]
    for depth in depths:
        head += [f"depth {depth}: IOPS", "GB/s", *(["best peer"] if peers else [])]
    rows = []
    for name, group in _by_configuration(every).items():
        at = {series.load.depth: series for series in group}
        row = [Cell(name)]
        for depth in depths:
            row += _rate_cells(at.get(depth), every, peers)
        rows.append(tuple(row))
    note = "IOPS: median of the rounds, ± half their range."
    if peers:
        note += " Best peer: our rate divided by that of the fastest of them on a file, within each round."
    return Table(note, tuple(head), tuple(rows))


def _rate_cells(series: Series | None, every: Sequence[Series], peers: bool) -> list[Cell]:
    if series is None:
        return [Cell("")] * (3 if peers else 2)
    cells = [_shown(series.iops, count), Cell(f"{series.bytes_per_s.median / 1e9:.2f}")]
    ratio = ratio_to_best_peer(series, every)
    return [*cells, _shown(ratio, factor) if ratio else Cell("")] if peers else cells


def latency_table(every: Sequence[Series]) -> Table:
    """Percentiles in microseconds; one that fewer than ten answers exceed is in brackets."""
    head = ("configuration", "least", *(f"{one:g} %" for one in PERCENTILES), "longest", "answers")
    return Table(
        "Latency in µs, of all rounds together; ± half the range of the rounds' own percentiles. "
        "In brackets: fewer than ten answers lie beyond.",
        head,
        tuple(
            (
                Cell(series.configuration),
                Cell(microseconds(series.latency.least)),
                *(_percentile(series, one) for one in PERCENTILES),
                Cell(microseconds(series.latency.greatest)),
                Cell(count(series.latency.count)),
            )
            for series in every
        ),
    )


def _percentile(series: Series, one: float) -> Cell:
    latency = series.latency
    text = microseconds(latency.percentile(one))
    if latency.count * (1 - one / 100) < 10:
        return Cell(f"({text})")
    return Cell(text, _plus_minus(series.percentile(one).spread) if one in SPREAD_SHOWN else "")


def cost_table(every: Sequence[Series]) -> Table:
    """CPU time and context switches of each side."""
    sides = [side for side in SIDES if any(series.cpu(side) for series in every)]
    head = (
        "configuration",
        *(f"CPU {side}" for side in sides),
        "CPU all",
        *(f"switches {side}" for side in sides),
    )
    return Table(
        "CPU in µs for each I/O, which is seconds for a million; context switches for a thousand I/Os. "
        "Median of the rounds, ± half their range. A dash: not counted.",
        head,
        tuple(
            (
                Cell(series.configuration),
                *(_shown(series.cpu(side), microseconds) for side in sides),
                _shown(series.cpu(), microseconds),
                *(_shown(series.switches(side), lambda each: number(each * 1e3)) for side in sides),
            )
            for series in every
        ),
    )


def disks_table(every: Sequence[Series]) -> Table:
    """Rate and CPU time, a row for each configuration and number of disks."""
    ordered = [
        series
        for group in _by_configuration(every).values()
        for series in sorted(group, key=lambda series: series.load.disks)
    ]
    return Table(
        "IOPS of all disks together; CPU in µs for each I/O. Median of the rounds, ± half their range.",
        ("configuration", "disks", "IOPS", *(f"CPU {side}" for side in SIDES[:2]), "CPU all", "99 %, µs"),
        tuple(
            (
                Cell(series.configuration),
                Cell(str(series.load.disks)),
                _shown(series.iops, count),
                *(_shown(series.cpu(side), microseconds) for side in SIDES[:2]),
                _shown(series.cpu(), microseconds),
                _shown(series.percentile(99.0), microseconds),
            )
            for series in ordered
        ),
    )
