"""The command ``vdc``: what it prints, and how it exits."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from hypervisor.capture import Capture
from protocol.errors import ChannelLost, NegotiationTimeout
from tests.support.captures import CaptureFile
from tests.support.daemons import ROOT
from tests.support.fakedisk import FakeDisk
from vdc import cli, daemon
from vdc import copy as copy_module
from vdc.uri import Target

MIB = 1 << 20
URI = "vdisk+unix:///disk0?socket=/run/vds.sock"


class Opened:
    """Stands in for ``vdc.open``; ``calls`` is what was asked for."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.error: Exception | None = None
        self.hangs = False
        self.calls: list[tuple[Target, float]] = []
        self.captures: list[Capture | None] = []

    async def __call__(
        self, target: Target, *, wait_s: float = 0.0, capture: Capture | None = None
    ) -> FakeDisk:
        self.calls.append((target, wait_s))
        self.captures.append(capture)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.disk


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A disk of 4 MiB behind every URI."""
    stand_in = Opened(FakeDisk(4 * MIB))
    monkeypatch.setattr(cli, "open_disk", stand_in)
    monkeypatch.setattr(daemon, "open_disk", stand_in)
    return stand_in


def vdc(*words: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli.main, [str(word) for word in words], prog_name="vdc")


def test_info_for_people(opened: Opened) -> None:
    done = vdc("info", URI)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "disk0",
        "  size:             4194304 bytes (4.0 MiB)",
        "  block size:       512 bytes",
        "  largest transfer: 1.0 MiB",
        "  access:           read and write",
        "  operations:       BREAD, BWRITE, FLUSH, GET_DISKGEOM, GET_CAPACITY",
        "  version:          1.2",
        "  transport:        shm",
        "  extensions:       polled_ring",
        "  instance:         6469736b30",
        "  server:           /run/vds.sock",
        "  state:            running",
    ]
    assert opened.disk.is_closed


def test_info_for_programs(opened: Opened) -> None:
    opened.disk = FakeDisk(MIB, block_size=4096, read_only=True)
    opened.disk.extensions ^= opened.disk.extensions
    done = vdc("info", URI, "--json")
    assert json.loads(done.stdout) == {
        "volume": "disk0",
        "socket": "/run/vds.sock",
        "transport": "shm",
        "state": "running",
        "size": MIB,
        "block_size": 4096,
        "max_transfer": MIB,
        "read_only": True,
        "version": "1.2",
        "operations": ["BREAD", "GET_DISKGEOM", "GET_CAPACITY"],
        "extensions": [],
        "instance": "6469736b30",
    }
    text = vdc("info", URI).stdout
    assert "read-only" in text
    assert "extensions:       none" in text


def test_info_does_not_wait_unless_told_to(opened: Opened) -> None:
    vdc("info", URI)
    vdc("info", URI, "--wait", "2.5")
    assert [wait_s for _, wait_s in opened.calls] == [0.0, 2.5]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "/run/vds.sock"),
            "/run/vds.sock: No such",
        ),
        (OSError(errno.ENOENT, "no such volume: disk0"), "vdc: no such volume: disk0"),
        (ChannelLost("the server hung up"), "the server hung up"),
        (NegotiationTimeout("nothing was\nagreed"), "nothing was agreed"),
        (OSError(), "vdc: OSError"),
    ],
)
@pytest.mark.parametrize(
    "words", [["info", URI], ["copy", URI, "/tmp/never-made"], ["serve", URI, "--nbd", "/x"]]
)
def test_a_disk_that_cannot_be_opened_is_one_line(
    opened: Opened, error: Exception, line: str, words: list[str]
) -> None:
    opened.error = error
    done = vdc(*words)
    assert done.exit_code == 1
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert said.startswith("vdc: ")
    assert line in said
    assert not Path("/tmp/never-made").exists()


def test_a_silent_server_is_reported(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "CONNECT_LIMIT_S", 0.01)
    opened.hangs = True
    done = vdc("info", URI)
    assert done.exit_code == 1
    assert done.stderr == "vdc: /run/vds.sock: no answer within 0.01 s\n"


@pytest.mark.parametrize(
    "words",
    [
        ["info", "nbd://host"],
        ["info", "vdisk+unix:///disk0"],
        ["info", URI + "&colour=red"],
        ["copy", "vdisk+unix:///disk0", "/tmp/never-made"],
        ["serve", URI, "--nbd", "/x", "--export", "x" * 5000],
        ["serve", URI],
        ["serve", URI, "--nbd", "/x", "--poll-us", "-1"],
        ["serve", URI, "--nbd", "/x", "--loop", "trio"],
        ["copy", URI],
        ["copy", URI, "/x", "--parallel", "0"],
        ["copy", URI, "/x", "--parallel", "65"],
        ["copy", URI, "/x", "/y"],
        ["wash"],
    ],
)
def test_usage_errors_are_one_line_and_exit_with_2(words: list[str]) -> None:
    done = vdc(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("vdc: ")
    assert done.stderr.count("\n") == 1


def test_help_is_what_no_command_gets() -> None:
    done = vdc()
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == vdc("--help").stdout
    assert done.stderr.count("...") == 1  # in the first line: no sentence is cut off


def test_interrupt_is_one_line(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_words: object, **_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "copy", interrupted)
    done = vdc("copy", URI, "/tmp/never-made", "--loop", "asyncio")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "vdc: interrupted"


def test_warnings_are_marked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(logging, "root", logging.RootLogger(logging.WARNING))
    cli._set_up_log("info")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.root.log(level, "so it is")
    assert capsys.readouterr().err == "vdc: so it is\nvdc: warning: so it is\n"


def test_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vdc("--version").stdout.startswith("vdc, version ")
    monkeypatch.setattr(metadata, "version", lambda _name: "1.2.3")
    assert cli._version() == "1.2.3"


def test_version_of_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert cli._version() == "unknown (not installed)"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_copy_says_what_it_did(opened: Opened, tmp_path: Path, loop: str) -> None:
    opened.disk.contents[:5] = b"hello"
    done = vdc("copy", URI, tmp_path / "out", "--verify", "--parallel", "2", "--loop", loop, "--wait", "3")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "vdc: copied 4.0 MiB, verified\n")
    assert (tmp_path / "out").read_bytes() == opened.disk.contents
    assert opened.calls == [(Target.parse(URI), 3.0)]


def test_copy_that_fails_exits_with_1(opened: Opened, tmp_path: Path) -> None:
    opened.disk.fail("read", errno.EIO, after=2)
    done = vdc("copy", URI, tmp_path / "out", "--parallel", "1")
    assert done.exit_code == 1
    assert done.stderr == f"vdc: reading {URI} at offset 2097152: Input/output error\n"


def test_copy_onto_something_too_small(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    os.truncate(tmp_path / "in", 300 * MIB)
    done = vdc("copy", tmp_path / "in", URI)
    assert done.exit_code == 1
    assert done.stderr == f"vdc: {URI}: too small: it has 4194304 bytes, the source has 314572800\n"
    assert opened.disk.log == []


@pytest.mark.parametrize("command", [["info", URI], ["copy", URI, "out"]])
def test_capture_is_opened_for_the_disk_and_closed_at_the_end(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert vdc(*command, "--capture", "trace").exit_code == 0
    (capture,) = opened.captures
    assert capture is not None
    assert capture.path == "trace"
    assert not capture.is_open
    assert not CaptureFile(tmp_path / "trace").is_cut_short


@pytest.mark.parametrize(
    ("sides", "what"), [(("file", URI), "what is copied"), ((URI, "file"), "what is copied to")]
)
def test_what_is_copied_is_not_the_capture(
    opened: Opened, tmp_path: Path, sides: tuple[str, str], what: str
) -> None:
    (tmp_path / "file").write_bytes(b"precious" * 64)
    (tmp_path / "link").symlink_to("file")
    source, target = (tmp_path / side if side == "file" else side for side in sides)
    done = vdc("copy", source, target, "--capture", tmp_path / "link")
    assert done.exit_code == 2
    assert done.stderr == (f"vdc: capture={tmp_path / 'link'}: this is {what}, it cannot be the capture\n")
    assert (tmp_path / "file").read_bytes() == b"precious" * 64
    assert opened.calls == []


def test_a_target_that_is_to_be_made_is_not_the_capture(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(".")
    path = tmp_path / "link" / "new.img"
    done = vdc("copy", URI, tmp_path / "new.img", "--capture", path)
    assert done.exit_code == 2
    assert done.stderr == f"vdc: capture={path}: this is what is copied to, it cannot be the capture\n"
    assert not path.exists()
    assert opened.calls == []


@pytest.mark.parametrize("path", ["n", "./n", "/run/vds.sock"])
def test_a_socket_is_not_the_capture(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = vdc("serve", URI, "--nbd", "n", "--capture", path)
    what = "the server's socket" if path.startswith("/") else "the socket of the NBD server"
    assert done.exit_code == 2
    assert done.stderr == f"vdc: capture={path}: this is {what}, it cannot be the capture\n"
    assert not (tmp_path / "n").exists()
    assert opened.calls == []


@pytest.mark.parametrize("command", [["info", URI], ["copy", URI, "out"], ["serve", URI, "--nbd", "n"]])
def test_a_capture_has_a_name(opened: Opened, command: list[str]) -> None:
    done = vdc(*command, "--capture", "")
    assert done.exit_code == 2
    assert done.stderr == "vdc: capture=: must be the path of a file\n"
    assert opened.calls == []


def test_a_capture_that_cannot_be_written(opened: Opened, tmp_path: Path) -> None:
    done = vdc("info", URI, "--capture", tmp_path)
    assert done.exit_code == 1
    assert done.stderr == f"vdc: {tmp_path}: capture: Is a directory\n"
    assert opened.calls == []


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_copy_shows_its_progress_on_a_terminal(tmp_path: Path, terminal: tuple[int, int]) -> None:
    (tmp_path / "in").write_bytes(os.urandom(3 * MIB))
    mine, theirs = terminal
    words = [sys.executable, "-m", "vdc", "copy", str(tmp_path / "in"), str(tmp_path / "out"), "--verify"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(words, check=True, stderr=theirs, env=environment, timeout=60)
    said = os.read(mine, 1 << 16).decode()
    assert "copy" in said
    assert "verify" in said
    assert "3.0/3.0" in said
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_config_is_shown(opened: Opened) -> None:
    done = vdc(
        "serve",
        URI + "&timeout=30&transport=socket",
        "--nbd",
        "/run/x.sock",
        "--poll-us",
        "0",
        "--show-config",
    )
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "volume": "disk0",
        "socket": "/run/vds.sock",
        "transport": "socket",
        "timeout_s": 30.0,
        "poll_us": 0,
        "nbd": "/run/x.sock",
        "export": "disk0",
        "read_only": False,
        "capture": None,
        "log_level": "info",
        "loop": "uvloop",
        "exit_with_parent": False,
        "wait_s": 0.0,
        "stop_timeout_s": 10.0,
    }
    assert opened.calls == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_serve_says_when_it_is_ready_and_stops_on_term(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    path = tmp_path / "nbd.sock"
    echo = click.echo

    def echo_and_stop(message: str, err: bool = False) -> None:
        echo(message, err=err)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(click, "echo", echo_and_stop)
    done = vdc("serve", URI, "--nbd", path, "--loop", loop, "--log-level", "error")
    assert done.exit_code == 0
    assert done.stderr == (f"vdc: ready: disk0 (4.0 MiB) as NBD on {path}: nbd+unix:///disk0?socket={path}\n")
    assert opened.disk.is_closed
    assert not path.exists()


def test_serve_reports_a_socket_in_use(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = vdc("serve", URI, "--nbd", tmp_path / "file")
    assert done.exit_code == 1
    assert done.stderr == f"vdc: {tmp_path / 'file'}: exists and is not a socket\n"
    assert opened.disk.is_closed


def test_serve_that_cuts_clients_off_exits_with_1(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def cut_off(_config: object, _say: object) -> bool:
        return False

    monkeypatch.setattr(cli, "serve", cut_off)
    done = vdc("serve", URI, "--nbd", tmp_path / "s")
    assert done.exit_code == 1
    assert done.stderr == "vdc: stopped with requests unanswered\n"


def test_progress_needs_a_terminal(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    async def look(*_words: object, started: object, **_options: object) -> int:
        asked.append(started)
        return 0

    monkeypatch.setattr(cli, "copy", look)
    assert vdc("copy", URI, tmp_path / "o").exit_code == 0
    assert asked == [None]
    assert copy_module.DEFAULT_PARALLEL <= 16
