"""The result file: fio's shape, so that what reads fio's reads ours; more of our own stands under ``vdisk``.

A job is one configuration under one workload in one round. Everything else, tables and goals, can be made
again from the jobs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.goals import Standing
from benchmarks.histogram import Histogram
from benchmarks.processes import Usage
from benchmarks.results import Round
from benchmarks.workload import parse_workload

__all__ = ["SCHEMA", "document", "job", "load_rounds", "write"]

SCHEMA = 2  # of what stands under "vdisk"; one more when a field changes its meaning
FORMAT = f"vdisk-bench-{SCHEMA}"  # where fio has its version


def document(
    command: str,
    *,
    rounds: Sequence[Round],
    options: Mapping[str, object],
    machine: Mapping[str, object],
    versions: Mapping[str, str | None],
    commit: str | None,
    seed: int,
    standings: Sequence[Standing] | None = None,
    started_ns: int,
) -> dict[str, Any]:
    """Everything that is known of a run, as plain values."""
    vdisk: dict[str, Any] = {
        "schema": SCHEMA,
        "command": command,
        "commit": commit,
        "machine": machine,
        "versions": versions,
        "seed": seed,
        "options": options,
    }
    if standings is not None:
        vdisk["goals"] = [one.to_json() for one in standings]
    seconds = started_ns // 1_000_000_000
    return {
        "fio version": FORMAT,
        "timestamp": seconds,
        "timestamp_ms": started_ns // 1_000_000,
        "time": time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(seconds)),
        "global options": {name: str(value) for name, value in options.items()},
        "vdisk": vdisk,
        "jobs": [job(one) for one in rounds],
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


def job(one: Round) -> dict[str, Any]:
    """One round as fio writes a job."""
    workload = one.workload
    client = one.usage.get("client")
    return {
        "jobname": f"{one.configuration}/{workload.name}/{one.number}",
        "groupid": 0,
        "error": 0,
        "eta": 0,
        "elapsed": -(-one.took_ns // 1_000_000_000),
        "job options": {
            "rw": workload.fio_rw,
            "bs": str(workload.block_size),
            "iodepth": str(workload.depth),
            "numjobs": str(one.disks),
            **({"rwmixread": str(workload.reads)} if workload.mixed else {}),
            **({"rate_iops": str(one.rate)} if one.rate is not None else {}),
        },
        "read": _direction(one.reads, one),
        "write": _direction(one.writes, one),
        "trim": _direction(Histogram(), one),
        "usr_cpu": round(one.user, 6),
        "sys_cpu": round(one.system, 6),
        "ctx": client.switches if client else 0,
        "vdisk": {
            "configuration": one.configuration,
            "workload": workload.name,
            "round": one.number,
            "took_ns": one.took_ns,
            "disks": one.disks,
            "rate": one.rate,
            "verify_errors": one.verify_errors,
            "usage": {side: used.to_json() for side, used in one.usage.items()},
        },
    }


def _direction(latency: Histogram, one: Round) -> dict[str, Any]:
    """fio's figures of the reads or of the writes of a round."""
    nbytes = latency.count * one.workload.block_size
    bandwidth = round(nbytes / one.took_ns * 1e9)
    times = latency.to_fio()
    return {
        "io_bytes": nbytes,
        "io_kbytes": nbytes // 1024,
        "bw_bytes": bandwidth,
        "bw": bandwidth // 1024,
        "iops": round(latency.count / one.took_ns * 1e9, 6),
        "runtime": round(one.took_ns / 1e6) if latency.count else 0,
        "total_ios": latency.count,
        "short_ios": 0,
        "drop_ios": 0,
        "slat_ns": {"min": 0, "max": 0, "mean": 0.0, "stddev": 0.0, "N": 0},
        "clat_ns": times,
        "lat_ns": {name: value for name, value in times.items() if name != "bins"},
    }


def load_rounds(content: Mapping[str, Any]) -> list[Round]:
    """The rounds of a file that :func:`document` made. Raises: ValueError (of another schema)."""
    if content["vdisk"]["schema"] != SCHEMA:
        raise ValueError(f"a result file of schema {content['vdisk']['schema']}, not {SCHEMA}")
    return [_round(one) for one in content["jobs"]]


def _round(one: Mapping[str, Any]) -> Round:
    ours = one["vdisk"]
    return Round(
        configuration=ours["configuration"],
        workload=parse_workload(ours["workload"]),
        number=ours["round"],
        took_ns=ours["took_ns"],
        reads=Histogram.from_fio(one["read"]["clat_ns"]),
        writes=Histogram.from_fio(one["write"]["clat_ns"]),
        usage={side: Usage(**used) for side, used in ours["usage"].items()},
        user=one["usr_cpu"],
        system=one["sys_cpu"],
        disks=ours["disks"],
        rate=ours["rate"],
        verify_errors=ours["verify_errors"],
    )
