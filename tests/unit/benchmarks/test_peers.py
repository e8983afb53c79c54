"""A round out of fio's report."""

from typing import Any

import pytest

from benchmarks.histogram import Histogram
from benchmarks.peers import parse_fio
from benchmarks.workload import parse_workload

READ = {"runtime": 500, "total_ios": 7, "clat_ns": {"bins": {"620": 4, "99328": 3}}}
NOTHING: dict[str, Any] = {"runtime": 0, "total_ios": 0, "clat_ns": {}}


def report(**changes: object) -> dict[str, Any]:
    """What fio says in JSON of one job, as far as we look at it."""
    job = {"error": 0, "usr_cpu": 20.0, "sys_cpu": 60.0, "ctx": 5, "read": READ, "write": NOTHING}
    return {"jobs": [job | changes]}


def test_a_report_becomes_a_round() -> None:
    one = parse_fio(report(), parse_workload("randread-4k-1"))
    assert (one["workload"], one["ios"], one["took_ns"]) == ("randread-4k-1", 7, 500_000_000)
    assert one["usage"] == {"client": {"cpu_ns": 400_000_000, "voluntary": 5, "involuntary": 0}}
    latency = Histogram.from_json(one["latency"])
    assert (latency.count, latency.least, latency.greatest) == (7, 620, 99328)


def test_a_write_workload_takes_the_write_side() -> None:
    one = parse_fio(report(read=NOTHING, write=READ), parse_workload("seqwrite-1m-4"))
    assert one["ios"] == 7


def test_an_error_in_the_job_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="error 5"):
        parse_fio(report(error=5), parse_workload("randread-4k-1"))
