"""Rounds that nobody measured, for the tests of what is made from rounds."""

from benchmarks.histogram import Histogram
from benchmarks.processes import Usage
from benchmarks.results import Round
from benchmarks.workload import parse_workload

__all__ = ["a_round"]


def a_round(
    configuration: str = "shm async polling",
    workload: str = "randread-4k-1",
    number: int = 0,
    *,
    ios: int = 1000,
    latency_ns: int = 100,
    sides: tuple[str, ...] = ("client", "server"),
    disks: int = 1,
    rate: float | None = None,
    verify_errors: int | None = None,
) -> Round:
    """1000 I/Os of 100 ns in a second, or as told; each side used 2 ms and 50 context switches."""
    latency, nothing = Histogram(), Histogram()
    latency.add(latency_ns, ios)
    what = parse_workload(workload)
    return Round(
        configuration=configuration,
        workload=what,
        number=number,
        took_ns=1_000_000_000,
        reads=nothing if what.write else latency,
        writes=latency if what.write else nothing,
        usage={side: Usage(cpu_ns=2_000_000, voluntary=30, involuntary=20) for side in sides},
        user=10.0,
        system=5.0,
        disks=disks,
        rate=rate,
        verify_errors=verify_errors,
    )
