"""The client under measurement: one process, one disk, all workloads once; JSON in, JSON out.

A process of its own, so that what it uses can be told from what the benchmark itself does, and so that
every round starts with a fresh connection and a fresh interpreter. Run by :mod:`benchmarks.disk`: ``python
-m benchmarks.worker``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
from array import array
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import vdc
import vdc.sync
from benchmarks.drivers import async_stretch, blocking_stretch
from benchmarks.histogram import Histogram
from benchmarks.processes import Usage, usage
from benchmarks.task import Task
from benchmarks.workload import Workload, offsets, parse_workload

__all__ = ["main"]

CHECKED = 32  # places compared with the backend after each workload


class _Meter:
    """CPU and context switches of both sides between two moments."""

    def __init__(self, server_pid: int) -> None:
        self.pids = {"client": os.getpid(), "server": server_pid}
        self.before: dict[str, Usage] = {}

    def start(self) -> None:
        self.before = {side: usage(pid) for side, pid in self.pids.items()}

    def stop(self) -> dict[str, dict[str, int]]:
        return {side: (usage(pid) - self.before[side]).to_json() for side, pid in self.pids.items()}


def _result(workload: Workload, latencies: array[int], took_ns: int, used: object) -> dict[str, object]:
    histogram = Histogram()
    histogram.record_all(latencies)
    return {
        "workload": workload.name,
        "ios": len(latencies),
        "took_ns": took_ns,
        "usage": used,
        "latency": histogram.to_json(),
    }


def _places(task: Task, size: int) -> list[int]:
    """Where the data are checked: the same in every process."""
    dice = random.Random(f"{task.seed} check")
    return [dice.randrange(size // 4096) * 4096 for _ in range(CHECKED)]


def _compare(task: Task, offset: int, data: bytes | None) -> None:
    """What the disk gave must be what the backend's file holds: a fast wrong answer is no result."""
    if task.file is None:
        return
    with Path(task.file).open("rb") as file:
        file.seek(offset)
        if file.read(4096) != data:
            raise RuntimeError(f"{task.uri} returned other data at {offset} than the file holds")


async def _async_run(task: Task) -> list[dict[str, object]]:
    results = []
    meter = _Meter(task.server_pid)
    async with await vdc.open(task.uri, poll_us=task.poll_us) as disk:
        for name in task.workloads:
            workload = parse_workload(name)
            places = offsets(workload, disk.size, task.seed)
            await async_stretch(disk, workload, places, task.warmup, pool=task.pool)
            meter.start()
            latencies, took = await async_stretch(disk, workload, places, task.seconds, pool=task.pool)
            results.append(_result(workload, latencies, took, meter.stop()))
            for offset in _places(task, disk.size):
                _compare(task, offset, await disk.pread(offset, 4096))
    return results


def _blocking_run(task: Task) -> list[dict[str, object]]:
    results = []
    meter = _Meter(task.server_pid)
    with vdc.connect(task.uri, poll_us=task.poll_us) as disk:
        for name in task.workloads:
            workload = parse_workload(name)
            places = offsets(workload, disk.size, task.seed)
            blocking_stretch(disk, workload, places, task.warmup, pool=task.pool)
            meter.start()
            latencies, took = blocking_stretch(disk, workload, places, task.seconds, pool=task.pool)
            results.append(_result(workload, latencies, took, meter.stop()))
            for offset in _places(task, disk.size):
                _compare(task, offset, disk.pread(offset, 4096))
    return results


def _loop_runner(
    loop: str,
) -> Callable[[Coroutine[Any, Any, list[dict[str, object]]]], list[dict[str, object]]]:
    if loop == "uvloop":
        import uvloop

        return uvloop.run
    return asyncio.run


def main() -> None:
    """Read a :class:`Task` from standard input, run it, write the results to standard output."""
    task = Task(**json.load(sys.stdin))
    gc.collect()
    results = _blocking_run(task) if task.api == "blocking" else _loop_runner(task.loop)(_async_run(task))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
