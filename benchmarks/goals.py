"""The goals, and whether a run met them: ratios taken within a round, then their median and spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.peers import FLOORS, PEERS
from benchmarks.results import Round, spread
from benchmarks.workload import parse_workload

__all__ = ["BEST_PEER", "GOALS", "OURS", "Goal", "Standing", "Verdict", "evaluate"]

BEST_PEER = "best NBD peer"
PSYNC = FLOORS["psync"]
ASYNC = "shm async polling"
SHARED = "shm async polling, shared buffers"
FRONT = "vdc serve --nbd, fio"

Verdict = str  # met, missed, tie or not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Our ``configuration`` must reach ``goal`` times the rate of ``against`` under ``workload``."""

    workload: str
    configuration: str
    against: str
    goal: float


GOALS = tuple(
    Goal(workload=workload, configuration=configuration, against=against, goal=goal)
    for workload, configuration, against, goal in (
        ("randread-4k-1", ASYNC, BEST_PEER, 6.0),
        ("randread-4k-1", "shm blocking polling", BEST_PEER, 10.0),
        ("randread-4k-1", "shm async sleeping", BEST_PEER, 1.0),
        ("randread-4k-1", "shm blocking sleeping", BEST_PEER, 1.0),
        ("randread-4k-8", ASYNC, BEST_PEER, 2.0),
        ("randread-4k-32", ASYNC, BEST_PEER, 2.5),
        ("randwrite-4k-32", ASYNC, BEST_PEER, 2.5),
        ("randread-64k-16", ASYNC, BEST_PEER, 2.0),
        ("seqread-1m-4", SHARED, BEST_PEER, 2.5),
        ("seqwrite-1m-4", SHARED, BEST_PEER, 2.5),
        ("seqread-1m-4", SHARED, PSYNC, 1.0),
        ("seqwrite-1m-4", SHARED, PSYNC, 1.0),
        ("randread-4k-32", ASYNC, PSYNC, 0.7),
        ("randread-4k-32", FRONT, "nbdkit file, fio", 0.6),
        ("randread-4k-32", FRONT, "qemu-nbd, fio", 1.0),
        ("randread-4k-32", "socket async polling", BEST_PEER, 1.0),
    )
)

OURS: Mapping[str, Sequence[str]] = {
    name: tuple(dict.fromkeys(goal.configuration for goal in GOALS if goal.workload == name))
    for name in dict.fromkeys(goal.workload for goal in GOALS)
}
"""Workload → which configurations of ours its goals are about."""

_PEERS = tuple(f"{peer.name}, {client}" for peer in PEERS if peer.counts for client in ("fio", "libnbd"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A goal and what came of it. ``ratios`` has one for each round, ``best`` who the best peer was."""

    goal: Goal
    ratios: tuple[float, ...]
    best: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return median(self.ratios) if self.ratios else 0.0

    @property
    def spread(self) -> float:
        """Half the range of the ratios, as a part of their median."""
        return spread(self.ratios) if self.ratios else 0.0

    @property
    def usual_best(self) -> str:
        """Who was the best peer most often; nothing where the goal names one."""
        if self.goal.against != BEST_PEER or not self.best:
            return ""
        return max(dict.fromkeys(self.best), key=self.best.count)

    @property
    def verdict(self) -> Verdict:
        """Met or missed where the distance to the goal is more than the spread from round to round, else a
        tie; nothing is said of what was not measured."""
        if not self.ratios:
            return "not measured"
        if abs(self.ratio - self.goal.goal) <= self.spread * self.ratio:
            return "tie"
        return "met" if self.ratio > self.goal.goal else "missed"

    def to_json(self) -> dict[str, Any]:
        """For the result file."""
        return {
            "workload": self.goal.workload,
            "title": parse_workload(self.goal.workload).title,
            "configuration": self.goal.configuration,
            "against": self.goal.against,
            "goal": self.goal.goal,
            "ratios": list(self.ratios),
            "best": list(self.best),
            "ratio": self.ratio,
            "spread": self.spread,
            "verdict": self.verdict,
        }


def evaluate(rounds: Iterable[Round]) -> list[Standing]:
    """How ``rounds`` stand against each of the goals; a round counts where both sides were measured."""
    rates: dict[tuple[str, int], dict[str, float]] = {}
    for one in rounds:
        rates.setdefault((one.workload.name, one.number), {})[one.configuration] = one.iops
    return [
        _standing(goal, [rates[key] for key in sorted(rates) if key[0] == goal.workload]) for goal in GOALS
    ]


def _standing(goal: Goal, rounds: list[dict[str, float]]) -> Standing:
    ratios, best = [], []
    for rates in rounds:
        against = _PEERS if goal.against == BEST_PEER else (goal.against,)
        there = {name: rates[name] for name in against if name in rates}
        if there and goal.configuration in rates:
            name = max(there, key=lambda one: there[one])
            ratios.append(rates[goal.configuration] / there[name])
            best.append(name)
    return Standing(goal=goal, ratios=tuple(ratios), best=tuple(best))
