"""What a process has used, and servers that come up, or do not, and end."""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.processes import Server, Snapshot, Usage, with_parent

LISTENER = (
    "import signal, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
    "s.bind(sys.argv[1]); s.listen(); signal.pause()"
)


def listener(listen: Path) -> Server:
    """A server that listens and does nothing else."""
    return Server([sys.executable, "-c", LISTENER, str(listen)], listen)


def test_usage_grows_by_what_was_used() -> None:
    before = Snapshot.of(os.getpid())
    sum(range(2_000_000))
    used = Snapshot.of(os.getpid()).since(before)
    assert used.cpu_ns > 1_000_000
    assert used.voluntary >= 0
    assert used.involuntary >= 0


def test_a_thread_that_ended_takes_its_switches_along_but_not_its_time() -> None:
    before = Snapshot(cpu_ns=100, switches={1: (5, 1), 2: (1000, 50)})
    after = Snapshot(cpu_ns=900, switches={1: (7, 2), 3: (10, 0)})
    assert after.since(before) == Usage(cpu_ns=800, voluntary=12, involuntary=1)


def test_every_thread_is_looked_at() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        assert thread.native_id in Snapshot.of(os.getpid()).switches
    finally:
        release.set()
        thread.join()


def test_usage_as_json_and_back() -> None:
    used = Usage(cpu_ns=1, voluntary=2, involuntary=3)
    assert used.to_json() == {"cpu_ns": 1, "voluntary": 2, "involuntary": 3}
    assert Usage(**used.to_json()) == used
    assert used.switches == 5


def test_a_server_listens_inside_the_block_and_is_gone_after_it(tmp_path: Path) -> None:
    listen = tmp_path / "s.sock"
    with listener(listen) as server, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(listen))
        pid = server.pid
        assert server.snapshot().cpu_ns > 0
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_ends_at_once_is_an_error_with_its_own_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such volume')"]
    with pytest.raises(RuntimeError, match="no such volume"), Server(command, tmp_path / "s.sock"):
        pass


def test_a_server_that_ends_later_is_noticed_when_it_is_looked_at(tmp_path: Path) -> None:
    with listener(tmp_path / "s.sock") as server:
        os.kill(server.pid, 9)
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RuntimeError, match="has ended; it said: nothing"):
            server.snapshot()


def test_a_server_that_was_not_started_has_no_pid(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not been started"):
        _ = Server(["true"], tmp_path / "s.sock").pid


def test_a_process_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    starter = (
        "import subprocess, sys; from benchmarks.processes import with_parent; "
        "print(subprocess.Popen(with_parent(['sleep', '600'])).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        pidfd = os.pidfd_open(pid)
        while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":  # until then the kernel has not been asked
            time.sleep(0.01)
        process.kill()
        try:
            assert select.select([pidfd], [], [], 30)[0] == [pidfd], (
                "it is readable when the process has ended"
            )
        finally:
            os.close(pidfd)


def test_where_nothing_can_arrange_it_the_command_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert with_parent(("a", "b")) == ["a", "b"]
