"""One measured stretch through the blocking API: ``pread`` and ``pwrite`` at depth 1, else submit and wait.

A blocking disk belongs to one thread, so each disk has a thread of its own. It has no wait with a time limit:
in an open loop the thread looks for answers until the next request is due, without pause where the client
polls, else with a short sleep after each look in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns, sleep

import vdc
from benchmarks.stretch import Job, Stretch, payload
from benchmarks.verify import Ledger

__all__ = ["blocking_fill", "blocking_readback", "blocking_stretch"]

PAUSE_NS = 50_000  # between two looks of an open loop that does not poll


def blocking_stretch(
    threads: ThreadPoolExecutor, disks: list[vdc.BlockingDisk], job: Job, seconds: float
) -> Stretch:
    """Run ``job`` for ``seconds`` on all ``disks`` at once, each in one of the ``threads``."""
    begin = perf_counter_ns()
    stop_at = begin + round(seconds * 1e9)
    if len(disks) == 1:
        stretches = [_one_disk(disks[0], job, 0, 1, begin, stop_at)]
    else:
        running = [
            threads.submit(_one_disk, disk, job, number, len(disks), begin, stop_at)
            for number, disk in enumerate(disks)
        ]
        stretches = [one.result() for one in running]
    all_ = Stretch(took_ns=perf_counter_ns() - begin)
    for one in stretches:
        for mine, theirs in zip(all_.times, one.times, strict=True):
            mine.extend(theirs)
    return all_


def _one_disk(disk: vdc.BlockingDisk, job: Job, number: int, disks: int, begin: int, stop_at: int) -> Stretch:
    stretch = Stretch()
    places = job.places[number]
    if job.rate is None and job.ledgers is None and job.workload.depth == 1 and not job.workload.mixed:
        _one_at_a_time(disk, job, places, stretch, stop_at)
        return stretch
    queue = _Queue(disk, job, number, stretch)
    if job.rate is None:
        for _ in range(job.workload.depth):
            queue.submit(next(places), perf_counter_ns())
        while queue.started:
            now = queue.collect(1)
            for _ in range(job.workload.depth - len(queue.started) if now < stop_at else 0):
                queue.submit(next(places), now)
    else:
        _open_loop(queue, job, number / disks, disks, places, begin, stop_at)
    queue.release()
    return stretch


def _one_at_a_time(
    disk: vdc.BlockingDisk, job: Job, places: Iterator[int], stretch: Stretch, stop_at: int
) -> None:
    size = job.workload.block_size
    data: bytes | vdc.Buffer = payload(size)
    buffer = disk.buffer(size) if job.pool else None
    if buffer is not None:
        buffer.view[:] = payload(size)
        data = buffer
    note = stretch.times[job.workload.write].append
    last = perf_counter_ns()
    while last < stop_at:
        place = next(places)
        if place & 1:
            disk.pwrite(place - 1, data)
        elif buffer is None:
            disk.pread(place, size)
        else:
            disk.preadv_into(place, buffer)
        now = perf_counter_ns()
        note(now - last)
        last = now
    if buffer is not None:
        buffer.release()


def _open_loop(
    queue: _Queue,
    job: Job,
    phase: float,
    disks: int,
    places: Iterator[int],
    begin: int,
    stop_at: int,
) -> None:
    """Submit what is due as long as there is room; look for answers in between."""
    interval = job.interval_ns * disks
    number = 0
    while True:
        due = begin + round((number + phase) * interval)
        while due < stop_at and len(queue.started) < job.workload.depth and due <= perf_counter_ns():
            queue.submit(next(places), due)
            number += 1
            due = begin + round((number + phase) * interval)
        if due >= stop_at and not queue.started:
            sleep(max(stop_at - perf_counter_ns(), 0) / 1e9)  # nothing more is due, but the time is not over
            return
        if due >= stop_at or len(queue.started) == job.workload.depth:
            queue.collect(1)
            continue
        before = len(queue.started)
        now = queue.collect(0) if queue.started else perf_counter_ns()
        if not job.polling and len(queue.started) == before and due > now:
            sleep(min(due - now, PAUSE_NS) / 1e9)


class _Queue:
    """What is in flight on one disk."""

    def __init__(self, disk: vdc.BlockingDisk, job: Job, number: int, stretch: Stretch) -> None:
        self._disk = disk
        self._stretch = stretch
        self._size = job.workload.block_size
        self._data = payload(self._size)
        self._ledger = job.ledgers[number] if job.ledgers is not None else None
        self._free = [disk.buffer(self._size) for _ in range(job.workload.depth)] if job.pool else []
        for buffer in self._free:
            buffer.view[:] = self._data
        self.started: dict[int, tuple[int, int, int, vdc.Buffer | None]] = {}
        """Token → since when, place, oldest generation, buffer."""

    def submit(self, place: int, since: int) -> None:
        """Start the request of ``place``, whose latency counts from ``since``."""
        buffer = self._free.pop() if self._free else None
        oldest = 0
        if place & 1:
            data = self._data
            if self._ledger is not None:
                offset, data = self._ledger.begin_write(place - 1)
                place = offset + 1
                if buffer is not None:
                    buffer.view[:] = data
            token = self._disk.submit_write(place - 1, data if buffer is None else buffer)
        else:
            if self._ledger is not None:
                oldest = self._ledger.begin_read(place)
            token = self._disk.submit_read(place, self._size if buffer is None else buffer)
        self.started[token] = since, place, oldest, buffer

    def collect(self, least: int) -> int:
        """Take ``least`` answers or more; returns when that was. Raises: OSError (a request failed)."""
        answers = self._disk.wait(least)
        now = perf_counter_ns()
        for token, result in answers:
            if isinstance(result, OSError):
                raise result
            since, place, oldest, buffer = self.started.pop(token)
            self._stretch.times[place & 1].append(now - since)
            if self._ledger is not None:
                self._check(self._ledger, place, oldest, buffer.view if buffer is not None else result)
            if buffer is not None:
                self._free.append(buffer)
        return now

    @staticmethod
    def _check(ledger: Ledger, place: int, oldest: int, data: bytes | memoryview | None) -> None:
        if place & 1:
            ledger.end_write(place - 1)
        else:
            ledger.end_read(place, oldest, data if data is not None else b"")

    def release(self) -> None:
        """Give the buffers back."""
        for buffer in self._free:
            buffer.release()


def blocking_fill(disk: vdc.BlockingDisk, ledger: Ledger) -> None:
    """Write generation 0 everywhere."""
    _everywhere(ledger, lambda offset: disk.pwrite(offset, ledger.content(offset, 0)))


def blocking_readback(disk: vdc.BlockingDisk, ledger: Ledger) -> None:
    """Read everything once more: now only the last generation of each unit is right."""

    def read(offset: int) -> None:
        ledger.end_read(offset, ledger.begin_read(offset), disk.pread(offset, ledger.unit))

    _everywhere(ledger, read)


def _everywhere(ledger: Ledger, request: Callable[[int], None]) -> None:
    for offset in range(0, ledger.units * ledger.unit, ledger.unit):
        request(offset)
