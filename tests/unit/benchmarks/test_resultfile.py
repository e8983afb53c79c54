"""The result file: fio's shape, and everything back out of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, resultfile
from benchmarks.goals import evaluate
from benchmarks.results import Round, summarise
from benchmarks.workload import parse_workload
from tests.unit.benchmarks.rounds import a_round

MIXED = Round(
    configuration="shm async polling",
    workload=parse_workload("randrw70-4k-8"),
    number=1,
    took_ns=500_000_000,
    reads=a_round(ios=700, latency_ns=1000).reads,
    writes=a_round(workload="randwrite-4k-1", ios=300, latency_ns=2000).writes,
    usage=a_round(sides=("client", "front", "server")).usage,
    user=20.5,
    system=3.25,
    disks=4,
    rate=2000.0,
    verify_errors=0,
)


def a_document(rounds: list[Round], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of it
    """What a run would write."""
    given: dict[str, Any] = {
        "rounds": rounds,
        "options": {"rounds": 5, "without": []},
        "machine": {"cpu": "Made-up 9000"},
        "versions": {"fio": None},
        "commit": "abc",
        "seed": 7,
        "started_ns": 1_700_000_000_250_000_000,
    }
    return resultfile.document("peers", **given | changes)


def test_the_top_of_the_file_is_fios() -> None:
    content = a_document([a_round()])
    assert content["fio version"] == "vdisk-bench-2"
    assert content["timestamp"] == 1_700_000_000
    assert content["timestamp_ms"] == 1_700_000_000_250
    assert content["global options"] == {"rounds": "5", "without": "[]"}
    assert content["vdisk"]["schema"] == 2
    assert content["vdisk"]["options"] == {"rounds": 5, "without": []}
    assert "goals" not in content["vdisk"]


def test_goals_stand_in_the_file_where_there_are_any() -> None:
    rounds = [a_round(), a_round("nbdkit file, fio", ios=100)]
    standings = evaluate(rounds)
    content = a_document(rounds, standings=standings)
    assert content["vdisk"]["goals"] == [one.to_json() for one in standings]
    assert content["vdisk"]["goals"][0]["ratio"] == 10


def test_a_job_has_what_fio_has() -> None:
    job = resultfile.job(MIXED)
    assert job["jobname"] == "shm async polling/randrw70-4k-8/1"
    assert job["job options"] == {
        "rw": "randrw",
        "bs": "4096",
        "iodepth": "8",
        "numjobs": "4",
        "rwmixread": "70",
        "rate_iops": "2000.0",
    }
    read, write, trim = job["read"], job["write"], job["trim"]
    assert (read["total_ios"], write["total_ios"], trim["total_ios"]) == (700, 300, 0)
    assert (read["io_bytes"], read["io_kbytes"]) == (700 * 4096, 2800)
    assert (read["iops"], read["bw_bytes"], read["bw"]) == (1400, 1400 * 4096, 5600)
    assert (read["runtime"], trim["runtime"]) == (500, 0)
    assert (read["short_ios"], read["drop_ios"], read["slat_ns"]["N"]) == (0, 0, 0)
    assert read["clat_ns"]["percentile"]["99.000000"] == pytest.approx(1000, rel=0.02)
    assert sum(read["clat_ns"]["bins"].values()) == 700
    assert "bins" not in trim["clat_ns"], "fio's own tools stumble over empty ones"
    assert (job["usr_cpu"], job["sys_cpu"], job["ctx"]) == (20.5, 3.25, 50)
    assert job["vdisk"]["usage"]["front"] == {"cpu_ns": 2_000_000, "voluntary": 30, "involuntary": 20}


def test_rounds_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    rounds = [a_round(), MIXED, a_round("fio psync, bare file", "seqwrite-1m-4", sides=("client",))]
    resultfile.write(path, a_document(rounds, machine=machine.describe(tmp_path)))
    content = json.loads(path.read_text())
    again = resultfile.load_rounds(content)
    assert [resultfile.job(one) for one in again] == [resultfile.job(one) for one in rounds]
    assert [row.iops for row in summarise(again)] == [row.iops for row in summarise(rounds)]
    assert {"cpu", "cpus", "kernel", "python", "packages", "filesystem"} <= content["vdisk"]["machine"].keys()
    assert list(tmp_path.iterdir()) == [path]


def test_another_schema_is_refused() -> None:
    content = a_document([])
    content["vdisk"]["schema"] = 1
    with pytest.raises(ValueError, match="schema 1, not 2"):
        resultfile.load_rounds(content)
