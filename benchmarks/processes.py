"""The server under measurement as a process, and what any process has used so far."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["Server", "Usage", "usage"]

START_S = 20  # for a server to listen: an import of everything on a cold cache takes a few
STOP_S = 15  # vds itself takes at most 10 to drain


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process has used: CPU time of all its threads in ns, and context switches."""

    cpu_ns: int
    voluntary: int
    involuntary: int

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(
            cpu_ns=self.cpu_ns - earlier.cpu_ns,
            voluntary=self.voluntary - earlier.voluntary,
            involuntary=self.involuntary - earlier.involuntary,
        )

    @property
    def switches(self) -> int:
        """Of either kind."""
        return self.voluntary + self.involuntary

    def to_json(self) -> dict[str, int]:
        """Plain values; ``Usage(**values)`` gives it back."""
        return {"cpu_ns": self.cpu_ns, "voluntary": self.voluntary, "involuntary": self.involuntary}


def usage(pid: int) -> Usage:
    """What ``pid`` has used: CPU time of all threads it ever had, context switches of those alive.

    A pool's threads must therefore outlive the measurement. Raises: OSError (no such process).
    """
    voluntary = involuntary = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text()
        except OSError:  # the thread ended just now
            continue
        for line in status.splitlines():
            key, _, value = line.partition(":")
            if key == "voluntary_ctxt_switches":
                voluntary += int(value)
            elif key == "nonvoluntary_ctxt_switches":
                involuntary += int(value)
    return Usage(cpu_ns=time.clock_gettime_ns(_cpu_clock(pid)), voluntary=voluntary, involuntary=involuntary)


def _cpu_clock(pid: int) -> int:
    """The clock of another process' CPU time: ns, where ``/proc`` has ticks of 10 ms."""
    return (~pid << 3) | 2  # CPUCLOCK_SCHED of the whole process; Linux include/linux/posix-timers_types.h


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
        return cls([*command, "--loop", loop, "--exit-with-parent", *volumes], listen)

    @classmethod
    def vdc(cls, listen: Path, uri: str, *, poll_us: int, loop: str) -> Server:
        """Our NBD front end of the disk at ``uri``."""
        command = [sys.executable, "-m", "vdc", "serve", uri, "--nbd", str(listen), "--poll-us", str(poll_us)]
        return cls([*command, "--loop", loop, "--exit-with-parent"], listen, kind=socket.SOCK_STREAM)

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise ValueError("the server has not been started")
        return self._process.pid

    def usage(self) -> Usage:
        """What the running process has used so far."""
        return usage(self.pid)

    def __enter__(self) -> Server:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=Path(__file__).parents[1]
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
        said = self.log.read_text(errors="replace").strip() or "nothing"
        raise RuntimeError(f"{' '.join(self.command)} does not listen; it said: {said}")

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
