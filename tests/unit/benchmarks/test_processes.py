"""What a process has used, and servers that come up, or do not, and end."""

import os
import socket
import sys
from pathlib import Path

import pytest

from benchmarks.processes import Server, Usage, usage

LISTENER = (
    "import signal, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
    "s.bind(sys.argv[1]); s.listen(); signal.pause()"
)


def test_usage_grows_by_what_was_used() -> None:
    before = usage(os.getpid())
    sum(range(2_000_000))
    used = usage(os.getpid()) - before
    assert used.cpu_ns > 1_000_000
    assert used.voluntary >= 0
    assert used.involuntary >= 0


def test_usage_as_json() -> None:
    assert Usage(cpu_ns=1, voluntary=2, involuntary=3).to_json() == {
        "cpu_ns": 1,
        "voluntary": 2,
        "involuntary": 3,
    }


def test_a_server_listens_inside_the_block_and_is_gone_after_it(tmp_path: Path) -> None:
    listen = tmp_path / "s.sock"
    with (
        Server([sys.executable, "-c", LISTENER, str(listen)], listen) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock,
    ):
        sock.connect(str(listen))
        pid = server.pid
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_ends_at_once_is_an_error_with_its_own_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such volume')"]
    with pytest.raises(RuntimeError, match="no such volume"), Server(command, tmp_path / "s.sock"):
        pass


def test_a_server_that_was_not_started_has_no_pid(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not been started"):
        _ = Server(["true"], tmp_path / "s.sock").pid
