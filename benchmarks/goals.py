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
FRONT = "vdc serve --nbd, fio"
ASYNC, BLOCKING = "shm async polling", "shm blocking polling"
SHARED = ", shared buffers"
EITHER = "shm polling, the better API"
EITHER_SHARED = EITHER + SHARED
EITHER_SOCKET = "socket polling, the better API"

BETTER_OF: Mapping[str, Sequence[str]] = {
    EITHER: (ASYNC, BLOCKING),
    EITHER_SHARED: (ASYNC + SHARED, BLOCKING + SHARED),
    EITHER_SOCKET: ("socket async polling", "socket blocking polling"),
}
"""A peer has the better of two clients in each round, so have we, where the goal is not about one of them."""

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
        ("randread-4k-1", BLOCKING, BEST_PEER, 10.0),
        ("randread-4k-1", "shm async sleeping", BEST_PEER, 1.0),
        ("randread-4k-1", "shm blocking sleeping", BEST_PEER, 1.0),
        ("randread-4k-8", EITHER, BEST_PEER, 2.0),
        ("randread-4k-32", EITHER, BEST_PEER, 2.5),
        ("randwrite-4k-32", EITHER, BEST_PEER, 2.5),
        ("randread-64k-16", EITHER, BEST_PEER, 2.0),
        ("seqread-1m-4", EITHER_SHARED, BEST_PEER, 2.5),
        ("seqwrite-1m-4", EITHER_SHARED, BEST_PEER, 2.5),
        ("seqread-1m-4", EITHER_SHARED, PSYNC, 1.0),
        ("seqwrite-1m-4", EITHER_SHARED, PSYNC, 1.0),
        ("randread-4k-32", EITHER, PSYNC, 0.7),
        ("randread-4k-32", FRONT, "nbdkit file, fio", 0.6),
        ("randread-4k-32", FRONT, "qemu-nbd, fio", 1.0),
        ("randread-4k-32", EITHER_SOCKET, BEST_PEER, 1.0),
    )
)

OURS: Mapping[str, Sequence[str]] = {
    name: tuple(
        dict.fromkeys(
            one
            for goal in GOALS
            if goal.workload == name
            for one in BETTER_OF.get(goal.configuration, (goal.configuration,))
        )
    )
    for name in dict.fromkeys(goal.workload for goal in GOALS)
}
"""Workload → which configurations of ours its goals are about."""

_PEERS = tuple(f"{peer.name}, {client}" for peer in PEERS if peer.counts for client in ("fio", "libnbd"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A goal and what came of it: for each round the ratio, who the best peer was, and which of ours."""

    goal: Goal
    ratios: tuple[float, ...]
    best: tuple[str, ...]
    ours: tuple[str, ...]

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
        return _usual(self.best) if self.goal.against == BEST_PEER else ""

    @property
    def usual_ours(self) -> str:
        """Which of ours was the better most often; nothing where the goal is about one."""
        return _usual(self.ours) if self.goal.configuration in BETTER_OF else ""

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
            "ours": list(self.ours),
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
    ratios, best, ours = [], [], []
    for rates in rounds:
        against = _PEERS if goal.against == BEST_PEER else (goal.against,)
        there = _fastest(rates, against)
        here = _fastest(rates, BETTER_OF.get(goal.configuration, (goal.configuration,)))
        if there and here:
            ratios.append(rates[here] / rates[there])
            best.append(there)
            ours.append(here)
    return Standing(goal=goal, ratios=tuple(ratios), best=tuple(best), ours=tuple(ours))


def _fastest(rates: Mapping[str, float], names: Iterable[str]) -> str:
    """Which of ``names`` had the highest rate; nothing if none was measured."""
    return max((name for name in names if name in rates), key=lambda name: rates[name], default="")


def _usual(names: Sequence[str]) -> str:
    return max(dict.fromkeys(names), key=names.count, default="")
