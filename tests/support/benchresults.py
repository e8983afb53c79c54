"""Result files of benchmarks that never ran: the shape of the real ones, figures made up from a seed.

Only tests may use them. What ``python -m benchmarks`` writes has been measured.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.histogram import bucket_of, bucket_range
from benchmarks.workload import MiB, Workload, parse_workload

__all__ = ["MACHINE", "OPTIONS", "a_file", "a_job", "a_peers_file", "a_run", "write"]

Json = dict[str, Any]

MACHINE: Json = {
    "cpu": "Made-up 9000",
    "cpus": 2,
    "memory_bytes": 8 << 30,
    "governor": None,
    "virtual": True,
    "kernel": "6.1.0-0",
    "python": "3.11.2",
    "packages": {"construct": "2.10.70", "uvloop": None},
    "directory": "/dev/shm",
    "filesystem": "tmpfs",
}
OPTIONS: Json = {"size": 256 * MiB, "backend": "file", "seconds": 1.2, "seed": 1}

_EMPTY: Json = {"min": 0, "max": 0, "mean": 0.0, "stddev": 0.0, "N": 0}
_WAKE_UPS = 200


def _direction(latencies: list[int], block_size: int, took_ns: int) -> Json:
    """fio's figures of one direction, bins and all."""
    bins = Counter(sum(bucket_range(bucket_of(value))) // 2 for value in latencies)
    times = (
        {
            "min": min(latencies),
            "max": max(latencies),
            "mean": sum(latencies) / len(latencies),
            "stddev": 0.0,
            "N": len(latencies),
            "bins": {str(nanoseconds): times for nanoseconds, times in sorted(bins.items())},
        }
        if latencies
        else dict(_EMPTY)
    )
    return {
        "io_bytes": len(latencies) * block_size,
        "iops": len(latencies) / took_ns * 1e9,
        "runtime": took_ns // 1_000_000,
        "total_ios": len(latencies),
        "slat_ns": dict(_EMPTY),
        "clat_ns": times,
        "lat_ns": times,
    }


def _usage(cpu_ns: int, ios: int, counted: bool = True) -> Json:
    """What a side used; not every side's switches can be counted."""
    return {"cpu_ns": cpu_ns} | ({"voluntary": ios // 8, "involuntary": ios // _WAKE_UPS} if counted else {})


def a_job(
    configuration: str = "shm async polling",
    workload: str = "randread-4k-32",
    number: int = 0,
    *,
    latencies: Iterable[int] = (100_000,) * 1000,
    took_ns: int = 1_000_000_000,
    sides: Mapping[str, int] | None = None,
    disks: int = 1,
    rate: float | None = None,
    verify_errors: int | None = None,
) -> Json:
    """One round: these latencies in nanoseconds, over so long; ``sides`` is CPU nanoseconds for each I/O."""
    what: Workload = parse_workload(workload)
    values = list(latencies)
    none: list[int] = []
    return {
        "jobname": f"{configuration}/{workload}/{number}",
        "groupid": 0,
        "error": 0,
        "job options": {
            "rw": {
                (False, False): "randread",
                (False, True): "read",
                (True, False): "randwrite",
                (True, True): "write",
            }[what.write, what.sequential],
            "bs": str(what.block_size),
            "iodepth": str(what.depth),
        },
        "read": _direction(none if what.write else values, what.block_size, took_ns),
        "write": _direction(values if what.write else none, what.block_size, took_ns),
        "trim": _direction(none, what.block_size, took_ns),
        "usr_cpu": 50.0,
        "sys_cpu": 10.0,
        "ctx": 3,
        "vdisk": {
            "configuration": configuration,
            "workload": workload,
            "round": number,
            "took_ns": took_ns,
            "disks": disks,
            "rate": rate,
            "verify_errors": verify_errors,
            "usage": {
                side: _usage(each * len(values), len(values), side != "front")
                for side, each in (sides or {"client": 2_000, "server": 3_000}).items()
            },
        },
    }


def a_run(
    configuration: str,
    workload: str,
    rates: Iterable[float],
    *,
    seed: int = 1,
    ios: int = 2000,
    sides: Mapping[str, int] | None = None,
    disks: int = 1,
    rate: float | None = None,
) -> list[Json]:
    """A round for each of ``rates`` (I/Os a second), with latencies that fit them and have a tail."""
    depth = parse_workload(workload).depth * disks
    jobs = []
    for number, iops in enumerate(rates):
        dice = random.Random(f"{seed} {configuration} {workload} {disks} {number}")
        typical = depth / iops * 1e9
        latencies = [round(typical * 0.8 * dice.lognormvariate(0, 0.25)) for _ in range(ios)]
        for slow in range(0, ios, 150):
            latencies[slow] = round(typical * dice.uniform(2, 12))
        jobs.append(
            a_job(
                configuration,
                workload,
                number,
                latencies=latencies,
                took_ns=round(ios / iops * 1e9),
                sides=sides,
                disks=disks,
                rate=rate,
            )
        )
    return jobs


def a_file(jobs: Iterable[Json], **note: object) -> Json:
    """A whole result file; ``note`` replaces keys of its ``vdisk`` object."""
    return {
        "fio version": "vdisk-bench-2",
        "timestamp": 1_800_000_000,
        "timestamp_ms": 1_800_000_000_000,
        "time": "Fri Jan 15 08:00:00 2027",
        "global options": {key: str(value) for key, value in OPTIONS.items()},
        "vdisk": {
            "schema": 2,
            "command": "disk",
            "commit": "0123456789ab",
            "machine": dict(MACHINE),
            "versions": {"python": "3.11.2", "fio": "fio-3.33"},
            "seed": 1,
            "options": dict(OPTIONS),
        }
        | note,
        "jobs": list(jobs),
    }


#: Configuration → (I/Os a second at depth 1, at depth 32, CPU of its sides).
_STANDING: dict[str, tuple[float, float, Json]] = {
    "shm async polling": (95_000, 260_000, {"client": 3_100, "server": 2_600}),
    "shm blocking polling": (170_000, 280_000, {"client": 2_300, "server": 2_200}),
    "shm async sleeping": (16_000, 120_000, {"client": 4_900, "server": 4_100}),
    "vdc serve --nbd, fio": (9_000, 60_000, {"client": 4_000, "front": 9_000, "server": 4_200}),
    "nbdkit file, libnbd": (31_000, 180_000, {"client": 2_600, "server": 5_800}),
    "qemu-nbd, fio": (17_000, 66_000, {"client": 5_000, "server": 9_200}),
    "fio psync, bare file": (610_000, 610_000, {"client": 1_500}),
}


def a_peers_file(seed: int = 1, rounds: int = 5, faster: float = 1.0) -> Json:
    """All that a report can show: depths, peers, disks, open loop, goals; ``faster`` is what we differ by."""
    dice = random.Random(seed)
    jobs: list[Json] = []
    for configuration, (alone, full, sides) in _STANDING.items():
        ours = configuration.startswith(("shm", "vdc"))
        for workload, iops in (
            ("randread-4k-1", alone),
            ("randread-4k-8", (alone * full) ** 0.5 * 1.15),
            ("randread-4k-32", full),
            ("seqread-1m-4", min(full, 260_000) / 40),
        ):
            middle = iops * (faster if ours else 1)
            rates = [middle * dice.uniform(0.93, 1.07) for _ in range(rounds)]
            jobs += a_run(configuration, workload, rates, seed=seed, sides=sides)
    for disks in (1, 4, 16, 64):
        rates = [disks**0.3 * 90_000 * dice.uniform(0.95, 1.05) for _ in range(rounds)]
        sides = {"client": 3_000 + 20 * disks, "server": 2_500 + 30 * disks}
        jobs += a_run("shm async polling", "randread-4k-4", rates, seed=seed, disks=disks, sides=sides)
    jobs += a_run("shm async polling", "randread-4k-32", [20_000] * rounds, seed=seed, rate=20_000)
    return a_file(
        jobs,
        command="peers",
        versions={"python": "3.11.2", "fio": "fio-3.33", "nbdkit": "1.32.5", "qemu-nbd": "7.2.13"},
        goals=[
            {
                "workload": workload,
                "configuration": configuration,
                "against": against,
                "goal": goal,
                "ratio": ratio,
                "spread": 0.06,
                "verdict": verdict,
                "title": parse_workload(workload).title,
                "best": ["nbdkit file, libnbd"] * 4 + ["qemu-nbd, fio"],
            }
            for workload, configuration, against, goal, ratio, verdict in (
                ("randread-4k-1", "shm async polling", "best NBD peer", 6.0, 3.06, "missed"),
                ("randread-4k-32", "shm async polling", "best NBD peer", 1.2, 1.44, "met"),
                ("randread-4k-32", "shm async polling", "fio psync, bare file", 0.4, 0.42, "tie"),
            )
        ],
    )


def write(path: Path, document: Json) -> Path:
    """Write ``document`` to ``path``, and return that."""
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
