"""What can be measured: a client, and the servers behind it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import Server, with_parent
from benchmarks.results import Round
from benchmarks.workload import Workload

__all__ = ["Settings", "Subject", "run_client"]

STARTUP_S = 60  # beyond the measured time: interpreter, imports, handshake, checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for every subject of a run."""

    place: Path  # a directory that goes when the run ends
    sockets: Path  # another, with a short path: one of a socket has at most 107 bytes
    size: int  # of each disk
    seconds: float
    warmup: float
    seed: int
    loop: str


class Subject(Protocol):
    """One configuration of the comparison."""

    @property
    def name(self) -> str:
        """As it stands in tables and in the result file."""

    @property
    def servers(self) -> Mapping[str, Server]:
        """Side (server, front) → the process on it; all other servers of a run must be idle meanwhile."""

    def measure(self, workload: Workload, number: int) -> Round:
        """Measure ``workload`` once, as round ``number``. Raises: RuntimeError (in the client's words)."""


def run_client(name: str, command: Sequence[str], text: str, limit_s: float, cwd: Path) -> str:
    """Run a client to its end and return what it printed.

    Raises: RuntimeError (it failed, or took longer than ``limit_s`` beyond its start).
    """
    try:
        done = subprocess.run(
            with_parent(command),
            cwd=cwd,
            input=text,
            capture_output=True,
            text=True,
            timeout=STARTUP_S + limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{name}: no answer within {error.timeout:.0f} s") from error
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
