"""The daemons as real processes: started for a test, known to be ready by their own word, ended by their pid.

A daemon's stderr is read by a thread, so that a pipe never fills, and waited for line by line: nothing
sleeps. The time limits here are for a daemon that hangs; no test passes or fails by how fast one is.

>>> with VdsServer(tmp_path, {"disk0": "memory:64M"}) as vds:  # doctest: +SKIP
...     with VdcServer(vds.uri("disk0"), tmp_path) as vdc:
...         run("nbdinfo", vdc.nbd_uri)
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

__all__ = ["CAPTURES", "ROOT", "Daemon", "DaemonFailed", "VdcServer", "VdsServer", "run"]

ROOT = Path(__file__).resolve().parents[2]
CAPTURES = "TEST_CAPTURES"
"""Environment variable: the folder into which every server captures, if it is set."""
LIMIT_S = 30.0
"""A daemon that says or does nothing for so long hangs."""


class DaemonFailed(Exception):
    """A daemon ended, or kept silent, where it should not have; the text has all that it said."""


class Daemon:
    """A process that says in one line of stderr when it is ready; ``lines`` is all that it has said.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. After :meth:`kill` it can be started
    again.
    """

    READY = re.compile(r"\bready\b")

    def __init__(self, *argv: str, env: Mapping[str, str] | None = None) -> None:
        self.argv = argv
        self.lines: list[str] = []
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._news = threading.Condition()
        self._ended = False

    def start(self) -> Self:
        """Start it and wait until it is ready. Raises: DaemonFailed."""
        self.launch()
        try:
            self.wait_for(self.READY)
        except DaemonFailed:
            self.kill()
            raise
        return self

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self.lines = []
        self._ended = False
        self._process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self._env, cwd="/"
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """It was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait_for(self, pattern: str | re.Pattern[str], *, count: int = 1) -> list[re.Match[str]]:
        """Wait until ``count`` lines contain ``pattern``. Raises: DaemonFailed (it ended first, or hangs)."""
        found: list[re.Match[str]] = []

        def is_enough() -> bool:
            found[:] = [match for line in self.lines if (match := re.search(pattern, line))]
            return len(found) >= count or self._ended

        with self._news:
            self._news.wait_for(is_enough, LIMIT_S)
        if len(found) < count:
            raise DaemonFailed(f"{' '.join(self.argv)} did not say {pattern!r}:\n" + "\n".join(self.lines))
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._running().send_signal(number)

    def wait(self) -> int:
        """Wait for its end; returns its exit code, or minus the number of the signal that ended it."""
        code = self._running().wait(LIMIT_S)
        if self._reader is not None:
            self._reader.join(LIMIT_S)
        return code

    def stop(self) -> int:
        """Ask it to end (TERM) and wait; returns its exit code. Harmless when it has ended, or never ran."""
        if self._process is None:
            return 0
        if self.is_running:
            self.signal(signal.SIGTERM)
        return self._wait_or_kill()

    def kill(self) -> None:
        """End it at once (KILL)."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def _wait_or_kill(self) -> int:
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise DaemonFailed(f"{' '.join(self.argv)} did not end:\n" + "\n".join(self.lines)) from None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise DaemonFailed(f"{' '.join(self.argv)} was not started")
        return self._process

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class VdsServer(Daemon):
    """``vds serve`` of ``volumes`` (name: backend with options) on a socket in ``folder``."""

    def __init__(
        self, folder: Path, volumes: Mapping[str, str | Path], *options: str, socket: str = "vds.sock"
    ) -> None:
        self.socket = folder / socket
        specs = [f"{name}={backend}" for name, backend in volumes.items()]
        if CAPTURES in os.environ:
            options += ("--capture", f"{os.environ[CAPTURES]}/{folder.name}-{socket}.pcapng")
        super().__init__(sys.executable, "-m", "vds", "serve", "--listen", str(self.socket), *options, *specs)

    def uri(self, name: str, **parameters: str | int) -> str:
        """The URI of a volume; ``parameters`` with ``_`` for ``-``: ``transport="socket"``, ``poll_us=0``."""
        more = "".join(f"&{key.replace('_', '-')}={value}" for key, value in parameters.items())
        return f"vdisk+unix:///{quote(name)}?socket={quote(str(self.socket))}{more}"


class VdcServer(Daemon):
    """``vdc serve`` of the disk at ``uri`` as NBD on a socket in ``folder``."""

    def __init__(self, uri: str, folder: Path, *options: str, socket: str = "nbd.sock") -> None:
        self.socket = folder / socket
        super().__init__(sys.executable, "-m", "vdc", "serve", uri, "--nbd", str(self.socket), *options)

    @property
    def nbd_uri(self) -> str:
        """What NBD clients connect to: the default export."""
        return f"nbd+unix:///?socket={quote(str(self.socket))}"


def run(*argv: str | Path, stdin: str | None = None, codes: Sequence[int] = (0,)) -> str:
    """Run a program to its end and return its stdout. Raises: AssertionError (exit code; all it said)."""
    done = subprocess.run(
        [str(word) for word in argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode not in codes:
        raise AssertionError(f"{argv}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout
