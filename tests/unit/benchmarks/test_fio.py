"""fio: what it is told, a round out of its report, and the moments at which it is looked at."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fio import Fio, Hooks, fio_round
from benchmarks.processes import Usage
from benchmarks.subject import Settings
from benchmarks.workload import MiB, parse_workload

READ = {
    "runtime": 500,
    "total_ios": 7,
    "lat_ns": {"N": 7, "min": 600, "max": 99_900, "mean": 43_000.0, "bins": {"620": 4, "99840": 3}},
}
NOTHING: dict[str, Any] = {"runtime": 0, "total_ios": 0, "lat_ns": {"N": 0, "min": 0, "max": 0, "mean": 0.0}}
USED = {"client": Usage(cpu_ns=400_000_000, voluntary=5, involuntary=1)}


def report(**changes: object) -> dict[str, Any]:
    """What fio says in JSON of one job, as far as we look at it."""
    job = {"error": 0, "usr_cpu": 20.0, "sys_cpu": 60.0, "ctx": 5, "read": READ, "write": NOTHING}
    return {"jobs": [job | changes]}


def settings(place: Path) -> Settings:
    """Of a short run."""
    return Settings(
        place=place, sockets=place, size=16 * MiB, seconds=0.25, warmup=0.1, seed=7, loop="uvloop"
    )


def test_a_report_becomes_a_round() -> None:
    one = fio_round("peer", report(), parse_workload("randread-4k-1"), 3, USED)
    assert (one.configuration, one.workload.name, one.number) == ("peer", "randread-4k-1", 3)
    assert (one.ios, one.iops, one.took_ns) == (7, 14, 500_000_000)
    assert (one.usage, one.user, one.system) == (USED, 20.0, 60.0)
    assert (one.reads.least, one.reads.greatest, one.writes.count) == (600, 99_900, 0)


def test_a_mixed_report_has_both() -> None:
    one = fio_round("peer", report(write=READ), parse_workload("randrw50-4k-1"), 0, USED)
    assert (one.reads.count, one.writes.count, one.ios) == (7, 7, 14)


def test_an_error_in_the_job_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="peer: fio ended with error 5"):
        fio_round("peer", report(error=5), parse_workload("randread-4k-1"), 0, USED)


def test_fio_is_told_what_ours_is_told(tmp_path: Path) -> None:
    fio = Fio(name="peer", settings=settings(tmp_path), target=("--ioengine=psync", "--filename=x"))
    command = fio.command(parse_workload("randrw70-64k-16"))
    assert {
        *("--rw=randrw", "--rwmixread=70", "--bs=65536", "--iodepth=16", "--size=16777216"),
        *(
            "--runtime=250ms",
            "--lat_percentiles=1",
            "--time_based",
            "--norandommap",
            "--randseed=7",
            "--ioengine=psync",
        ),
    } <= set(command)
    assert not [word for word in command if "ramp" in word]
    assert "--rwmixread=100" not in fio.command(parse_workload("randread-4k-1"))


ASK_TWICE = (
    "import subprocess, sys; [subprocess.run(['sh', '-c', hook], check=True) for hook in sys.argv[1:]]"
)


def asking(hooks: Hooks, program: str = ASK_TWICE) -> subprocess.Popen[str]:
    """A process that asks as fio does."""
    words = [option.partition("=")[2] for option in hooks.options]
    return subprocess.Popen([sys.executable, "-c", program, *words], text=True)


def test_both_moments_are_answered_and_what_was_used_between_them_is_known(tmp_path: Path) -> None:
    with Hooks(tmp_path) as hooks, asking(hooks) as process:
        used = hooks.watch(process, {"client": process.pid, "server": os.getpid()}, 30)
        assert process.wait(30) == 0
    assert used is not None
    assert set(used) == {"client", "server"}
    assert used["client"].cpu_ns > 0
    assert list(tmp_path.iterdir()) == []


def test_a_fio_that_ends_too_soon_gives_nothing(tmp_path: Path) -> None:
    with Hooks(tmp_path) as hooks, asking(hooks, "raise SystemExit(1)") as process:
        assert hooks.watch(process, {}, 30) is None


def test_a_fio_that_never_asks_is_not_waited_for(tmp_path: Path) -> None:
    with Hooks(tmp_path) as hooks, asking(hooks, "import time; time.sleep(60)") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            hooks.watch(process, {}, 0.2)
        process.kill()
