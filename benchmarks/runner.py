"""Rounds: every subject of a workload is measured once in each, in an order that moves on by one.

So neither a slow minute of the machine nor a warm cache belongs to one of them, and what is compared was
measured within the same seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.processes import Server
from benchmarks.results import Round
from benchmarks.subject import Subject
from benchmarks.workload import Workload

__all__ = ["IDLE_SHARE", "Plan", "Step", "bystanders", "run", "steps"]

IDLE_SHARE = 0.02
"""Of one processor: what a server that is not measured may use, or the run is called disturbed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which subjects are measured under which workload, and how often."""

    subjects: Sequence[tuple[Workload, Sequence[Subject]]]
    rounds: int


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement to come."""

    number: int  # of the round
    workload: Workload
    subject: Subject


@dataclass(slots=True)
class Outcome:
    """What a run gave. ``disturbed`` names servers that were busy while others were measured."""

    rounds: list[Round] = field(default_factory=list)
    disturbed: dict[str, float] = field(default_factory=dict)


def steps(plan: Plan) -> Iterator[Step]:
    """All measurements in their order."""
    for number in range(plan.rounds):
        for workload, subjects in plan.subjects:
            turn = number % len(subjects)
            for subject in (*subjects[turn:], *subjects[:turn]):
                yield Step(number, workload, subject)


def bystanders(plan: Plan) -> dict[str, Server]:
    """All servers of a plan."""
    return {
        str(server.listen): server
        for _, subjects in plan.subjects
        for subject in subjects
        for server in subject.servers.values()
    }


def run(
    plan: Plan, coming: Callable[[Step], None], measured: Callable[[Step, Round], None]
) -> tuple[list[Round], Mapping[str, float]]:
    """Measure all of ``plan``: the rounds, and the servers that were not idle when they should have been,
    with the greatest share of a processor that each used.

    Raises: RuntimeError (a client failed; its own words are in the text).
    """
    outcome = Outcome()
    servers = bystanders(plan)
    for step in steps(plan):
        coming(step)
        busy = {server.listen for server in step.subject.servers.values()}
        idle = {name: server for name, server in servers.items() if server.listen not in busy}
        before = {name: server.usage().cpu_ns for name, server in idle.items()}
        begin = time.perf_counter_ns()
        one = step.subject.measure(step.workload, step.number)
        took = time.perf_counter_ns() - begin
        for name, server in idle.items():
            share = (server.usage().cpu_ns - before[name]) / took
            if share > IDLE_SHARE:
                outcome.disturbed[name] = max(share, outcome.disturbed.get(name, 0.0))
        if not one.ios:
            raise RuntimeError(f"{one.configuration}: {step.workload.name} had no answer in its time")
        outcome.rounds.append(one)
        measured(step, one)
    return outcome.rounds, outcome.disturbed
