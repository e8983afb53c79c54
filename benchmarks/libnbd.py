"""Our libnbd client as a subject: ``nbd_client.c``, compiled once at the start of a run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO

from benchmarks.histogram import Histogram
from benchmarks.processes import Server, Snapshot, with_parent
from benchmarks.results import Round
from benchmarks.subject import STARTUP_S, Settings
from benchmarks.workload import Workload

__all__ = ["Libnbd", "compile_client"]

SOURCE = Path(__file__).with_name("nbd_client.c")


def compile_client(place: Path) -> Path:
    """The program, made anew in ``place``. Raises: RuntimeError (in the compiler's words)."""
    program = place / "nbd_client"
    try:
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "libnbd"], capture_output=True, text=True, check=True
        ).stdout.split()
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE), *flags],
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{SOURCE.name} cannot be compiled: {error.stderr.strip()}") from error
    return program


@dataclass(frozen=True, slots=True, kw_only=True)
class Libnbd:
    """``depth`` requests in flight on one connection to ``server``."""

    name: str
    settings: Settings
    program: Path
    server: Server

    @property
    def servers(self) -> Mapping[str, Server]:
        """The one behind it."""
        return {"server": self.server}

    def command(self, workload: Workload) -> list[str]:
        """The whole command line."""
        settings = self.settings
        return [
            *(str(self.program), f"nbd+unix:///?socket={self.server.listen}", workload.fio_rw),
            *(str(workload.block_size), str(workload.depth)),
            *(str(round(settings.warmup * 1000)), str(round(settings.seconds * 1000)), str(settings.seed)),
        ]

    def measure(self, workload: Workload, number: int) -> Round:
        """Run the client once. Raises: RuntimeError (it failed, in its own words)."""
        if workload.mixed:
            raise RuntimeError(f"{self.name}: {workload.name} is not for this client")
        process = subprocess.Popen(
            with_parent(self.command(workload)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        limit = Timer(STARTUP_S + self.settings.warmup + self.settings.seconds, process.kill)
        limit.start()
        try:
            return self._converse(process, workload, number)
        finally:
            limit.cancel()
            process.kill()
            process.communicate()

    def _converse(self, process: subprocess.Popen[str], workload: Workload, number: int) -> Round:
        assert process.stdin is not None
        assert process.stdout is not None
        pids = {"client": process.pid, "server": self.server.pid}
        self._expect_line(process, process.stdout)
        before = {side: Snapshot.of(pid) for side, pid in pids.items()}
        process.stdin.write("\n")
        process.stdin.flush()
        answer = json.loads(self._expect_line(process, process.stdout))
        used = {side: Snapshot.of(pid).since(before[side]) for side, pid in pids.items()}
        process.stdin.close()
        process.stdin = None  # communicate() would flush it
        process.wait(STARTUP_S)
        latency, nothing = Histogram.from_fio(answer), Histogram()
        took_ns = int(answer["took_ns"])
        return Round(
            configuration=self.name,
            workload=workload,
            number=number,
            took_ns=took_ns,
            reads=nothing if workload.write else latency,
            writes=latency if workload.write else nothing,
            usage=used,
            user=answer["user_s"] / took_ns * 1e11,
            system=answer["system_s"] / took_ns * 1e11,
        )

    def _expect_line(self, process: subprocess.Popen[str], stdout: IO[str]) -> str:
        line = stdout.readline()
        if not line:
            said = process.stderr.read().strip() if process.stderr else ""
            raise RuntimeError(f"{self.name}: {said or 'no answer from the client'}")
        return line
