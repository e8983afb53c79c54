"""The server under measurement as a process, and what any process has used so far."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["Server", "Snapshot", "Usage", "with_parent"]

START_S = 20  # for a server to listen: an import of everything on a cold cache takes a few
STOP_S = 15  # vds itself takes at most 10 to drain


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process used between two moments: CPU time of all its threads in ns, and context switches."""

    cpu_ns: int
    voluntary: int
    involuntary: int

    @property
    def switches(self) -> int:
        """Of either kind."""
        return self.voluntary + self.involuntary

    def to_json(self) -> dict[str, int]:
        """Plain values; ``Usage(**values)`` gives it back."""
        return {"cpu_ns": self.cpu_ns, "voluntary": self.voluntary, "involuntary": self.involuntary}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a process has used so far; ``switches`` of each thread that is alive: voluntary, involuntary."""

    cpu_ns: int
    switches: Mapping[int, tuple[int, int]]

    @classmethod
    def of(cls, pid: int) -> Snapshot:
        """Of the process ``pid``, its threads and the kernel's threads that work for it.

        Raises: OSError (no such process).
        """
        switches = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                switches[int(task.name)] = _switches((task / "status").read_text())
            except OSError:  # it ended just now
                continue
        return cls(cpu_ns=time.clock_gettime_ns(_cpu_clock(pid)), switches=switches)

    def since(self, earlier: Snapshot) -> Usage:
        """What was used between the two.

        CPU time is of all threads, those that ended in between included; Linux keeps no sum of context
        switches that another process could read, so those of threads that ended are not in it.
        """
        voluntary = involuntary = 0
        for thread, (now_voluntary, now_involuntary) in self.switches.items():
            was_voluntary, was_involuntary = earlier.switches.get(thread, (0, 0))
            voluntary += now_voluntary - was_voluntary
            involuntary += now_involuntary - was_involuntary
        return Usage(cpu_ns=self.cpu_ns - earlier.cpu_ns, voluntary=voluntary, involuntary=involuntary)


def _switches(status: str) -> tuple[int, int]:
    """Voluntary and involuntary context switches out of a thread's ``status``. Source: Linux proc(5)."""
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(values["voluntary_ctxt_switches"]), int(values["nonvoluntary_ctxt_switches"])


def _cpu_clock(pid: int) -> int:
    """The clock of another process' CPU time: ns, where ``/proc`` has ticks of 10 ms."""
    return (~pid << 3) | 2  # CPUCLOCK_SCHED of the whole process; Linux include/linux/posix-timers_types.h


def with_parent(command: Sequence[str]) -> list[str]:
    """``command``, killed by the kernel when this process ends in whatever way, where setpriv can arrange it.

    The process keeps its id: setpriv becomes the command.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else list(command)


class Server:
    """A server process that listens on ``listen``; leaving the ``with`` block ends it."""

    def __init__(self, command: Sequence[str], listen: Path, *, kind: int = socket.SOCK_SEQPACKET) -> None:
        self.command = list(command)
        self.listen = listen
        self.kind = kind
        self.log = listen.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def vds(cls, listen: Path, volumes: Sequence[str], *, poll_us: int, loop: str) -> Server:
        """Our own server; each of ``volumes`` is ``NAME=BACKEND[,OPTION…]``."""
        command = [sys.executable, "-m", "vds", "serve", "--listen", str(listen), "--poll-us", str(poll_us)]
        return cls([*command, "--loop", loop, *volumes], listen)

    @classmethod
    def vdc(cls, listen: Path, uri: str, *, poll_us: int, loop: str) -> Server:
        """Our NBD front end of the disk at ``uri``."""
        command = [sys.executable, "-m", "vdc", "serve", uri, "--nbd", str(listen), "--poll-us", str(poll_us)]
        return cls([*command, "--loop", loop], listen, kind=socket.SOCK_STREAM)

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise ValueError("the server has not been started")
        return self._process.pid

    def snapshot(self) -> Snapshot:
        """What the running process has used so far. Raises: RuntimeError (it has ended, with its words)."""
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{' '.join(self.command)} has ended; it said: {self._said()}")
        return Snapshot.of(self.pid)

    def _said(self) -> str:
        return self.log.read_text(errors="replace").strip() or "nothing"

    def __enter__(self) -> Server:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                with_parent(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[1],
            )
        try:
            self._wait_until_it_listens(self._process)
        except BaseException:
            self._end(self._process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._end(self._process)

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX, self.kind) as probe:
                try:
                    probe.connect(os.fspath(self.listen))
                    return
                except OSError:
                    time.sleep(0.02)
        raise RuntimeError(f"{' '.join(self.command)} does not listen; it said: {self._said()}")

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
