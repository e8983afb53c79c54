"""One measured stretch through the API for asyncio.

In a closed loop ``depth`` requests of each disk are always in flight, as that many coroutines. The clock is
read once per answer, and that reading is also the start of the next request: a latency is what the caller
waits, its own share of the event loop included.

In an open loop requests are due at fixed times. The same coroutines take them in turn; when all of them wait
for an answer, a request that is due waits for one of them, and its latency counts from when it was due. A
stall therefore costs every request that it held up, not just the one it began with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from time import perf_counter_ns

import vdc
from benchmarks.alarm import Alarm
from benchmarks.stretch import Job, Stretch, payload
from benchmarks.verify import Ledger

__all__ = ["async_fill", "async_readback", "async_stretch"]

Request = Callable[[int], Awaitable[object]]  # from a place to its answer


async def async_stretch(disks: list[vdc.Disk], job: Job, seconds: float) -> Stretch:
    """Run ``job`` for ``seconds`` on all ``disks`` at once."""
    stretch = Stretch()
    size, depth = job.workload.block_size, job.workload.depth
    buffers = [[await disk.buffer(size) if job.pool else None for _ in range(depth)] for disk in disks]
    requests = [
        (_request(disk, job, number, buffer), job.places[number])
        for number, disk in enumerate(disks)
        for buffer in buffers[number]
    ]
    begin = perf_counter_ns()
    stop_at = begin + round(seconds * 1e9)
    if job.rate is not None:
        due = (begin + round(number * job.interval_ns) for number in count())
        with Alarm(asyncio.get_running_loop()) as alarm:
            async with asyncio.TaskGroup() as tasks:
                for request, places in requests:
                    tasks.create_task(_open_loop(request, places, stretch, due, alarm, stop_at))
            await alarm.until(stop_at)  # nothing more is due, but the time is not over
    else:
        loop = _mixed_loop if job.workload.mixed else _closed_loop
        async with asyncio.TaskGroup() as tasks:
            for request, places in requests:
                tasks.create_task(loop(request, places, stretch, stop_at))
    stretch.took_ns = perf_counter_ns() - begin
    for buffer in (buffer for group in buffers for buffer in group if buffer is not None):
        buffer.release()
    return stretch


async def _closed_loop(request: Request, places: Iterator[int], stretch: Stretch, stop_at: int) -> None:
    """Only reads or only writes: the choice is made once."""
    place = next(places)
    note = stretch.times[place & 1].append
    last = perf_counter_ns()
    while last < stop_at:
        await request(place)
        now = perf_counter_ns()
        note(now - last)
        last = now
        place = next(places)


async def _mixed_loop(request: Request, places: Iterator[int], stretch: Stretch, stop_at: int) -> None:
    last = perf_counter_ns()
    while last < stop_at:
        place = next(places)
        await request(place)
        now = perf_counter_ns()
        stretch.times[place & 1].append(now - last)
        last = now


async def _open_loop(
    request: Request, places: Iterator[int], stretch: Stretch, due: Iterator[int], alarm: Alarm, stop_at: int
) -> None:
    while (when := next(due)) < stop_at:
        await alarm.until(when)
        place = next(places)
        await request(place)
        stretch.times[place & 1].append(perf_counter_ns() - when)


def _request(disk: vdc.Disk, job: Job, number: int, buffer: vdc.Buffer | None) -> Request:
    """The one call that a coroutine repeats."""
    if job.ledgers is not None:
        return _checked(disk, job.ledgers[number], buffer)
    size = job.workload.block_size
    data = payload(size)
    if buffer is None:
        read: Request = lambda place: disk.pread(place, size)  # noqa: E731 - `one of two` reads best so
        write: Request = lambda place: disk.pwrite(place - 1, data)  # noqa: E731 - likewise
    else:
        buffer.view[:] = data
        read = lambda place: disk.preadv_into(place, buffer)  # noqa: E731 - likewise
        write = lambda place: disk.pwrite(place - 1, buffer)  # noqa: E731 - likewise
    if job.workload.mixed:
        return lambda place: write(place) if place & 1 else read(place)
    return write if job.workload.write else read


def _checked(disk: vdc.Disk, ledger: Ledger, buffer: vdc.Buffer | None) -> Request:
    """As :func:`_request`, with everything written and read known to ``ledger``."""

    async def request(place: int) -> None:
        if place & 1:
            offset, data = ledger.begin_write(place - 1)
            if buffer is not None:
                buffer.view[:] = data
            await disk.pwrite(offset, data if buffer is None else buffer)
            ledger.end_write(offset)
            return
        oldest = ledger.begin_read(place)
        if buffer is None:
            ledger.end_read(place, oldest, await disk.pread(place, ledger.unit))
        else:
            await disk.preadv_into(place, buffer)
            ledger.end_read(place, oldest, buffer.view)

    return request


async def async_fill(disk: vdc.Disk, ledger: Ledger) -> None:
    """Write generation 0 everywhere."""
    await _everywhere(ledger, lambda offset: disk.pwrite(offset, ledger.content(offset, 0)))


async def async_readback(disk: vdc.Disk, ledger: Ledger) -> None:
    """Read everything once more: now only the last generation of each unit is right."""
    await _everywhere(ledger, _checked(disk, ledger, None))


async def _everywhere(ledger: Ledger, request: Request) -> None:
    offsets = iter(range(0, ledger.units * ledger.unit, ledger.unit))

    async def loop() -> None:
        for offset in offsets:
            await request(offset)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(loop())
