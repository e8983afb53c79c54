"""``python -m benchmarks``: runs too short to mean anything, but of everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.goals import GOALS, OURS
from benchmarks.resultfile import load_rounds
from benchmarks.results import Row, summarise
from tests.support.daemons import ROOT, run

COMMAND = (sys.executable, "-m", "benchmarks")
DISK = (*COMMAND, "disk")
SHORT = ("--rounds", "1", "--seconds", "0.05", "--size", "16M")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name."""
    with tempfile.TemporaryDirectory(prefix="vb-", dir="/tmp") as name:
        yield Path(name)


def refused(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark that should not go well."""
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def load(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """A result file, and the rows that its rounds make."""
    document: dict[str, Any] = json.loads(path.read_text())
    rows = summarise(load_rounds(document))
    for row in rows:
        assert row.iops > 0
        assert 0 < row.latency.percentile(50) <= row.latency.percentile(99) <= row.latency.greatest
        assert all(used > 0 for used in row.cpu.values())
        assert all(switches >= 0 for switches in row.switches.values())
    return document, rows


@pytest.mark.slow
@pytest.mark.parametrize("buffers", ["bytes", "shared"])
def test_every_transport_and_api_is_measured_and_written_down(tmp_path: Path, buffers: str) -> None:
    path = tmp_path / "run.json"
    workloads = ("randread-4k-8", "randrw50-64k-2", "seqread-1m-2")
    chosen = [word for name in workloads for word in ("--workload", name)]
    options = ("--buffers", buffers, "--directory", tmp_path, "--json", path, "--seed", "7")
    shown = run(*DISK, *SHORT, *chosen, *options)
    document, rows = load(path)
    assert {(row.configuration, row.workload.name) for row in rows} == {
        (f"{transport} {api} {poll}", workload)
        for transport in ("shm", "socket")
        for api in ("async", "blocking")
        for poll in ("polling", "sleeping")
        for workload in workloads
    }
    assert {tuple(row.cpu) for row in rows} == {("client", "server")}
    assert all(row.configuration in shown for row in rows)
    assert document["vdisk"]["command"] == "disk"
    assert document["vdisk"]["seed"] == 7
    assert document["vdisk"]["machine"]["cpus"] >= 1
    assert list(tmp_path.iterdir()) == [path], "the benchmark cleans up after itself"


@pytest.mark.slow
def test_several_disks_at_once_keep_what_is_theirs(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    shown = run(
        *(*DISK, "--rounds", "1", "--seconds", "0.2", "--size", "1M", "--verify", "--wce"),
        *("--disks", "1", "--disks", "4", "--poll", "on", "--workload", "randrw50-4k-4"),
        *("--directory", tmp_path, "--json", path),
    )
    _, rows = load(path)
    assert "verify: 0 errors" in shown
    assert [(row.disks, row.verify_errors) for row in rows] == [(1, 0), (4, 0)] * 4
    assert "async polling, 4 disks" in shown


@pytest.mark.slow
def test_a_disk_that_somebody_else_writes_to_fails_the_run(place: Path) -> None:
    """The same garbage in the same places again and again: what is there in the end is there to stay."""
    garbage = bytes(range(256)) * 16
    command = [*DISK, "--verify", "--wce", "--rounds", "1", "--seconds", "0.5", "--size", "1M"]
    command += ["--transport", "shm", "--api", "async", "--poll", "off", "--workload", "randrw50-4k-4"]
    with subprocess.Popen([*command, "--directory", str(place)], cwd=ROOT, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            for image in place.glob("*/image0"):
                with suppress(OSError), image.open("r+b") as file:  # it may be gone just now
                    file.seek(64 * 4096)
                    file.write(garbage)
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert process.returncode == 1
    assert "wrong; first: disk 0, 4096 bytes at 262144" in said
    assert "another run, or no tag" in said


@pytest.mark.slow
def test_an_open_loop_has_the_rate_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    run(
        *(*DISK, *SHORT, "--rate", "200", "--transport", "shm", "--backend", "memory"),
        *("--workload", "randread-4k-8", "--directory", tmp_path, "--json", path),
    )
    _, rows = load(path)
    assert {row.rate for row in rows} == {200.0}
    assert {row.latency.count for row in rows} == {10}


@pytest.mark.slow
def test_the_nbd_front_end_is_measured_with_all_three_processes(tmp_path: Path) -> None:
    path, logs = tmp_path / "run.json", tmp_path / "logs"
    run(
        *(*DISK, *SHORT, "--api", "nbd", "--transport", "shm", "--poll", "off"),
        *("--workload", "randrw50-4k-4", "--directory", tmp_path, "--json", path, "--hdr", logs),
    )
    _, (row,) = load(path)
    assert set(row.cpu) == {"client", "front", "server"}
    assert [log.name for log in logs.iterdir()] == ["shm-nbd-sleeping-randrw50-4k-4.hlog"]


@pytest.mark.slow
def test_the_peers_are_measured_in_the_same_rounds_and_the_goals_stand_in_the_file(place: Path) -> None:
    path = place / "run.json"
    shown = run(*COMMAND, "peers", *SHORT, "--directory", place, "--json", path)
    document, rows = load(path)
    clients = {f"{server}, {client}" for server in SERVERS for client in ("fio", "libnbd")}
    floors = {"fio psync, bare file", "fio io_uring, bare file"}
    for workload, ours in OURS.items():
        there = {row.configuration for row in rows if row.workload.name == workload}
        assert there == {*ours, *clients, *floors}
    for row in rows:
        front = {"front"} if row.configuration.startswith("vdc") else set()
        server = set() if row.configuration in floors else {"server"}
        assert set(row.cpu) == {"client"} | server | front
    goals = document["vdisk"]["goals"]
    assert len(goals) == len(GOALS)
    assert all(len(goal["ratios"]) == 1 and goal["ratio"] > 0 for goal in goals)
    assert {goal["verdict"] for goal in goals} <= {"met", "missed"}
    assert document["vdisk"]["versions"]["nbdkit"]
    assert "best NBD peer" in shown
    assert list(place.iterdir()) == [path]
    tool = (*CLAT2CSV, path, place / "latencies.csv")
    assert run(*tool).count("generated") == len(document["jobs"])
    assert run(*tool, "--validate").count("validated") == len(document["jobs"])


CLAT2CSV = ("/usr/bin/python3", "/usr/bin/fio_jsonplus_clat2csv")
"""With Debian's Python, which has what the tool needs; the first on the path may be another's."""

SERVERS = ("nbdkit file", "nbdkit memory", "qemu-nbd", "qemu-storage-daemon")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_a_run_that_is_interrupted(place: Path, number: signal.Signals) -> None:
    command = [*COMMAND, "peers", "--quick", "--size", "16M", "--directory", str(place)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert next(line for line in process.stderr if "IOPS" in line), "servers run, one was measured"
            assert processes_with(place), "the test sees them"
            process.send_signal(number)
            process.stderr.read()
        finally:
            process.kill()
    assert process.returncode not in (0, -signal.SIGKILL)
    assert processes_with(place) == []
    assert list(place.iterdir()) == []


def processes_with(place: Path) -> list[str]:
    """The command lines, but for the benchmark's own, that name something in ``place``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended just now
                continue
            if f"{place}/" in line:
                found.append(line)
    return found


@pytest.mark.parametrize("backend", ["memory", "null"])
def test_other_backends_need_no_file(tmp_path: Path, backend: str) -> None:
    markdown = tmp_path / "run.md"
    run(
        *(*DISK, *SHORT, "--backend", backend, "--transport", "shm", "--api", "blocking", "--poll", "off"),
        *("--workload", "randwrite-4k-4", "--directory", tmp_path, "--markdown", markdown),
        *("--loop", "asyncio"),
    )
    assert "### 4 KiB random write, depth 4" in markdown.read_text()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--size", "5K"), "multiple of 1M"),
        (("--workload", "randread"), "is not like"),
        (("--size", "2M", "--workload", "seqread-1m-4"), "seqread-1m-4 needs a disk of more than 2 MiB"),
        (("--rounds", "0"), "--rounds"),
        (("--disks", "65"), "--disks"),
        (("--verify", "--backend", "null"), "null backend keeps nothing"),
        (("--api", "nbd", "--rate", "10"), "not for the NBD front end"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(options: tuple[str, ...], word: str) -> None:
    done = refused(*DISK, *options)
    assert done.returncode == 2
    assert word in done.stderr


def test_what_is_not_installed_is_named_with_its_package() -> None:
    done = refused(*COMMAND, "peers", "--without", "qemu-nbd", PATH="/nowhere")
    assert done.returncode == 2
    for package in ("nbdkit", "fio", "libnbd-dev", "gcc", "qemu-system-common"):
        assert package in done.stderr
    assert "qemu-utils" not in done.stderr


def test_a_server_that_does_not_start_ends_the_run_with_its_words(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)  # the socket's path becomes too long to bind
    folder.mkdir()
    done = refused(*DISK, *SHORT, "--backend", "null", TMPDIR=str(folder))
    assert done.returncode == 1
    assert "does not listen" in done.stderr
    assert list(folder.iterdir()) == []
