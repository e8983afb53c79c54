"""Copying between disks in memory, files and block devices."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypervisor.filelock import lock
from protocol.errors import DiskError
from tests.support.fakedisk import FakeDisk
from tests.support.turns import until
from vdc import sides
from vdc.copy import CopyError, copy

MIB = 1 << 20
URI = "vdisk+unix:///{}?socket=/run/vds.sock"


class Disks:
    """Opens disks by the name in their URI."""

    def __init__(self, **disks: FakeDisk) -> None:
        self.disks = disks

    async def __call__(self, uri: str) -> FakeDisk:
        return self.disks[uri.removeprefix("vdisk+unix:///").split("?")[0]]


def a_disk(data: bytes, *, size: int = 0, block_size: int = 512, volume: str = "a") -> FakeDisk:
    """A disk that holds ``data``."""
    disk = FakeDisk(max(size, len(data)), block_size=block_size, volume=volume)
    disk.contents[: len(data)] = data
    return disk


def allocated(path: Path) -> int:
    """Bytes that the file really takes."""
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("parallel", [1, 3, 64])
@pytest.mark.parametrize("verify", [False, True])
async def test_disk_to_new_file(tmp_path: Path, parallel: int, verify: bool) -> None:
    data = os.urandom(5 * MIB + 512)
    disk = a_disk(data)
    target = tmp_path / "out.img"
    assert await copy(
        URI.format("a"), str(target), parallel=parallel, verify=verify, opener=Disks(a=disk)
    ) == len(data)
    assert target.read_bytes() == data
    assert disk.is_closed
    assert disk.lent == 0
    assert disk.counts["read"] == 6 * (1 + verify)


async def test_requests_run_in_parallel(tmp_path: Path) -> None:
    disk = a_disk(os.urandom(8 * MIB))
    disk.hold()
    task = asyncio.ensure_future(copy(URI.format("a"), str(tmp_path / "o"), parallel=4, opener=Disks(a=disk)))
    await until(lambda: len(disk.held) == 4)
    disk.release(newest_first=True)
    await task
    assert (tmp_path / "o").read_bytes() == disk.contents


@pytest.mark.parametrize("block_size", [512, 4096])
async def test_file_to_disk_is_flushed(tmp_path: Path, block_size: int) -> None:
    data = os.urandom(3 * MIB + 4096)
    (tmp_path / "in").write_bytes(data)
    disk = a_disk(b"\xff" * 4 * MIB, block_size=block_size)
    await copy(str(tmp_path / "in"), URI.format("a"), verify=True, opener=Disks(a=disk))
    assert disk.stable == data + b"\xff" * (4 * MIB - len(data))
    assert disk.lent == 0


async def test_zeroes_are_written_over_what_a_disk_holds(tmp_path: Path) -> None:
    os.truncate(os.open(tmp_path / "in", os.O_CREAT | os.O_WRONLY), 2 * MIB)
    disk = a_disk(b"\xff" * 2 * MIB)
    await copy(str(tmp_path / "in"), URI.format("a"), opener=Disks(a=disk))
    assert not any(disk.contents)


@pytest.mark.parametrize("size", [1, 511, 513, MIB + 1, MIB + 700])
async def test_odd_length_keeps_the_rest_of_the_last_block(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "in").write_bytes(data)
    disk = a_disk(b"\xff" * 2 * MIB)
    await copy(str(tmp_path / "in"), URI.format("a"), verify=True, opener=Disks(a=disk))
    assert disk.contents == data + b"\xff" * (2 * MIB - size)


@pytest.mark.parametrize("exclusive", [True, False], ids=["writer", "reader"])
async def test_file_that_a_server_has_is_not_overwritten(tmp_path: Path, exclusive: bool) -> None:
    """It may well be the backend of the very disk that is copied."""
    image = tmp_path / "served.img"
    image.write_bytes(b"precious" * 512)
    with image.open("r+b") as served:
        lock(served.fileno(), str(image), exclusive=exclusive)
        with pytest.raises(OSError, match=rf"in use by process {os.getpid()} \(") as caught:
            await copy(URI.format("a"), str(image), opener=Disks(a=a_disk(b"", size=MIB)))
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, str(image))
    assert image.read_bytes() == b"precious" * 512
    await copy(URI.format("a"), str(image), opener=Disks(a=a_disk(b"", size=MIB)))
    assert image.read_bytes() == bytes(MIB)


async def test_disk_to_disk_with_other_blocks() -> None:
    data = os.urandom(2 * MIB + 1024)
    small, large = a_disk(data), a_disk(b"", size=3 * MIB, block_size=4096, volume="b")
    small.max_xfer = 3 * 512
    large.max_xfer = 64 * 1024
    await copy(URI.format("a"), URI.format("b"), verify=True, opener=Disks(a=small, b=large))
    assert large.contents[: len(data)] == data
    assert not any(large.contents[len(data) :])
    assert small.is_closed
    assert large.is_closed
    assert small.lent == large.lent == 0


async def test_pieces_are_no_longer_than_the_server_allows() -> None:
    disk, other = a_disk(os.urandom(MIB)), a_disk(b"", size=MIB, volume="b")
    disk.max_xfer = 64 * 1024
    await copy(URI.format("a"), URI.format("b"), opener=Disks(a=disk, b=other))
    assert {entry[2] for entry in disk.log} == {64 * 1024}
    assert other.contents == disk.contents


async def test_file_to_file(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 77)
    (tmp_path / "in").write_bytes(data)
    assert await copy(str(tmp_path / "in"), str(tmp_path / "out"), verify=True) == len(data)
    assert (tmp_path / "out").read_bytes() == data


async def test_empty_source_makes_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "in").touch()
    (tmp_path / "out").write_text("old")
    assert await copy(str(tmp_path / "in"), str(tmp_path / "out"), verify=True) == 0
    assert (tmp_path / "out").read_bytes() == b""


async def test_new_file_has_holes_for_zeroes(tmp_path: Path) -> None:
    data = bytearray(16 * MIB)
    data[5 * MIB + 8192 : 5 * MIB + 12288] = os.urandom(4096)
    data[9 * MIB - 1] = 1
    data[10 * MIB : 10 * MIB + 512] = b"x" * 512
    target = tmp_path / "out"
    await copy(URI.format("a"), str(target), verify=True, opener=Disks(a=a_disk(bytes(data))))
    assert target.read_bytes() == data
    assert allocated(target) <= 64 * 1024


async def test_existing_file_is_replaced_even_when_longer(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"\xff" * 3 * MIB)
    await copy(URI.format("a"), str(target), opener=Disks(a=a_disk(bytes(MIB))))
    assert target.read_bytes() == bytes(MIB)


async def test_progress_is_told(tmp_path: Path) -> None:
    passes: list[tuple[str, int]] = []
    done: list[int] = []

    def started(name: str, nbytes: int) -> Callable[[int], None]:
        passes.append((name, nbytes))
        return done.append

    disks = Disks(a=a_disk(bytes(2 * MIB + 512)))
    await copy(URI.format("a"), str(tmp_path / "o"), verify=True, opener=disks, started=started)
    assert passes == [("copy", 2 * MIB + 512), ("verify", 2 * MIB + 512)]
    assert sum(done) == 2 * (2 * MIB + 512)


async def test_smaller_target_is_refused_before_anything_is_written() -> None:
    small = a_disk(b"\xff" * MIB, volume="b")
    with pytest.raises(OSError, match=r"has 1048576 bytes, the source has 2097152") as caught:
        await copy(URI.format("a"), URI.format("b"), opener=Disks(a=a_disk(bytes(2 * MIB)), b=small))
    assert caught.value.errno == errno.ENOSPC
    assert small.log == []
    assert small.is_closed


async def test_read_only_target_is_refused() -> None:
    disk = a_disk(bytes(MIB), volume="b")
    disk.read_only = True
    with pytest.raises(OSError, match="read-only") as caught:
        await copy(URI.format("a"), URI.format("b"), opener=Disks(a=a_disk(bytes(512)), b=disk))
    assert caught.value.errno == errno.EROFS


async def test_disk_onto_itself_is_refused() -> None:
    disk = a_disk(os.urandom(MIB))
    with pytest.raises(OSError, match="are the same"):
        await copy(URI.format("a"), URI.format("b"), opener=Disks(a=disk, b=disk))
    assert disk.log == []


@pytest.mark.parametrize("link", [os.link, os.symlink])
async def test_file_onto_itself_is_refused(tmp_path: Path, link: object) -> None:
    assert callable(link)
    (tmp_path / "in").write_text("precious")
    link(tmp_path / "in", tmp_path / "same")
    with pytest.raises(OSError, match="are the same"):
        await copy(str(tmp_path / "in"), str(tmp_path / "same"))
    assert (tmp_path / "in").read_text() == "precious"


async def test_missing_source_leaves_the_target_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(FileNotFoundError):
        await copy(str(tmp_path / "none"), str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "precious"


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket"])
async def test_other_kinds_of_file_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    (tmp_path / "file").write_bytes(bytes(512))
    with pytest.raises(OSError, match=r"neither a regular file|No such device"):
        await copy(str(path), str(tmp_path / "out"))
    with pytest.raises(OSError, match=r"neither a regular file|No such device|Is a directory"):
        await copy(str(tmp_path / "file"), str(path))
    assert not (tmp_path / "out").exists()


async def test_read_error_names_the_lowest_offset_and_is_never_good(tmp_path: Path) -> None:
    disk = a_disk(os.urandom(8 * MIB))
    disk.fail("read", errno.EIO, after=3, times=8)
    target = tmp_path / "out"
    with pytest.raises(CopyError, match=r"reading vdisk.* at offset 3145728: Input/output error") as caught:
        await copy(URI.format("a"), str(target), parallel=4, verify=True, opener=Disks(a=disk))
    assert caught.value.offset == 3 * MIB
    assert caught.value.errno == errno.EIO
    assert isinstance(caught.value.__cause__, DiskError)
    assert target.stat().st_size == 8 * MIB
    assert disk.lent == 0
    assert disk.is_closed


async def test_write_error_says_where() -> None:
    disk = a_disk(b"", size=4 * MIB, volume="b")
    disk.fail("write", errno.ENOSPC, after=1)
    with pytest.raises(CopyError, match=r"writing .*/b\?.* at offset 1048576: No space left on device"):
        await copy(
            URI.format("a"), URI.format("b"), parallel=1, opener=Disks(a=a_disk(b"x" * 4 * MIB), b=disk)
        )


async def test_flush_error_fails_the_copy() -> None:
    disk = a_disk(b"", size=MIB, volume="b")
    disk.fail("flush", errno.EIO)
    with pytest.raises(CopyError, match="flushing"):
        await copy(URI.format("a"), URI.format("b"), opener=Disks(a=a_disk(bytes(MIB)), b=disk))


async def test_verify_finds_a_changed_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = a_disk(b"", size=3 * MIB, volume="b")
    flush = disk.flush

    async def flush_badly() -> None:
        await flush()
        disk.contents[2 * MIB + 17] ^= 1

    monkeypatch.setattr(disk, "flush", flush_badly)
    disks = Disks(a=a_disk(os.urandom(3 * MIB)), b=disk)
    with pytest.raises(
        CopyError, match=r"verifying .*/b\?.* at offset 2097169: differs from vdisk.*/a"
    ) as caught:
        await copy(URI.format("a"), URI.format("b"), verify=True, opener=disks)
    assert caught.value.offset == 2 * MIB + 17


async def test_source_truncated_meanwhile_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 4 * MIB)
    disk = a_disk(b"", size=4 * MIB)
    disk.hold()
    task = asyncio.ensure_future(
        copy(str(tmp_path / "in"), URI.format("a"), parallel=1, opener=Disks(a=disk))
    )
    await until(lambda: len(disk.held) == 1)
    os.truncate(tmp_path / "in", MIB + 100)
    disk.release()
    with pytest.raises(CopyError, match=r"reading .*in at offset 1048576: ends at 1048676: .*truncated"):
        await task


async def test_cancelled_copy_gives_everything_back(tmp_path: Path) -> None:
    disk = a_disk(os.urandom(8 * MIB))
    disk.hold()
    task = asyncio.ensure_future(copy(URI.format("a"), str(tmp_path / "o"), opener=Disks(a=disk)))
    await until(lambda: bool(disk.held))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert disk.lent == 0
    assert disk.is_closed


async def test_cancelled_file_request_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    entered, leave = asyncio.Event(), threading.Event()
    left: list[int] = []

    def slow(_fd: int, view: memoryview, _offset: int) -> None:
        loop.call_soon_threadsafe(entered.set)
        leave.wait(30)
        left.append(view[0])

    monkeypatch.setattr(sides, "_read_fully", slow)
    (tmp_path / "in").write_bytes(bytes(512))
    task = asyncio.ensure_future(copy(str(tmp_path / "in"), str(tmp_path / "out")))
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left == [0]


async def test_our_own_mistakes_are_not_taken_for_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = a_disk(bytes(MIB))

    async def broken(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(disk, "preadv_into", broken)
    with pytest.raises(ExceptionGroup):
        await copy(
            URI.format("a"), URI.format("b"), opener=Disks(a=disk, b=a_disk(b"", size=MIB, volume="b"))
        )


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    """A loop device of 4 MiB."""
    backing = tmp_path / "backing"
    backing.write_bytes(b"\xff" * 4 * MIB)
    name = subprocess.run(
        ["losetup", "--find", "--show", str(backing)], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield name
    subprocess.run(["losetup", "--detach", name], check=True)


@pytest.mark.xdist_group("loop")
async def test_block_devices_are_copied_to_and_from(tmp_path: Path, loop_device: str) -> None:
    data = os.urandom(MIB) + bytes(MIB)
    disks = Disks(a=a_disk(data))
    await copy(URI.format("a"), loop_device, verify=True, opener=disks)
    await copy(loop_device, str(tmp_path / "out"), verify=True)
    assert (tmp_path / "out").read_bytes() == data + b"\xff" * 2 * MIB


@pytest.mark.xdist_group("loop")
async def test_block_device_onto_itself_is_refused(loop_device: str) -> None:
    with pytest.raises(OSError, match="are the same"):
        await copy(loop_device, loop_device)


@pytest.mark.xdist_group("loop")
async def test_block_device_that_is_smaller_is_refused(loop_device: str) -> None:
    with pytest.raises(OSError, match="has 4194304 bytes"):
        await copy(URI.format("a"), loop_device, opener=Disks(a=a_disk(bytes(5 * MIB))))
