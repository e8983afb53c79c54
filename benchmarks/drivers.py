"""One measured stretch through either API: a closed loop that keeps ``depth`` requests in flight.

The clock is read once per answer, and that reading is also the start of the next request. A latency is
therefore what the caller waits, its own share of the event loop included.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter_ns

import vdc
import vdc.sync
from benchmarks.workload import Workload

__all__ = ["async_stretch", "blocking_stretch", "payload"]


async def async_stretch(
    disk: vdc.Disk, workload: Workload, places: Iterator[int], seconds: float, *, pool: bool
) -> tuple[array[int], int]:
    """Run ``workload`` for ``seconds`` as ``depth`` coroutines: (latencies, nanoseconds it really took)."""
    latencies = array("q")
    buffers = [await disk.buffer(workload.block_size) for _ in range(workload.depth)] if pool else []
    begin = perf_counter_ns()
    stop_at = begin + round(seconds * 1e9)

    async def loop(request: Callable[[int], Awaitable[object]]) -> None:
        last = perf_counter_ns()
        while last < stop_at:
            await request(next(places))
            now = perf_counter_ns()
            latencies.append(now - last)
            last = now

    async with asyncio.TaskGroup() as tasks:
        for number in range(workload.depth):
            tasks.create_task(loop(_async_request(disk, workload, buffers[number] if pool else None)))
    took = perf_counter_ns() - begin
    for buffer in buffers:
        buffer.release()
    return latencies, took


def _async_request(
    disk: vdc.Disk, workload: Workload, buffer: vdc.Buffer | None
) -> Callable[[int], Awaitable[object]]:
    """The one call that a coroutine repeats, from an offset to its answer."""
    size = workload.block_size
    if buffer is None:
        data = payload(size)
        if workload.write:
            return lambda offset: disk.pwrite(offset, data)
        return lambda offset: disk.pread(offset, size)
    if workload.write:
        buffer.view[:] = payload(size)
        return lambda offset: disk.pwrite(offset, buffer)
    return lambda offset: disk.preadv_into(offset, buffer)


def blocking_stretch(
    disk: vdc.sync.Disk, workload: Workload, places: Iterator[int], seconds: float, *, pool: bool
) -> tuple[array[int], int]:
    """Run ``workload`` for ``seconds`` with submit and wait: (latencies, nanoseconds it really took)."""
    latencies = array("q")
    buffers = [disk.buffer(workload.block_size) for _ in range(workload.depth)] if pool else []
    submit = _submitter(disk, workload)
    begin = perf_counter_ns()
    stop_at = begin + round(seconds * 1e9)
    started: dict[int, tuple[int, vdc.Buffer | None]] = {}
    for number in range(workload.depth):
        buffer = buffers[number] if pool else None
        started[submit(next(places), buffer)] = perf_counter_ns(), buffer
    while started:
        answers = disk.wait()
        now = perf_counter_ns()
        for token, result in answers:
            if isinstance(result, OSError):
                raise result
            start, buffer = started.pop(token)
            latencies.append(now - start)
            if now < stop_at:
                started[submit(next(places), buffer)] = now, buffer
    took = perf_counter_ns() - begin
    for held in buffers:
        held.release()
    return latencies, took


def _submitter(disk: vdc.sync.Disk, workload: Workload) -> Callable[[int, vdc.Buffer | None], int]:
    """The one call that is repeated, from an offset and a buffer to a token."""
    size = workload.block_size
    data = payload(size)
    if workload.write:
        return lambda offset, buffer: disk.submit_write(offset, data if buffer is None else buffer)
    return lambda offset, buffer: disk.submit_read(offset, size if buffer is None else buffer)


def payload(size: int) -> bytes:
    """What is written: no zeros, which a backend could treat in its own way."""
    return (bytes(range(1, 256)) * (size // 255 + 1))[:size]
