"""Two runs side by side: what changed beyond the noise of both.

Two runs never share a minute of the machine, so a change must pass two tests of different kind:

* *Rank*: the rounds of the two runs hardly overlap. The two-sided test of Mann and Whitney must give at most
  :data:`LEVEL`; with five rounds each it does only if all rounds of one lie beyond all rounds of the other.
* *Size*: the median of all ratios is at least :attr:`Measure.least`, because a machine's mood moves whole
  runs, which no number of rounds within them shows. Where peers or the bare file were measured in both runs,
  what they went through is the machine's: the ratio must be as far from their median ratio too.

Only what is ours can be lost. The rate decides in a closed loop, the 99th percentile in an open one, where
the rate was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from benchmarks.pages.load import Load
from benchmarks.pages.resultfile import Result
from benchmarks.pages.roles import Role, role_of
from benchmarks.pages.statistics import (
    Sample,
    Series,
    least_chance,
    ratio_between_runs,
    series_of,
    unlikely_equal,
)

__all__ = ["CPU", "LEVEL", "P99", "RATE", "Change", "Difference", "Measure", "Row", "Verdict"]
__all__ += ["compare", "differences", "is_lost"]

LEAST_CHANGE = 1.15
"""Up to here medians of two runs of the same code differ on a machine that is not one's own alone."""

LEAST_TAIL_CHANGE = 1.5
"""The same for the 99th percentile: the slowest answers are those that met something else on the machine."""

LEVEL = 0.01
"""How often the rank test may see a change where there is none. Not less, so that five rounds are enough."""

#: Options that choose what is measured and how often, which every round says itself, or where (its file
#: system is a fact of the machine), but not how.
FREE_OPTIONS = frozenset({"configurations", "workloads", "disks", "rate", "rounds", "without", "directory"})
#: Facts of a machine that may be what is being compared, or do not matter; versions are shown instead.
FREE_FACTS = frozenset({"packages", "python", "directory", "load"})


class Verdict(Enum):
    """What became of a figure."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"  # nothing beyond the noise
    UNKNOWN = "too few rounds"  # no result could have passed the rank test


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a series, whether ``more`` of it is better, and the ``least`` change that counts."""

    name: str
    of: Callable[[Series], Sample | None]
    more: bool
    least: float = LEAST_CHANGE


RATE = Measure("IOPS", lambda series: series.iops, True)
P99 = Measure("p99 latency", lambda series: series.percentile(99.0), False, LEAST_TAIL_CHANGE)
CPU = Measure("CPU for each I/O", lambda series: series.cpu(), False)
MEASURES = (RATE, P99, CPU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one figure differs: ``ratio`` of every round after to every round before."""

    before: Sample
    after: Sample
    ratio: Sample
    chance: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One configuration under one load, in both runs; a figure that one of them lacks is left out."""

    configuration: str
    load: Load
    changes: Mapping[str, Change]

    @property
    def decisive(self) -> Measure:
        """The measure that decides."""
        return RATE if self.load.rate is None else P99

    @property
    def verdict(self) -> Verdict:
        """What the decisive figure did."""
        return self.changes[self.decisive.name].verdict


@dataclass(frozen=True, slots=True)
class Difference:
    """A reason not to compare: its name for ``--despite``, and what both runs say."""

    name: str
    before: str
    after: str


def differences(before: Result, after: Result) -> list[Difference]:
    """Why the two runs are not comparable; empty if they are."""
    found = [
        *_unequal("", _facts(before), _facts(after)),
        *_unequal("machine.", before.machine, after.machine, FREE_FACTS),
        *_unequal("options.", before.options, after.options, FREE_OPTIONS),
    ]
    old, new = _by_key(before), _by_key(after)
    for key in [*old, *(key for key in new if key not in old)]:
        name = f"{key[0]}, {key[1].title}"
        if key not in new:
            found.append(Difference("missing", name, "not measured"))
        elif key not in old:
            found.append(Difference("missing", "not measured", name))
    rounds = [(len(old[key].rounds), len(new[key].rounds)) for key in old if key in new]
    if not rounds:
        found.append(Difference("nothing", "no configuration and load", "that both have"))
    few = [pair for pair in rounds if least_chance(*pair) > LEVEL]
    if few:
        words = "rounds, of which no result could pass the rank test: measure at least 5"
        found.append(Difference("rounds", f"{few[0][0]} {words}", str(few[0][1])))
    return found


def _facts(result: Result) -> dict[str, object]:
    return {"command": result.command, "seed": result.seed}


def _unequal(
    prefix: str,
    before: Mapping[str, object],
    after: Mapping[str, object],
    free: Iterable[str] = (),
) -> Iterator[Difference]:
    """What two mappings say differently."""
    for key in sorted((before.keys() | after.keys()) - set(free)):
        if before.get(key) != after.get(key):
            yield Difference(prefix + key, str(before.get(key)), str(after.get(key)))


def _by_key(result: Result) -> dict[tuple[str, Load], Series]:
    return {(series.configuration, series.load): series for series in series_of(result.rounds)}


def compare(before: Result, after: Result) -> list[Row]:
    """A row for each configuration and load that both runs have, in the order of the first."""
    old, new = _by_key(before), _by_key(after)
    pairs = [(series, new[key]) for key, series in old.items() if key in new]
    controls = _controls(pairs, before, after)
    return [
        Row(
            configuration=early.configuration,
            load=early.load,
            changes={
                measure.name: change
                for measure in MEASURES
                if (change := _change(measure, early, late, controls)) is not None
            },
        )
        for early, late in pairs
    ]


Pairs = Sequence[tuple[Series, Series]]


def _controls(pairs: Pairs, before: Result, after: Result) -> Pairs:
    """What is not ours and did not change: peers and floors whose program has the same version in both."""
    changed = {name.split("-")[0] for name in _changed_versions(before, after)}
    return [
        pair
        for pair in pairs
        if role_of(pair[0].configuration) is not Role.OURS
        and not any(program in pair[0].configuration for program in changed)
    ]


def _changed_versions(before: Result, after: Result) -> list[str]:
    names = before.versions.keys() | after.versions.keys()
    return [name for name in names if before.versions.get(name) != after.versions.get(name)]


def _change(measure: Measure, before: Series, after: Series, controls: Pairs) -> Change | None:
    """How a figure differs; ``None`` if it was not measured, or was nothing, in a round of either."""
    early, late = measure.of(before), measure.of(after)
    if early is None or late is None or not (early.low and late.low):
        return None
    ratio = ratio_between_runs(early, late)
    chance = unlikely_equal(early, late)
    verdict = Verdict.SAME
    if least_chance(len(early.values), len(late.values)) > LEVEL:
        verdict = Verdict.UNKNOWN
    elif chance <= LEVEL and _is_large(ratio.median, _mood(measure, before, controls), measure.least):
        verdict = Verdict.BETTER if (ratio.median > 1) is measure.more else Verdict.WORSE
    return Change(before=early, after=late, ratio=ratio, chance=chance, verdict=verdict)


def _mood(measure: Measure, ours: Series, controls: Pairs) -> float:
    """What the machine did to those that did not change, under the same load: their median ratio, or 1."""
    if role_of(ours.configuration) is not Role.OURS:
        return 1.0
    ratios = []
    for before, after in controls:
        early, late = measure.of(before), measure.of(after)
        if before.load == ours.load and early and late and early.low and late.low:
            ratios.append(ratio_between_runs(early, late).median)
    return median(ratios) if ratios else 1.0


def _is_large(ratio: float, mood: float, least: float) -> bool:
    """Whether a ratio is far enough from 1 and, in the same direction, from that of the machine."""
    change, beyond = math.log(ratio), math.log(ratio / mood)
    return min(abs(change), abs(beyond)) >= math.log(least) and (change > 0) is (beyond > 0)


def is_lost(row: Row) -> bool:
    """Whether a row of ours became worse."""
    return role_of(row.configuration) is Role.OURS and row.verdict is Verdict.WORSE
