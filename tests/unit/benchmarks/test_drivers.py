"""The drivers of both APIs on disks of their own making: what they ask for, what they count, what they check.

The disks here are dictionaries with a memory of what was asked; the real ones are in the interop tests.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from time import sleep
from typing import Any, cast

import pytest

import vdc
from benchmarks.blocking import blocking_fill, blocking_readback, blocking_stretch
from benchmarks.drivers import async_fill, async_readback, async_stretch
from benchmarks.stretch import Job, payload
from benchmarks.verify import Ledger
from benchmarks.workload import parse_workload, places

SIZE = 64 * 4096


class Buffer:
    """As vdc's, without anybody to share with."""

    def __init__(self, nbytes: int) -> None:
        self.view = memoryview(bytearray(nbytes))
        self.released = False

    def release(self) -> None:
        """Note that it was given back."""
        self.released = True


class Disk:
    """What both disks have in common: memory, and a fault that can be switched on."""

    def __init__(self) -> None:
        self.memory = bytearray(SIZE)
        self.reads: list[int] = []
        self.writes: list[int] = []
        self.in_flight = self.most_in_flight = 0
        self.buffers: list[Buffer] = []
        self.forgetful = False

    def read(self, offset: int, nbytes: int) -> bytes:
        """Now, after the other threads had their turn."""
        sleep(0)
        self.reads.append(offset)
        return bytes(self.memory[offset : offset + nbytes])

    def write(self, offset: int, data: Any) -> None:  # noqa: ANN401 - a buffer or bytes
        """Now, or never."""
        sleep(0)
        self.writes.append(offset)
        content = data.view if isinstance(data, Buffer) else data
        if not self.forgetful:
            self.memory[offset : offset + len(content)] = content

    def make_buffer(self, nbytes: int) -> Buffer:
        """One that is remembered."""
        self.buffers.append(Buffer(nbytes))
        return self.buffers[-1]


class AsyncDisk(Disk):
    """Answers after a turn of the loop."""

    async def buffer(self, nbytes: int) -> Buffer:
        """As vdc.Disk's."""
        return self.make_buffer(nbytes)

    async def _turn(self) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1

    async def pread(self, offset: int, nbytes: int) -> bytes:
        """As vdc.Disk's."""
        await self._turn()
        return self.read(offset, nbytes)

    async def preadv_into(self, offset: int, target: Buffer) -> None:
        """As vdc.Disk's."""
        await self._turn()
        target.view[:] = self.read(offset, len(target.view))

    async def pwrite(self, offset: int, data: Any) -> None:  # noqa: ANN401 - a buffer or bytes
        """As vdc.Disk's."""
        await self._turn()
        self.write(offset, data)


class BlockingDisk(Disk):
    """Answers all that was submitted when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = count()
        self.submitted: list[tuple[int, bytes | OSError | None]] = []

    def buffer(self, nbytes: int) -> Buffer:
        """As vdc.BlockingDisk's."""
        return self.make_buffer(nbytes)

    def pread(self, offset: int, nbytes: int) -> bytes:
        """As vdc.BlockingDisk's."""
        return self.read(offset, nbytes)

    def preadv_into(self, offset: int, target: Buffer) -> None:
        """As vdc.BlockingDisk's."""
        target.view[:] = self.read(offset, len(target.view))

    def pwrite(self, offset: int, data: Any) -> None:  # noqa: ANN401 - a buffer or bytes
        """As vdc.BlockingDisk's."""
        self.write(offset, data)

    def submit_read(self, offset: int, nbytes: int | Buffer) -> int:
        """As vdc.BlockingDisk's."""
        if isinstance(nbytes, Buffer):
            self.preadv_into(offset, nbytes)
            return self._submit(None)
        return self._submit(self.read(offset, nbytes))

    def submit_write(self, offset: int, data: Any) -> int:  # noqa: ANN401 - a buffer or bytes
        """As vdc.BlockingDisk's."""
        self.write(offset, data)
        return self._submit(None)

    def _submit(self, result: bytes | OSError | None) -> int:
        token = next(self.tokens)
        self.submitted.append((token, result))
        self.most_in_flight = max(self.most_in_flight, len(self.submitted))
        return token

    def wait(self, n: int = 1) -> list[tuple[int, bytes | OSError | None]]:
        """As vdc.BlockingDisk's."""
        answers, self.submitted = self.submitted, []
        return answers


def a_job(
    name: str, disks: int, *, pool: bool = False, rate: float | None = None, verify: bool = False
) -> Job:
    """A job of a workload."""
    workload = parse_workload(name)
    return Job(
        workload=workload,
        places=[places(workload, SIZE, number) for number in range(disks)],
        pool=pool,
        polling=False,
        rate=rate,
        ledgers=[Ledger("run", number, SIZE, workload.block_size) for number in range(disks)]
        if verify
        else None,
    )


def run_async(disks: list[AsyncDisk], job: Job, seconds: float = 0.1) -> tuple[int, int]:
    """How many reads and writes were counted."""
    stretch = asyncio.run(async_stretch(cast("list[vdc.Disk]", disks), job, seconds))
    assert stretch.took_ns >= seconds * 1e9
    reads, writes = stretch.histograms()
    return reads.count, writes.count


def run_blocking(disks: list[BlockingDisk], job: Job, seconds: float = 0.1) -> tuple[int, int]:
    """How many reads and writes were counted."""
    with ThreadPoolExecutor(len(disks)) as threads:
        stretch = blocking_stretch(threads, cast("list[vdc.BlockingDisk]", disks), job, seconds)
    assert stretch.took_ns >= seconds * 1e9
    reads, writes = stretch.histograms()
    return reads.count, writes.count


def run_either(kind: type[Disk], job: Job, disks: int) -> tuple[list[Disk], tuple[int, int]]:
    """The disks after a stretch, and what was counted."""
    if kind is AsyncDisk:
        async_disks = [AsyncDisk() for _ in range(disks)]
        counted = run_async(async_disks, job)
        return [*async_disks], counted
    blocking_disks = [BlockingDisk() for _ in range(disks)]
    counted = run_blocking(blocking_disks, job)
    return [*blocking_disks], counted


either = pytest.mark.parametrize("kind", [AsyncDisk, BlockingDisk])


@either
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(
    "name", ["randread-4k-1", "randwrite-4k-1", "randrw50-4k-1", "randread-4k-8", "randrw50-4k-8"]
)
@pytest.mark.parametrize("disks", [1, 3])
def test_everything_asked_is_counted_on_its_side(kind: type[Disk], pool: bool, name: str, disks: int) -> None:
    used, counted = run_either(kind, a_job(name, disks, pool=pool), disks)
    assert counted == (sum(len(one.reads) for one in used), sum(len(one.writes) for one in used))
    assert bool(counted[0]) == (parse_workload(name).reads > 0)
    assert bool(counted[1]) == (parse_workload(name).reads < 100)
    assert all(one.reads or one.writes for one in used)
    assert all(len(one.buffers) == pool * parse_workload(name).depth for one in used)
    assert all(buffer.released for one in used for buffer in one.buffers)


@either
@pytest.mark.parametrize("pool", [False, True])
def test_what_is_written_is_no_zeros(kind: type[Disk], pool: bool) -> None:
    (disk,), _ = run_either(kind, a_job("seqwrite-4k-2", 1, pool=pool), 1)
    assert bytes(disk.memory[:4096]) == payload(4096)
    assert 0 not in payload(4096)


@either
def test_the_depth_is_kept(kind: type[Disk]) -> None:
    (disk,), _ = run_either(kind, a_job("randread-4k-8", 1), 1)
    assert disk.most_in_flight == 8


@either
@pytest.mark.parametrize("disks", [1, 2])
def test_an_open_loop_asks_as_often_as_is_due(kind: type[Disk], disks: int) -> None:
    _, counted = run_either(kind, a_job("randread-4k-8", disks, rate=1000.0), disks)
    assert counted == (100, 0)


def test_a_stall_counts_for_all_that_was_due_meanwhile() -> None:
    class Stalling(AsyncDisk):
        async def pread(self, offset: int, nbytes: int) -> bytes:
            if not self.reads:
                await asyncio.sleep(0.1)
            return await super().pread(offset, nbytes)

    job = a_job("randread-4k-1", 1, rate=1000.0)
    stretch = asyncio.run(async_stretch(cast("list[vdc.Disk]", [Stalling()]), job, 0.1))
    late = [nanoseconds for nanoseconds in stretch.times[0] if nanoseconds > 10_000_000]
    assert len(stretch.times[0]) == 100
    assert len(late) >= 90


@either
@pytest.mark.parametrize("pool", [False, True])
def test_a_disk_that_keeps_what_was_written_has_no_errors(kind: type[Disk], pool: bool) -> None:
    job = a_job("randrw50-4k-4", 2, pool=pool, verify=True)
    assert job.ledgers is not None
    if kind is AsyncDisk:
        disks = [AsyncDisk(), AsyncDisk()]

        async def all_of_it() -> None:
            for disk, ledger in zip(disks, job.ledgers or (), strict=True):
                await async_fill(cast("vdc.Disk", disk), ledger)
            await async_stretch(cast("list[vdc.Disk]", disks), job, 0.02)
            for disk, ledger in zip(disks, job.ledgers or (), strict=True):
                await async_readback(cast("vdc.Disk", disk), ledger)

        asyncio.run(all_of_it())
    else:
        others = [BlockingDisk(), BlockingDisk()]
        for disk, ledger in zip(others, job.ledgers, strict=True):
            blocking_fill(cast("vdc.BlockingDisk", disk), ledger)
        run_blocking(others, job)
        for disk, ledger in zip(others, job.ledgers, strict=True):
            blocking_readback(cast("vdc.BlockingDisk", disk), ledger)
    assert [ledger.first_error for ledger in job.ledgers] == [None, None]


@either
def test_a_disk_that_forgets_is_caught(kind: type[Disk]) -> None:
    job = a_job("randrw50-4k-4", 1, verify=True)
    assert job.ledgers is not None
    if kind is AsyncDisk:
        disk = AsyncDisk()
        asyncio.run(async_fill(cast("vdc.Disk", disk), job.ledgers[0]))
        disk.forgetful = True
        run_async([disk], job)
    else:
        other = BlockingDisk()
        blocking_fill(cast("vdc.BlockingDisk", other), job.ledgers[0])
        other.forgetful = True
        run_blocking([other], job)
    assert job.ledgers[0].errors > 0


def test_a_write_that_is_lost_and_never_read_is_caught_at_the_end() -> None:
    job = a_job("randwrite-4k-4", 1, verify=True)
    assert job.ledgers is not None
    disk = AsyncDisk()
    asyncio.run(async_fill(cast("vdc.Disk", disk), job.ledgers[0]))
    disk.forgetful = True
    run_async([disk], job)
    assert job.ledgers[0].errors == 0
    asyncio.run(async_readback(cast("vdc.Disk", disk), job.ledgers[0]))
    assert job.ledgers[0].errors > 0


def test_a_request_that_fails_ends_the_stretch() -> None:
    class Failing(BlockingDisk):
        def wait(self, n: int = 1) -> list[tuple[int, bytes | OSError | None]]:
            return [(token, OSError(5, "broken")) for token, _ in super().wait(n)]

    with pytest.raises(OSError, match="broken"):
        run_blocking([Failing()], a_job("randread-4k-4", 1))
