"""``python -m benchmarks disk``: a run too short to mean anything, but of everything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import Row, summarise
from tests.support.daemons import ROOT, run

COMMAND = (sys.executable, "-m", "benchmarks", "disk")
SHORT = ("--rounds", "1", "--seconds", "0.05", "--size", "16M")


def refused(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with options that it should not take."""
    return subprocess.run(
        [*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("buffers", ["bytes", "shared"])
def test_every_transport_and_api_is_measured_and_written_down(tmp_path: Path, buffers: str) -> None:
    path = tmp_path / "run.json"
    workloads = ("randread-4k-8", "randwrite-64k-2", "seqread-1m-2")
    chosen = [word for name in workloads for word in ("--workload", name)]
    shown = run(
        *COMMAND,
        *SHORT,
        *chosen,
        "--buffers",
        buffers,
        "--directory",
        tmp_path,
        "--json",
        path,
        "--seed",
        "7",
    )
    document = json.loads(path.read_text())
    rows = [Row(**row) for row in document["summary"]]
    assert {(row.configuration, row.workload) for row in rows} == {
        (f"{transport} {api} {poll}", workload)
        for transport in ("shm", "socket")
        for api in ("async", "blocking")
        for poll in ("polling", "sleeping")
        for workload in workloads
    }
    assert rows == summarise(document["rounds"])
    for row in rows:
        assert row.iops > 0
        assert 0 < row.p50_us <= row.p99_us <= row.p999_us
        assert row.client_cpu is not None
        assert row.client_cpu > 0
        assert row.server_cpu is not None
        assert row.server_cpu > 0
        assert row.configuration in shown
    assert document["options"]["seed"] == 7
    assert document["machine"]["cpus"] >= 1
    assert list(tmp_path.iterdir()) == [path], "the benchmark cleans up after itself"


@pytest.mark.parametrize("backend", ["memory", "null"])
def test_other_backends_need_no_file(tmp_path: Path, backend: str) -> None:
    markdown = tmp_path / "run.md"
    run(
        *(*COMMAND, *SHORT, "--backend", backend, "--transport", "shm", "--api", "blocking", "--poll", "off"),
        *(
            "--workload",
            "randwrite-4k-4",
            "--directory",
            tmp_path,
            "--markdown",
            markdown,
            "--loop",
            "asyncio",
        ),
    )
    assert "| 4 KiB random write, depth 4 |" in markdown.read_text()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--size", "5K"), "multiple of 1M"),
        (("--workload", "randread"), "is not like"),
        (("--size", "2M", "--workload", "seqread-1m-4"), "seqread-1m-4 needs a disk of more than 2 MiB"),
        (("--rounds", "0"), "--rounds"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(options: tuple[str, ...], word: str) -> None:
    done = refused(*options)
    assert done.returncode == 2
    assert word in done.stderr


def test_a_server_that_does_not_start_ends_the_run_with_its_words(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)  # the socket's path becomes too long to bind
    folder.mkdir()
    done = refused(*SHORT, "--backend", "null", "--directory", str(folder))
    assert done.returncode == 1
    assert "does not listen" in done.stderr
