"""vds.cli and vds.process: the command as its user meets it, in processes of its own where it matters."""

from __future__ import annotations

import json
import logging
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hypervisor.rendezvous import connect
from tests.support.daemons import ROOT, Daemon
from vds import process as process_module
from vds.cli import main

LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def _log_restored() -> Iterator[None]:
    """The command sets up the log of its process; this process is the tests'."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


def _main(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def _run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vds", *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def _daemon(*argv: str) -> Daemon:
    return Daemon(sys.executable, "-m", "vds", *argv)


# -- usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["serve", "--bogus"], 2, "No such option"),
        (["serve", "--listen", "s"], 2, "no volume to serve"),
        (["serve", "d=null:1M"], 2, "no socket to listen on"),
        (["serve", "--listen", "s", "d=null:1M", "--", "true"], 2, "serve takes no command"),
        (["serve", "--listen", "s", "d"], 2, "NAME=BACKEND"),
        (["serve", "--listen", "s", "d=null:1M,quick"], 2, "no such option"),
        (["serve", "--listen", "s", "d=null:x"], 2, "a size is a number"),
        (["serve", "--listen", "s", "--poll-us", "-1", "d=null:1M"], 2, "poll-us=-1"),
        (["serve", "--listen", "s", "--config", "/none.toml"], 2, "No such file"),
        (["serve", "--listen", "s", "d=/none.img"], 1, "/none.img: No such file or directory"),
        (["serve", "--listen", "s" * 200, "d=null:1M"], 1, "at most 107 bytes"),
        (["run", "d=null:1M"], 2, "no command"),
        (["run", "d=null:1M", "--"], 2, "no command"),
        (["run", "--listen", "s", "d=null:1M", "--", "true"], 2, "No such option"),
    ],
)
def test_errors_take_one_line(
    argv: Sequence[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(*argv) == code
    error = capsys.readouterr().err
    assert error.startswith("vds: ")
    assert words in error
    assert error.count("\n") == 1


def test_help_is_what_no_command_gets(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert _main("--help") == 0
    assert capsys.readouterr().out == said.err
    assert "\n  serve  Serve volumes until told to stop.\n" in said.err


def test_too_many_channels_for_this_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    assert _main("serve", "--listen", "s", "d=null:1M") == 1
    assert capsys.readouterr().err.startswith("vds: 4096 channels need")


def test_configuration_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "vds.toml"
    file.write_text('threads = 2\npoll-us = 9\n[volume.a]\nbackend = "memory:1M"\nwce = true\n')
    argv = ["serve", "--config", str(file), "--listen", "s", "--poll-us", "0", "--allow-uid", "5", "b=x,ro"]
    assert _main(*argv, "--show-config") == 0
    assert json.loads(capsys.readouterr().out) == {
        "listen": "s",
        "allow-uid": [5],
        "max-channels": 4096,
        "poll-us": 0,
        "threads": 2,
        "stop-timeout": 10.0,
        "capture": None,
        "loop": "uvloop",
        "log-level": "info",
        "exit-with-parent": False,
        "volume": {
            "a": {"backend": "memory:1M", "options": ["wce"]},
            "b": {"backend": "x", "options": ["ro"]},
        },
    }
    assert _main("run", "a=null:1M", "--show-config") == 0


def test_help_and_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for argv in (["--help"], ["serve", "-h"], ["run", "-h"], ["--version"]):
        assert _main(*argv) == 0
    assert "blocksize=512|4096" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["vds", "--version"])
    with pytest.raises(SystemExit):
        runpy.run_module("vds", run_name="__main__")


def test_interrupt_before_the_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(config: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("vds.cli.serve", interrupted)
    assert _main("serve", "--listen", "s", "d=null:1M") == 1
    assert capsys.readouterr().err.endswith("vds: interrupted\n")


# -- serve -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_until_told_to_stop(tmp_path: Path, loop: str, number: signal.Signals) -> None:
    path = tmp_path / "vds.sock"
    daemon = _daemon("serve", "--listen", str(path), "--loop", loop, "disk0=memory:1M").start()
    assert path.is_socket()
    daemon.signal(number)
    assert daemon.wait() == 0
    assert not path.exists()
    assert daemon.lines[0] == f"vds: ready: 1 volume on {path}: disk0 (1.0 MiB, memory, rw)"
    assert daemon.lines[-1] == "vds: stopped"


def test_live_server_is_not_replaced_and_a_dead_one_is(tmp_path: Path) -> None:
    path = tmp_path / "vds.sock"
    daemon = _daemon("serve", "--listen", str(path), "disk0=memory:1M").start()
    second = _run("serve", "--listen", str(path), "disk0=memory:1M")
    assert second.returncode == 1
    assert second.stderr == f"vds: {path}: a server listens on this socket already\n"
    daemon.kill()
    assert path.is_socket()
    third = _daemon("serve", "--listen", str(path), "disk0=memory:1M").start()
    assert third.stop() == 0


def test_second_writer_on_a_file_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    daemon = _daemon("serve", "--listen", str(tmp_path / "a"), f"disk0={image}").start()
    try:
        second = _run("serve", "--listen", str(tmp_path / "b"), f"disk0={image}")
        assert second.returncode == 1
        assert f"in use by process {daemon.pid} (" in second.stderr
        assert not (tmp_path / "b").exists()
    finally:
        daemon.stop()


def _connect(daemon: Daemon, path: Path) -> socket.socket:
    """Connect as soon as somebody listens."""
    while daemon.is_running:
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return connect(path)
    raise AssertionError("\n".join(daemon.lines))


def test_log_level(tmp_path: Path) -> None:
    """A warning is heard, and the line that says ready, which came before it, is not."""
    path = tmp_path / "s"
    daemon = _daemon("serve", "--listen", str(path), "--log-level", "warning", "disk0=memory:1M")
    daemon.launch()
    try:
        with closing(_connect(daemon, path)) as sock:
            sock.send(b"garbage")
            daemon.wait_for("vds: warning: refused process")
    finally:
        daemon.stop()
    assert not [line for line in daemon.lines if "ready" in line]


def test_server_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is a shell that ends when the server is ready; the server holds the pipe it leaves."""
    command = (
        f"{sys.executable} -m vds serve --exit-with-parent --listen {tmp_path}/s disk0=memory:1M & read line"
    )
    with subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdin is not None
        assert parent.stderr is not None
        assert "ready" in parent.stderr.readline()
        parent.stdin.close()  # the shell's read ends, and so does the shell
        said = parent.stderr.read()  # until the server, which holds the other end, is gone
    assert "SIGTERM: stopping" in said
    assert "stopped" in said
    assert not (tmp_path / "s").exists()


def test_parent_that_died_before_it_was_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([100, 1])
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    monkeypatch.setattr(signal, "SIGTERM", 0)  # what this process is to be sent: nothing
    process_module.end_with_parent()
    assert killed == [(os.getpid(), 0)]


def test_kernel_that_cannot_watch_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "PR_SET_PDEATHSIG", 0x7FFF)
    with pytest.raises(OSError, match="--exit-with-parent"):
        process_module.end_with_parent()


STUCK = """
import sys
from protocol.vdisk.operations import Operation
from tests.unit.vds.backend import HeldBackend
from vds import server
from vds.cli import main
from vds.work import Work
from vds.export import Export

backend = HeldBackend()
backend.gate.clear()
server.open_export = lambda volume: Export(volume, backend)
start = server.Server.start


def start_with_a_request(self):
    work = Work(Operation.BREAD)
    work.nbytes, work.buffers = 512, [memoryview(bytearray(512))]
    start(self)
    self.exports["disk0"].executor.submit(work)


server.Server.start = start_with_a_request
main(sys.argv[1:])
"""


def _stuck(path: Path, stop_timeout: str) -> Daemon:
    """A server with a read in a backend that does not answer."""
    argv = ["serve", "--listen", str(path), "--stop-timeout", stop_timeout, "disk0=held"]
    return Daemon(sys.executable, "-c", STUCK, *argv).start()


def test_second_signal_ends_at_once(tmp_path: Path) -> None:
    daemon = _stuck(tmp_path / "s", "60")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("SIGTERM: stopping")
    assert daemon.is_running
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 1
    assert daemon.lines[-1] == "vds: warning: SIGTERM again: ending at once"
    assert not (tmp_path / "s").exists()


def test_stop_that_is_cut_short_is_a_failure(tmp_path: Path) -> None:
    daemon = _stuck(tmp_path / "s", "0.05")
    assert daemon.stop() == 1
    assert "vds: warning: some requests were left without an answer" in daemon.lines


# -- run ---------------------------------------------------------------------------------------------------


def test_run_serves_while_the_command_runs(tmp_path: Path) -> None:
    script = 'test -S "$VDISK_SOCKET" && stat -c %a "$(dirname "$VDISK_SOCKET")" && echo "$VDISK_URI"; exit 7'
    result = _run("run", "disk0=memory:1M", "b=null:1M", "--", "sh", "-c", script, TMPDIR=str(tmp_path))
    assert result.returncode == 7
    mode, uri = result.stdout.splitlines()
    assert mode == "700"
    assert uri.startswith(f"vdisk+unix:///disk0?socket={tmp_path}/vds-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "code"), [("/none/such", 127), ("/dev/null", 126)], ids=["missing", "not executable"]
)
def test_run_of_a_command_that_cannot_be_started(command: str, code: int) -> None:
    result = _run("run", "disk0=null:1M", "--", command)
    assert result.returncode == code
    assert f"error: {command}: " in result.stderr


def test_run_passes_signals_on() -> None:
    script = 'trap "echo got it >&2; exit 3" TERM; echo ready >&2; while :; do sleep 0.1; done'
    daemon = _daemon("run", "--loop", "asyncio", "disk0=null:1M", "--", "sh", "-c", script)
    daemon.launch()
    daemon.wait_for(r"^ready$")
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 3
    assert "got it" in daemon.lines


def test_run_reports_a_command_ended_by_a_signal() -> None:
    result = _run("run", "--exit-with-parent", "disk0=null:1M", "--", "sh", "-c", "kill -KILL $$")
    assert result.returncode == 128 + signal.SIGKILL
