"""The server as a process: event loop, signals, log, the parent it may depend on, the command it may serve.

Exit codes: 0 stopped in order, 1 failed or cut short, 2 usage or configuration (see :mod:`vds.cli`); ``run``
exits with its command's.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeVar
from urllib.parse import quote

from hypervisor.allocator import keep_freed_memory
from vds.config import Config
from vds.server import Server

__all__ = ["end_with_parent", "run", "serve", "set_up_log"]

PR_SET_PDEATHSIG: Final = 1
"""Source: Linux prctl(2)."""
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ``run`` passes on to its command."""
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes of shells and of env(1) for a command that cannot be started."""

log = logging.getLogger("vds")

_T = TypeVar("_T")


class _Formatter(logging.Formatter):
    """``vds: message``, with the level in between when it is not just information."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return one line."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"vds: {level}{record.message}"


def set_up_log(level: str) -> None:
    """Log to stderr from ``level`` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


def serve(config: Config) -> int:
    """Serve until a signal says to stop, and return the exit code. Raises: OSError, ConfigError (at the
    start).
    """
    if config.exit_with_parent:
        end_with_parent()
    server = Server(config)
    return _exit_code(_run_loop(config.loop, _serve(server)))


def run(config: Config, command: Sequence[str]) -> int:
    """Serve on a private socket while ``command`` runs, and return its exit code.

    The command finds the first volume's URI in ``VDISK_URI`` and the socket in ``VDISK_SOCKET``. Signals that
    would end us are passed on to it. Raises: OSError, ConfigError (at the start).
    """
    if config.exit_with_parent:
        end_with_parent()
    with tempfile.TemporaryDirectory(prefix="vds-") as directory:
        socket = os.path.join(directory, "vds.sock")
        server = Server(replace(config, listen=socket))
        uri = f"vdisk+unix:///{quote(config.volumes[0].name)}?socket={quote(socket)}"
        environment = {**os.environ, "VDISK_URI": uri, "VDISK_SOCKET": socket}
        code, clean = _run_loop(config.loop, _serve_command(server, command, environment))
    return _exit_code(clean, code)


def _run_loop(loop: str, main: Coroutine[object, object, _T]) -> _T:
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop  # late: the other loop works without it

        factory = uvloop.new_event_loop
    keep_freed_memory()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def _exit_code(clean: bool, code: int = 0) -> int:
    """Return the exit code. After an unclean stop, end here: a thread may be in the backend for ever."""
    if clean:
        return code
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code or 1)


async def _serve(server: Server) -> bool:
    """Serve until a signal; another one while stopping ends the process at once."""
    stop = asyncio.Event()

    def signalled(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("%s again: ending at once", number.name)
            server.abandon()
            _exit_code(clean=False)
        log.info("%s: stopping", number.name)
        stop.set()

    _on_signals(STOP_SIGNALS, signalled)
    server.start()
    await stop.wait()
    return await server.stop()


def _on_signals(numbers: Iterable[signal.Signals], handler: Callable[[signal.Signals], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, handler, number)


async def _serve_command(
    server: Server, command: Sequence[str], environment: dict[str, str]
) -> tuple[int, bool]:
    early: list[signal.Signals] = []
    _on_signals(FORWARDED, early.append)
    server.start()
    try:
        process = _start(command, environment)
    except OSError as error:
        log.error("%s: %s", command[0], error.strerror)
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    else:
        _on_signals(FORWARDED, lambda number: _forward(process, number))
        for number in early:
            process.send_signal(number)
        await _ended(process.pid)
        code = process.wait()
        code = code if code >= 0 else 128 - code  # as shells report a signal
    return code, await server.stop()


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment)


def _forward(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Pass a signal on, unless the terminal has sent it to the whole process group already."""
    if number is not signal.SIGINT or not _in_foreground():
        process.send_signal(number)


def _in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


async def _ended(pid: int) -> None:
    """Wait for a child's end; its status is left to be collected. Source: Linux pidfd_open(2)."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(pid)
    try:
        loop.add_reader(pidfd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def end_with_parent() -> None:
    """Have the kernel send TERM when the parent ends; it may have ended before that was arranged."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), f"--exit-with-parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
