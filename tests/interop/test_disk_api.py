"""What a caller may do with a disk beyond reading and writing: buffers, callbacks, tokens, cancelling."""

from __future__ import annotations

import asyncio
import errno
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

import vdc
from protocol.errors import DiskError
from tests.support.daemons import VdsServer
from tests.support.waiting import wait_until

KiB = 1024
MiB = 1024 * KiB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def pause(folder: Path) -> Path:
    return folder / "pause"


@pytest.fixture(scope="module")
def vds(folder: Path, pause: Path) -> Iterator[VdsServer]:
    volumes = {
        "disk": "memory:64M",
        "paused": f"memory:4M,pause-file={pause}",
        "bad": "memory:4M,error-rate=100%,error-op=write,error-errno=ENOSPC",
    }
    with VdsServer(folder, volumes) as server:
        yield server


@pytest.fixture(params=["shm", "socket"])
def uri(request: pytest.FixtureRequest, vds: VdsServer) -> str:
    return vds.uri("disk", transport=request.param)


@pytest.fixture(params=["shm", "socket"])
def paused(request: pytest.FixtureRequest, vds: VdsServer, pause: Path) -> Iterator[str]:
    pause.touch()
    yield vds.uri("paused", transport=request.param)
    pause.unlink(missing_ok=True)


async def test_shared_memory_goes_to_the_disk_and_back(uri: str) -> None:
    async with await vdc.open(uri) as disk:
        with await disk.buffer(64 * KiB) as out, await disk.buffer(64 * KiB) as back:
            out.view[:] = bytes(range(256)) * 256
            await disk.pwrite(MiB, out)
            await disk.preadv_into(MiB, back)
            assert back.view == out.view
        assert await disk.pread(MiB, 4096) == bytes(range(256)) * 16


async def test_several_targets_are_filled_in_order(uri: str) -> None:
    async with await vdc.open(uri) as disk:
        data = bytes(range(1, 9)) * 512
        await disk.pwrite(8192, data)
        first, second = bytearray(512), bytearray(3584)
        with await disk.buffer(512) as shared:
            await disk.preadv_into(8192, [first, memoryview(second)])
            await disk.preadv_into(8192, shared)
            assert bytes(first) + bytes(second) == data
            assert shared.view == data[:512]


async def test_a_hundred_tasks_share_a_disk(uri: str) -> None:
    async with await vdc.open(uri) as disk:

        async def own_block(number: int) -> None:
            for turn in range(20):
                data = (number * 1000 + turn).to_bytes(4, "big") * 1024
                await disk.pwrite(number * 4096, data)
                assert await disk.pread(number * 4096, 4096) == data

        await asyncio.gather(*map(own_block, range(100)))


async def test_more_shared_memory_than_there_is_waits_for_room(uri: str) -> None:
    async with await vdc.open(uri) as disk:
        held = [await disk.buffer(MiB) for _ in range(16)]
        waiting = asyncio.ensure_future(disk.pread(0, 4096))
        await asyncio.sleep(0)
        assert not waiting.done()
        held.pop().release()
        assert await waiting == await disk.pread(0, 4096)
        more = asyncio.ensure_future(disk.buffer(MiB))
        await asyncio.sleep(0)
        held.append(await more)
        for buffer in held:
            buffer.release()


async def test_callbacks_get_the_data_or_the_error(uri: str, vds: VdsServer) -> None:
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[tuple[object, OSError | None]] = asyncio.Queue()

    def answer(data: object, error: OSError | None) -> None:
        answers.put_nowait((data, error))

    async with await vdc.open(uri) as disk:
        data = b"callback" * (3 * MiB // 8)
        disk.submit_write(0, data, answer)
        assert await answers.get() == (None, None)
        disk.submit_read(0, len(data), answer)
        assert await answers.get() == (data, None)
        disk.submit_read(512, 512, answer)
        assert await answers.get() == (data[512:1024], None)
        disk.submit_flush(answer)
        assert await answers.get() == (None, None)
    async with await vdc.open(vds.uri("bad")) as bad:
        bad.submit_write(0, bytes(3 * MiB), answer)
        nothing, error = await answers.get()
        assert nothing is None
        assert error is not None
        assert error.errno == errno.ENOSPC
    assert answers.empty()
    assert loop.is_running()


async def test_long_transfers_by_callback_are_copied_once(vds: VdsServer) -> None:
    """A second copy would need memory for it; the first one of a write is in the memory shared already."""
    size = 8 * MiB
    answers: asyncio.Queue[tuple[object, OSError | None]] = asyncio.Queue()

    def answer(data: object, error: OSError | None) -> None:
        answers.put_nowait((data, error))

    async with await vdc.open(vds.uri("disk")) as disk:
        data = os.urandom(size)
        tracemalloc.start()
        try:
            disk.submit_write(0, data, answer)
            assert await answers.get() == (None, None)
            assert tracemalloc.get_traced_memory()[1] < size // 8
            disk.submit_read(0, size, answer)
            assert await answers.get() == (data, None)
            assert size < tracemalloc.get_traced_memory()[1] < size + size // 8
        finally:
            tracemalloc.stop()


async def test_a_callback_that_fails_keeps_no_other_waiting(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(data: object, error: object) -> None:
        raise RuntimeError("what a program does wrong")

    async with await vdc.open(uri) as disk, asyncio.timeout(10):
        for _ in range(300):  # more than there are places in the ring
            disk.submit_read(0, 512, fail)
        assert len(await disk.pread(0, 512)) == 512
    assert caplog.text.count("RuntimeError: what") == 300


async def test_an_error_of_one_part_is_the_error_of_the_whole(vds: VdsServer) -> None:
    async with await vdc.open(vds.uri("bad")) as disk:
        with pytest.raises(DiskError) as caught:
            await disk.pwrite(0, bytes(3 * MiB))
        assert caught.value.errno == errno.ENOSPC
        assert await disk.pread(0, 512) == bytes(512)


async def test_a_cancelled_read_leaves_its_target_alone(paused: str, pause: Path) -> None:
    async with await vdc.open(paused) as disk:
        target = bytearray(b"mine" * 1024)
        reading = asyncio.ensure_future(disk.preadv_into(0, target))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.to_thread(pause.unlink)
        await disk.flush()
        assert await disk.pread(0, 4096) == bytes(4096)
        assert target == b"mine" * 1024


async def test_closing_fails_what_is_unanswered(paused: str) -> None:
    disk = await vdc.open(paused)
    reading = asyncio.ensure_future(disk.pread(0, 4096))
    await asyncio.sleep(0)
    await disk.close()
    await disk.close()
    with pytest.raises(DiskError) as caught:
        await reading
    assert caught.value.errno == errno.EIO
    with pytest.raises(ValueError, match="closed"):
        await disk.pread(0, 512)
    with pytest.raises(ValueError, match="closed"):
        await disk.flush()


async def test_the_facts_of_a_disk(uri: str) -> None:
    async with await vdc.open(uri) as disk:
        assert (disk.volume, disk.state, disk.version, disk.read_only) == ("disk", "running", (1, 2), False)
        assert (disk.size, disk.block_size, disk.max_xfer) == (64 * MiB, 512, MiB)
        assert len(bytes.fromhex(disk.instance)) == 16
        geometry = await disk.geometry()
        assert geometry.nhead * geometry.nsect * geometry.pcyl * 512 <= disk.size
        assert disk.counters["connections"] == 1


async def test_a_volume_that_is_not_there_is_refused_with_its_name(vds: VdsServer) -> None:
    with pytest.raises(OSError, match="nowhere") as caught:
        await vdc.open(vds.uri("nowhere"))
    assert caught.value.errno == errno.ENOENT


def test_tokens_come_back_with_their_results(uri: str) -> None:
    with vdc.connect(uri) as disk:
        tokens = {
            disk.submit_write(number * 4096, bytes([number]) * 4096): number for number in range(1, 100)
        }
        answers: dict[int, object] = {}
        while len(answers) < len(tokens):
            answers.update(disk.wait(5))
        assert answers == dict.fromkeys(tokens, None)
        reads = {disk.submit_read(number * 4096, 4096): number for number in range(1, 100)}
        flush = disk.submit_flush()
        for token, data in disk.wait(100):
            assert data == (None if token == flush else bytes([reads[token]]) * 4096)
        assert disk.wait() == []


def test_a_token_fills_a_buffer(uri: str) -> None:
    with vdc.connect(uri) as disk:
        disk.pwrite(0, b"buffered" * 512)
        with disk.buffer(4096) as buffer:
            token = disk.submit_read(0, buffer)
            assert disk.wait() == [(token, None)]
            assert buffer.view == b"buffered" * 512
            disk.pwrite(8192, buffer)
        assert disk.pread(8192, 4096) == b"buffered" * 512


def test_one_thread_is_told_when_it_holds_all_the_memory(uri: str) -> None:
    with vdc.connect(uri) as disk:
        held = [disk.buffer(MiB) for _ in range(16)]
        with pytest.raises(MemoryError, match="release"):
            disk.buffer(512)
        for buffer in held:
            buffer.release()
        with pytest.raises(ValueError, match="1 to"):
            disk.buffer(2 * MiB)


def test_a_submission_is_one_request(uri: str) -> None:
    with vdc.connect(uri) as disk, pytest.raises(ValueError, match="in parts"):
        disk.submit_read(0, 2 * MiB)


def test_looking_does_not_wait(paused: str, pause: Path) -> None:
    with vdc.connect(paused) as disk:
        token = disk.submit_read(0, 512)
        assert disk.wait(0) == []
        pause.unlink()
        seen: dict[int, object] = {}

        def look() -> bool:
            seen.update(disk.wait(0))
            return bool(seen)

        wait_until(look, "the answer")
        assert seen == {token: bytes(512)}


def test_buffers_outlive_the_disk(uri: str) -> None:
    disk = vdc.connect(uri)
    buffer = disk.buffer(4096)
    disk.close()
    buffer.view[:4] = b"mine"
    buffer.release()
    buffer.release()


async def test_deep_reads_of_the_longest_kind_keep_the_session(uri: str) -> None:
    """All that a server answers in one turn is more than a channel takes in one piece."""
    async with await vdc.open(uri) as disk:
        data = await asyncio.gather(*(disk.pread(0, 4 * MiB) for _ in range(16)))
        assert {len(part) for part in data} == {4 * MiB}
        assert disk.counters["connections"] == 1
