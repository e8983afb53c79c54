"""Reading result files: what is taken from them, and one line for what is wrong."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages.load import Load
from benchmarks.pages.resultfile import Result, ResultError, Usage, read_result
from tests.support.benchresults import a_file, a_job, a_peers_file, write

Json = dict[str, Any]


def read(tmp_path: Path, document: Json) -> Result:
    """Write a document down and read it."""
    return read_result(write(tmp_path / "run.json", document))


def test_a_round_has_what_its_job_says(tmp_path: Path) -> None:
    job = a_job(
        "socket async polling",
        "seqwrite-1m-4",
        3,
        latencies=[1_000, 2_000, 3_000, 900_000],
        took_ns=2_000_000,
        sides={"client": 10, "front": 20},
        disks=4,
        rate=500.0,
        verify_errors=2,
    )
    result = read(tmp_path, a_file([job]))
    (one,) = result.rounds
    assert one.load == Load(
        workload="seqwrite-1m-4", pattern="write", block_size=1 << 20, depth=4, disks=4, rate=500.0
    )
    assert (one.configuration, one.number, one.ios, one.bytes) == ("socket async polling", 3, 4, 4 << 20)
    assert one.iops == pytest.approx(2000)
    assert (one.latency.count, one.latency.least, one.latency.greatest) == (4, 1_000, 900_000)
    assert one.latency.percentile(50) == pytest.approx(2_000, rel=1 / 64)
    assert one.usage == {
        "client": Usage(cpu_ns=40, voluntary=0, involuntary=0),
        "front": Usage(cpu_ns=80),
    }
    assert result.verify_errors == one.verify_errors == 2


def test_a_result_says_where_and_how_it_was_measured(tmp_path: Path) -> None:
    result = read(tmp_path, a_peers_file(rounds=1))
    assert (result.command, result.commit, result.seed) == ("peers", "0123456789ab", 1)
    assert result.machine["kernel"] == "6.1.0-0"
    assert result.versions["nbdkit"] == "1.32.5"
    assert result.options["backend"] == "file"
    assert [goal.verdict for goal in result.goals] == ["missed", "met", "tie"]
    assert result.verify_errors is None


@pytest.mark.slow
def test_what_fio_writes_is_read_bin_by_bin(tmp_path: Path) -> None:
    image, report = tmp_path / "image", tmp_path / "fio.json"
    subprocess.run(
        [
            *("fio", "--name=real", "--ioengine=psync", "--rw=randrw", "--rwmixread=70", "--bs=4096"),
            *("--iodepth=1", "--size=1M", f"--filename={image}", "--loops=4", "--output-format=json+"),
            f"--output={report}",
        ],
        check=True,
        timeout=60,
    )
    document = json.loads(report.read_text())
    (job,) = document["jobs"]
    job["vdisk"] = a_job()["vdisk"] | {"usage": {}}
    result = read(tmp_path, a_file([job]))
    (one,) = result.rounds
    assert one.ios == job["read"]["total_ios"] + job["write"]["total_ios"] == 1024
    assert one.bytes == 4 << 20
    assert one.load.kind == "4 KiB random 70 % read"
    # What fio makes of its bins must be what comes of ours: with one direction left, the same percentiles.
    job["write"] = a_job()["write"]
    (reads,) = read(tmp_path, a_file([job])).rounds
    for percent, nanoseconds in job["read"]["clat_ns"]["percentile"].items():
        assert reads.latency.percentile(float(percent)) == pytest.approx(nanoseconds, rel=1 / 32)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("vdisk", "schema"), 3, "schema 3, not 2: measure again"),
        (("vdisk", "schema"), "2", "Expected `int`, got `str` - at `$.vdisk.schema`"),
        (("vdisk",), None, "not a result of python -m benchmarks (no vdisk.schema)"),
        (("vdisk", "machine"), [], "Expected `object`, got `array` - at `$.vdisk.machine`"),
        (("jobs",), [], "no job in it"),
        (("jobs", 0, "error"), 5, "job shm async polling/randread-4k-32/0: it ended with error 5"),
        (("jobs", 0, "read", "total_ios"), 0, "no I/O in it"),
        (("jobs", 0, "vdisk", "took_ns"), 0, "0 ns on 1 disks"),
        (("jobs", 0, "vdisk", "disks"), 0, "1000000000 ns on 0 disks"),
        (("jobs", 0, "vdisk", "usage"), {"client": {}}, "missing required field `cpu_ns`"),
        (("jobs", 0, "read", "clat_ns", "N"), 7, "1000 latencies in the bins, 7 said"),
        (("jobs", 0, "read", "clat_ns", "bins"), {"5": -1}, "-1 latencies of 5 ns"),
        (("jobs", 0, "job options", "rw"), "trim", "job options: rw='trim'"),
        (("jobs", 0, "job options", "bs"), "4k", "job options: bs='4k'"),
        (("jobs", 0, "job options", "iodepth"), "0", "job options: iodepth='0'"),
        (("jobs", 0, "job options", "rw"), "randrw", "job options: rwmixread=''"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, path: tuple[Any, ...], value: object, words: str) -> None:
    document: Any = a_file([a_job()])
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ResultError) as caught:
        read(tmp_path, document)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'run.json'}: ")
    assert "\n" not in str(caught.value)


def test_a_file_of_the_first_schema_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="schema 1, not 2: measure again"):
        read(tmp_path, {"schema": 1, "benchmark": "disk", "rounds": []})


@pytest.mark.parametrize("text", ["", "{", "[]", "fio: a line of a log\n{}"])
def test_what_is_no_json_object_is_no_result(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"run\.json: "):
        read_result(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="none: No such file or directory"):
        read_result(tmp_path / "none")
