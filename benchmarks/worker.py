"""The client under measurement: one process, one workload, all its disks; JSON in, JSON out.

A process of its own, so that what it uses can be told from what the benchmark itself does, and so that
every round starts with a fresh connection and a fresh interpreter. Run by :mod:`benchmarks.ours`: ``python
-m benchmarks.worker``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import vdc
from benchmarks.blocking import blocking_fill, blocking_readback, blocking_stretch
from benchmarks.drivers import async_fill, async_readback, async_stretch
from benchmarks.processes import Snapshot
from benchmarks.stretch import Job, Stretch
from benchmarks.task import Task
from benchmarks.verify import Ledger
from benchmarks.workload import parse_workload, places

__all__ = ["main"]

CHECKED = 32  # places of each disk compared with the backend afterwards

Answer = dict[str, object]


class _Meter:
    """What every side uses between two moments."""

    def __init__(self, task: Task) -> None:
        self._pids = {"client": os.getpid(), **task.pids}
        self._before: dict[str, Snapshot] = {}
        self._times = resource.getrusage(resource.RUSAGE_SELF)

    def start(self) -> None:
        self._times = resource.getrusage(resource.RUSAGE_SELF)
        self._before = {side: Snapshot.of(pid) for side, pid in self._pids.items()}

    def stop(self, stretch: Stretch) -> Answer:
        used = {
            side: Snapshot.of(pid).since(self._before[side]).to_json() for side, pid in self._pids.items()
        }
        times = resource.getrusage(resource.RUSAGE_SELF)
        reads, writes = stretch.histograms()
        return {
            "took_ns": stretch.took_ns,
            "reads": reads.to_fio(),
            "writes": writes.to_fio(),
            "usage": used,
            "user": (times.ru_utime - self._times.ru_utime) / stretch.took_ns * 1e11,
            "system": (times.ru_stime - self._times.ru_stime) / stretch.took_ns * 1e11,
        }


def _job(task: Task, sizes: list[int]) -> Job:
    workload = parse_workload(task.workload)
    return Job(
        workload=workload,
        places=[places(workload, size, f"{task.seed} {number}") for number, size in enumerate(sizes)],
        pool=task.pool,
        polling=task.poll_us > 0,
        rate=task.rate,
        ledgers=[Ledger(task.seed, number, size, workload.block_size) for number, size in enumerate(sizes)]
        if task.verify
        else None,
    )


def _verdict(job: Job, answer: Answer) -> Answer:
    if job.ledgers is not None:
        answer["verify_errors"] = sum(ledger.errors for ledger in job.ledgers)
        answer["first_error"] = next((one.first_error for one in job.ledgers if one.first_error), None)
    return answer


def _samples(task: Task, size: int) -> list[int]:
    """Where the data are compared with the file."""
    dice = random.Random(f"{task.seed} check")
    return [dice.randrange(size // 4096) * 4096 for _ in range(CHECKED)]


def _compare(name: str, offset: int, data: bytes) -> None:
    """What the disk gave must be what the backend's file holds: a fast wrong answer is no result."""
    with Path(name).open("rb") as file:
        file.seek(offset)
        if file.read(4096) != data:
            raise RuntimeError(f"the disk gave other data at {offset} than {name} holds")


async def _async_run(task: Task) -> Answer:
    meter = _Meter(task)
    async with AsyncExitStack() as stack:
        disks = [
            await stack.enter_async_context(await vdc.open(uri, poll_us=task.poll_us)) for uri in task.uris
        ]
        job = _job(task, [disk.size for disk in disks])
        for disk, ledger in zip(disks, job.ledgers or (), strict=False):
            await async_fill(disk, ledger)
        await async_stretch(disks, job, task.warmup)
        meter.start()
        answer = meter.stop(await async_stretch(disks, job, task.seconds))
        for disk, ledger in zip(disks, job.ledgers or (), strict=False):
            await async_readback(disk, ledger)
        for disk, name in zip(disks, task.files, strict=False):
            for offset in _samples(task, disk.size):
                _compare(name, offset, await disk.pread(offset, 4096))
    return _verdict(job, answer)


def _blocking_run(task: Task) -> Answer:
    meter = _Meter(task)
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(len(task.uris)))
        disks = [stack.enter_context(vdc.connect(uri, poll_us=task.poll_us)) for uri in task.uris]
        job = _job(task, [disk.size for disk in disks])
        for disk, ledger in zip(disks, job.ledgers or (), strict=False):
            blocking_fill(disk, ledger)
        blocking_stretch(threads, disks, job, task.warmup)
        meter.start()
        answer = meter.stop(blocking_stretch(threads, disks, job, task.seconds))
        for disk, ledger in zip(disks, job.ledgers or (), strict=False):
            blocking_readback(disk, ledger)
        for disk, name in zip(disks, task.files, strict=False):
            for offset in _samples(task, disk.size):
                _compare(name, offset, disk.pread(offset, 4096))
    return _verdict(job, answer)


def _loop_runner(loop: str) -> Callable[[Coroutine[Any, Any, Answer]], Answer]:
    if loop == "uvloop":
        import uvloop

        return uvloop.run
    return asyncio.run


def main() -> None:
    """Read a :class:`Task` from standard input, run it, write the answer to standard output."""
    task = Task(**json.load(sys.stdin))
    gc.collect()
    answer = _blocking_run(task) if task.api == "blocking" else _loop_runner(task.loop)(_async_run(task))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
