"""The order of rounds, and what a run notices besides."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.processes import Server
from benchmarks.results import Round
from benchmarks.runner import Plan, Step, run, steps
from benchmarks.workload import Workload, parse_workload
from tests.unit.benchmarks.rounds import a_round

READ, WRITE = parse_workload("randread-4k-1"), parse_workload("randwrite-4k-1")
LISTEN = "import signal, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
LISTEN += "s.bind(sys.argv[1]); s.listen(); "


@dataclass
class Subject:
    """One that measures nothing."""

    name: str
    servers: Mapping[str, Server] = field(default_factory=dict)
    ios: int = 10
    took_s: float = 0.0

    def measure(self, workload: Workload, number: int) -> Round:
        """A round, at once or after ``took_s``."""
        time.sleep(self.took_s)
        return a_round(self.name, workload.name, number, ios=self.ios)


def nothing(step: Step, one: Round | None = None) -> None:
    """A run that nobody watches."""


def test_each_workload_is_measured_by_all_in_an_order_that_moves_on() -> None:
    a, b, c = Subject("a"), Subject("b"), Subject("c")
    plan = Plan(subjects=[(READ, [a, b, c]), (WRITE, [a, b])], rounds=3)
    order = [(step.number, step.workload, step.subject.name) for step in steps(plan)]
    assert order == [
        *((0, READ, name) for name in "abc"),
        *((0, WRITE, name) for name in "ab"),
        *((1, READ, name) for name in "bca"),
        *((1, WRITE, name) for name in "ba"),
        *((2, READ, name) for name in "cab"),
        *((2, WRITE, name) for name in "ab"),
    ]


def test_a_run_gives_every_round_and_tells_of_each() -> None:
    plan = Plan(subjects=[(READ, [Subject("a"), Subject("b")])], rounds=2)
    told: list[str] = []
    rounds, disturbed = run(
        plan,
        lambda step: told.append(f"{step.subject.name}?"),
        lambda step, one: told.append(one.configuration),
    )
    assert [(one.configuration, one.number) for one in rounds] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert told == ["a?", "a", "b?", "b", "b?", "b", "a?", "a"]
    assert not disturbed


def test_a_round_without_an_answer_is_an_error() -> None:
    plan = Plan(subjects=[(READ, [Subject("a", ios=0)])], rounds=1)
    with pytest.raises(RuntimeError, match="a: randread-4k-1 had no answer"):
        run(plan, nothing, nothing)


def test_a_server_that_is_busy_out_of_its_turn_is_named(tmp_path: Path) -> None:
    busy = Server([sys.executable, "-c", LISTEN + "\nwhile True: pass", str(tmp_path / "b")], tmp_path / "b")
    idle = Server([sys.executable, "-c", LISTEN + "signal.pause()", str(tmp_path / "i")], tmp_path / "i")
    with busy, idle:
        subjects = [Subject("ours", {"server": idle}, took_s=0.3), Subject("other", {"server": busy})]
        _, disturbed = run(Plan(subjects=[(READ, subjects)], rounds=1), nothing, nothing)
    assert list(disturbed) == [str(tmp_path / "b")]
    assert disturbed[str(tmp_path / "b")] > 0.02
