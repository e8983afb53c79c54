"""fio as a client: on the bare file, or with its nbd engine on any NBD server, ours included.

There is no ramp: fio's figures count from its first request, and all its requests are then in the server's
CPU time too. That time, and fio's own, is read while both processes are still there, at moments that fio
itself names (``exec_prerun``, ``exec_postrun``): a server's threads for a connection end with it. Latencies
are fio's ``lat``, from the moment it begins to submit a request: what a caller waits.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.processes import Server, Snapshot, Usage, with_parent
from benchmarks.results import Round
from benchmarks.subject import STARTUP_S, Settings
from benchmarks.workload import Workload

__all__ = ["Fio", "Hooks", "fio_round", "nbd_target"]


def nbd_target(server: Server) -> tuple[str, ...]:
    """What fio is told to reach an NBD server."""
    return ("--ioengine=nbd", f"--uri=nbd+unix:///?socket={server.listen}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fio:
    """What fio is told, and the servers behind it if there are any."""

    name: str
    settings: Settings
    target: tuple[str, ...]
    servers: Mapping[str, Server] = field(default_factory=dict)

    def command(self, workload: Workload) -> list[str]:
        """The whole command line but for the moments at which it calls us."""
        mixed = [f"--rwmixread={workload.reads}"] if workload.mixed else []
        return [
            *("fio", "--name=bench", "--output-format=json+", "--lat_percentiles=1", "--thread"),
            *(
                "--norandommap",
                "--scramble_buffers=0",
                "--time_based",
                f"--randseed={self.settings.seed}",
                *mixed,
            ),
            *(f"--rw={workload.fio_rw}", f"--bs={workload.block_size}", f"--iodepth={workload.depth}"),
            *(f"--size={self.settings.size}", f"--runtime={round(self.settings.seconds * 1000)}ms"),
            *self.target,
        ]

    def measure(self, workload: Workload, number: int) -> Round:
        """Run fio once. Raises: RuntimeError (it failed, in its own words)."""
        with Hooks(self.settings.place) as hooks:
            command = [*self.command(workload), *hooks.options]
            process = subprocess.Popen(
                with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=self.settings.place,
            )
            try:
                pids = {"client": process.pid, **{side: one.pid for side, one in self.servers.items()}}
                used = hooks.watch(process, pids, STARTUP_S + self.settings.seconds)
                printed, errors = process.communicate(timeout=STARTUP_S)
            except subprocess.TimeoutExpired as error:
                raise RuntimeError(f"{self.name}: fio does not end") from error
            finally:
                process.kill()
                process.wait()
        if process.returncode or used is None:
            raise RuntimeError(f"{self.name}: {errors.strip() or printed.strip() or 'fio ended too soon'}")
        return fio_round(self.name, json.loads(printed[printed.index("{") :]), workload, number, used)


def fio_round(
    name: str, report: dict[str, Any], workload: Workload, number: int, used: Mapping[str, Usage]
) -> Round:
    """A round from fio's report of one job. Raises: RuntimeError (the job failed)."""
    (job,) = report["jobs"]
    if job["error"]:
        raise RuntimeError(f"{name}: fio ended with error {job['error']}")
    return Round(
        configuration=name,
        workload=workload,
        number=number,
        took_ns=max(int(job[way]["runtime"]) for way in ("read", "write")) * 1_000_000,
        reads=Histogram.from_fio(job["read"]["lat_ns"]),
        writes=Histogram.from_fio(job["write"]["lat_ns"]),
        usage=used,
        user=float(job["usr_cpu"]),
        system=float(job["sys_cpu"]),
    )


class Hooks:
    """Two moments at which fio asks and waits: a line through one pipe, the answer through another."""

    def __init__(self, place: Path) -> None:
        self._asked, self._answered = place / "fio.asked", place / "fio.answered"
        self._fds: list[int] = []
        ask = f"echo > {quote(str(self._asked))}; read -r go < {quote(str(self._answered))}"
        hook = f"timeout {STARTUP_S} sh -c {quote(ask)}"  # whoever should answer may be gone
        self.options = (f"--exec_prerun={hook}", f"--exec_postrun={hook}")

    def __enter__(self) -> Hooks:
        for path in (self._asked, self._answered):
            os.mkfifo(path)
            self._fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))  # never waits for another end
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)
        for path in (self._asked, self._answered):
            path.unlink()

    def watch(
        self, process: subprocess.Popen[str], pids: Mapping[str, int], limit_s: float
    ) -> dict[str, Usage] | None:
        """What ``pids`` used between the two moments; None if fio ended before."""
        deadline = time.monotonic() + limit_s
        seen: list[dict[str, Snapshot]] = []
        while len(seen) < 2:
            ready, _, _ = select.select([self._fds[0]], [], [], 0.1)
            if ready:
                os.read(self._fds[0], 1)
                seen.append({side: Snapshot.of(pid) for side, pid in pids.items()})
                os.write(self._fds[1], b"\n")
            elif process.poll() is not None:
                return None
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("fio", limit_s)
        return {side: seen[1][side].since(seen[0][side]) for side in pids}
