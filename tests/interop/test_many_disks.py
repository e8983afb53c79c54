"""64 disks on one server, all at once: each is served, and an idle one holds little of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import vdc
from tests.support.daemons import VdsServer
from tests.support.processes import private_memory
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

KiB, MiB = 1024, 1024 * 1024
DISKS = 64
SIZE = 4 * MiB
NAMES = [f"disk{number}" for number in range(DISKS)]


def tag(number: int) -> bytes:
    """What disk ``number`` consists of: 64 KiB of its own."""
    return f"disk {number}".encode().ljust(512, b".") * 128


@pytest.mark.parametrize("transport", ["shm", "socket"])
async def test_each_of_64_disks_is_served_and_none_holds_memory(tmp_path: Path, transport: str) -> None:
    """Writes and reads of all that a disk takes at once, at all disks at once; then they are idle."""
    volumes = {}
    for name in NAMES:
        (tmp_path / name).write_bytes(bytes(SIZE))
        volumes[name] = f"{tmp_path / name},wce"
    with VdsServer(tmp_path, volumes) as server:
        async with AsyncExitStack() as stack:
            await (await vdc.open(server.uri("disk0", transport=transport))).close()
            wait_until(lambda: "closing" in server.lines[-1], "the first channel to end")
            before = private_memory(server.pid)
            disks = [
                await stack.enter_async_context(await vdc.open(server.uri(name, transport=transport)))
                for name in NAMES
            ]
            assert (private_memory(server.pid) - before) / DISKS < MiB / 2
            await asyncio.gather(
                *(
                    disk.pwrite(at, tag(number))
                    for number, disk in enumerate(disks)
                    for at in range(0, SIZE, 64 * KiB)
                )
            )
            found = await asyncio.gather(*(disk.pread(0, SIZE) for disk in disks))
            for number, data in enumerate(found):
                assert data == tag(number) * (SIZE // len(tag(number)))
            assert [disk.counters["connections"] for disk in disks] == [1] * DISKS
            assert (private_memory(server.pid) - before) / DISKS < MiB


@pytest.mark.parametrize("transport", ["shm", "socket"])
async def test_a_disk_is_served_beside_a_stream_that_does_not_end(tmp_path: Path, transport: str) -> None:
    """1 MiB reads, all that its ring takes, for as long as the other one needs for 1000 requests."""
    for name in NAMES[:2]:
        (tmp_path / name).write_bytes(tag(1) * 64)
    with VdsServer(tmp_path, {name: tmp_path / name for name in NAMES[:2]}) as server:
        async with (
            await vdc.open(server.uri("disk0", transport=transport)) as stream,
            await vdc.open(server.uri("disk1", transport=transport)) as probe,
        ):
            streamed = 0

            async def go_on(at: int) -> None:
                nonlocal streamed
                while True:
                    assert len(await stream.pread(at, MiB)) == MiB
                    streamed += 1

            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(go_on(number % 4 * MiB)) for number in range(64)]
                for _ in range(1000):
                    assert await probe.pread(0, 512) == tag(1)[:512]
                for task in running:
                    task.cancel()
            assert streamed
