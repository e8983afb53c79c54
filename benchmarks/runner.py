"""Rounds: every subject of a workload is measured once in each, in an order that moves on by one.

So neither a slow minute of the machine nor a warm cache belongs to one of them, and what is compared was
measured within the same seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.processes import Server
from benchmarks.results import Round
from benchmarks.subject import Subject
from benchmarks.workload import Workload

__all__ = ["IDLE_SHARE", "Plan", "Step", "run", "steps"]

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


def steps(plan: Plan) -> Iterator[Step]:
    """All measurements in their order."""
    for number in range(plan.rounds):
        for workload, subjects in plan.subjects:
            turn = number % len(subjects)
            for subject in (*subjects[turn:], *subjects[:turn]):
                yield Step(number, workload, subject)


def _servers(plan: Plan) -> dict[str, Server]:
    """All of a plan, by their sockets."""
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
    rounds: list[Round] = []
    disturbed: dict[str, float] = {}
    servers = _servers(plan)
    for step in steps(plan):
        coming(step)
        measured_too = {str(server.listen) for server in step.subject.servers.values()}
        idle = {name: server for name, server in servers.items() if name not in measured_too}
        before = {name: server.snapshot().cpu_ns for name, server in idle.items()}
        begin = time.perf_counter_ns()
        one = step.subject.measure(step.workload, step.number)
        took = time.perf_counter_ns() - begin
        for name, server in idle.items():
            share = (server.snapshot().cpu_ns - before[name]) / took
            if share > IDLE_SHARE:
                disturbed[name] = max(share, disturbed.get(name, 0.0))
        if not one.ios:
            raise RuntimeError(f"{one.configuration}: {step.workload.name} had no answer in its time")
        rounds.append(one)
        measured(step, one)
    return rounds, disturbed
