"""Disks that fail: what the backend cannot do reaches the caller as the errno it is, and never as data."""

from __future__ import annotations

import errno
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

import vdc
from protocol.errors import DiskError
from tests.support.daemons import VdcServer, VdsServer
from tests.support.ways import AnyDisk, LoopDisk, open_way

pytestmark = pytest.mark.slow
MiB: Final = 1024 * 1024
SEED: Final = 13
WAYS: Final = ("shm-blocking", "socket-asyncio")
"""Both transports and both APIs; what each way does with an error is the same code for all others."""


def pattern(size: int) -> bytes:
    """Bytes that differ everywhere, the same in every run."""
    return random.Random(SEED).randbytes(size)


def fails_with(number: int, disk: AnyDisk, offset: int, nbytes: int) -> None:
    """Reading this range is an error of that number, and not one byte."""
    with pytest.raises(DiskError) as caught:
        disk.pread(offset, nbytes)
    assert caught.value.errno == number
    assert (caught.value.addr, caught.value.nbytes) == (offset // 512, nbytes)


def qemu_io(front: VdcServer, *commands: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and all that it says of ``qemu-io`` on the disk as NBD."""
    words = ["qemu-io", "-f", "raw", *options]
    for command in commands:
        words += ["-c", command]
    done = subprocess.run(
        [*words, front.nbd_uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


# -- cut short beneath the server --------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of 1 MiB."""
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(MiB))
    return path


@pytest.mark.parametrize("options", ["", ",wce"])
@pytest.mark.parametrize("way", WAYS)
def test_an_image_cut_short_under_the_server_is_eio_where_it_is_missing(
    tmp_path: Path, image: Path, way: str, options: str
) -> None:
    """Never short, never stale; what is still there is served, and all of it when it has grown again."""
    with (
        VdsServer(tmp_path, {"disk": f"{image}{options}"}) as vds,
        open_way(way, vds, "disk") as disk,
    ):
        assert disk.pread(0, MiB) == pattern(MiB)
        os.truncate(image, MiB // 2 + 100)
        assert disk.pread(0, MiB // 2) == pattern(MiB)[: MiB // 2]
        fails_with(errno.EIO, disk, MiB // 2, 512)
        fails_with(errno.EIO, disk, 0, MiB)
        fails_with(errno.EIO, disk, MiB - 512, 512)
        assert disk.pread(0, 512) == pattern(MiB)[:512]
        disk.pwrite(MiB - 4096, b"w" * 4096)
        assert (
            disk.pread(MiB // 2, MiB // 2)
            == pattern(MiB)[MiB // 2 :][:100] + bytes(MiB // 2 - 100 - 4096) + b"w" * 4096
        )


def test_an_image_cut_short_is_an_error_for_nbd_programs(tmp_path: Path, image: Path) -> None:
    with (
        VdsServer(tmp_path, {"disk": str(image)}) as vds,
        VdcServer(vds.uri("disk"), tmp_path) as front,
    ):
        os.truncate(image, MiB // 2)
        code, said = qemu_io(front, "read 512k 64k")
        assert (code, "Input/output error" in said) == (1, True), said
        code, said = qemu_io(front, "read 0 64k")
        assert (code, "read 65536/65536" in said) == (0, True), said


# -- no room -----------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for about 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def thin(small: Path) -> Path:
    """An image of 4 MiB on it, nothing of it written yet."""
    path = small / "thin.img"
    path.touch()
    os.truncate(path, 4 * MiB)
    return path


@pytest.mark.parametrize("options", ["", ",wce"])
@pytest.mark.parametrize("way", WAYS)
def test_no_room_on_a_full_file_system_reaches_the_caller(
    tmp_path: Path, thin: Path, way: str, options: str
) -> None:
    """As ENOSPC, each time; what is written is there, and the disk goes on when there is room again."""
    with (
        VdsServer(tmp_path, {"disk": f"{thin}{options}"}) as vds,
        open_way(way, vds, "disk") as disk,
    ):
        disk.pwrite(0, b"before" * 1024 + bytes(2048))
        for _ in range(3):
            with pytest.raises(DiskError) as caught:
                disk.pwrite(MiB, b"x" * (2 * MiB))
            assert caught.value.errno == errno.ENOSPC
        assert disk.pread(0, 6144) == b"before" * 1024
        os.truncate(thin, 4096)
        os.truncate(thin, 4 * MiB)
        disk.pwrite(2 * MiB, b"after!" * 1024)
        disk.flush()
        assert disk.pread(2 * MiB, 6144) == b"after!" * 1024


def test_no_room_on_a_full_file_system_reaches_nbd_programs(tmp_path: Path, thin: Path) -> None:
    with (
        VdsServer(tmp_path, {"disk": str(thin)}) as vds,
        VdcServer(vds.uri("disk"), tmp_path) as front,
    ):
        code, said = qemu_io(front, "write 0 2M")
        assert (code, "No space left on device" in said) == (1, True), said


def test_no_room_reaches_nbd_programs_as_it_is(tmp_path: Path) -> None:
    """The same by the error layer, which needs no file system of its own."""
    volume = "memory:4M,error-rate=1,error-op=write,error-errno=ENOSPC"
    with VdsServer(tmp_path, {"disk": volume}) as vds, VdcServer(vds.uri("disk"), tmp_path) as front:
        code, said = qemu_io(front, "write 0 64k")
        assert (code, "No space left on device" in said) == (1, True), said
        code, said = qemu_io(front, "read 0 64k")
        assert code == 0, said


# -- errors injected ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_every_error_injected_is_seen_once_and_only_while_its_file_is_there(tmp_path: Path, way: str) -> None:
    trigger = tmp_path / "fail"
    volume = f"memory:1M,error-rate=0.3,error-op=read+write,error-file={trigger}"
    seen = {"read": 0, "write": 0}
    with VdsServer(tmp_path, {"disk": volume}) as vds:
        with open_way(way, vds, "disk") as disk:

            def attempt(name: str, request: Callable[[], object]) -> None:
                try:
                    request()
                except DiskError as error:
                    seen[name] += error.errno == errno.EIO

            def requests(count: int) -> None:
                for number in range(count):
                    offset = number % 64 * 512
                    attempt("write", partial(disk.pwrite, offset, bytes(512)))
                    attempt("read", partial(disk.pread, offset, 512))

            requests(100)
            assert seen == {"read": 0, "write": 0}
            trigger.touch()
            requests(200)
            assert all(seen.values())
            trigger.unlink()
            before = dict(seen)
            requests(100)
            assert seen == before
        assert vds.stop() == 0
    (match,) = vds.wait_for(r"injected (\d+) errors \((\d+) read, (\d+) write\)")
    assert [int(number) for number in match.groups()] == [sum(seen.values()), seen["read"], seen["write"]]


@pytest.mark.parametrize("way", WAYS)
def test_a_flush_that_failed_once_fails_until_the_server_is_started_again(
    tmp_path: Path, image: Path, way: str
) -> None:
    """The kernel reports lost data once; a server that then says all is well would be lying."""
    trigger = tmp_path / "fail"
    volume = f"{image},wce,error-rate=1,error-op=flush,error-file={trigger}"
    with VdsServer(tmp_path, {"disk": volume}) as vds:
        with open_way(way, vds, "disk") as disk:
            disk.pwrite(0, b"1" * 512)
            disk.flush()
            trigger.touch()
            disk.pwrite(0, b"2" * 512)
            for _ in range(3):
                with pytest.raises(DiskError) as caught:
                    disk.flush()
                assert caught.value.errno == errno.EIO
                trigger.unlink(missing_ok=True)
            assert disk.pread(0, 512) == b"2" * 512
        with open_way(way, vds, "disk") as disk, pytest.raises(DiskError):
            disk.flush()
        assert vds.stop() == 1, "the last flush failed: that is no orderly end"
        vds.start()
        with open_way(way, vds, "disk") as disk:
            disk.flush()


def test_without_a_write_cache_no_write_is_acknowledged_after_a_flush_failed(
    tmp_path: Path, image: Path
) -> None:
    trigger = tmp_path / "fail"
    volume = f"{image},error-rate=1,error-op=flush,error-file={trigger}"
    with VdsServer(tmp_path, {"disk": volume}) as vds, vdc.connect(vds.uri("disk")) as disk:
        disk.pwrite(0, b"1" * 512)
        trigger.touch()
        for _ in range(3):
            with pytest.raises(DiskError) as caught:
                disk.pwrite(0, b"2" * 512)
            assert caught.value.errno == errno.EIO
            trigger.unlink(missing_ok=True)
        disk.pread(0, 512)


# -- read only ---------------------------------------------------------------------------------------------


def test_a_read_only_disk_is_read_only_for_nbd_programs(tmp_path: Path, image: Path) -> None:
    with (
        VdsServer(tmp_path, {"disk": f"{image},ro"}) as vds,
        VdcServer(vds.uri("disk"), tmp_path) as front,
    ):
        code, said = qemu_io(front, "read 0 64k", options=("-r",))
        assert code == 0, said
        code, said = qemu_io(front, "write 0 64k")
        assert code == 1, said
        assert re.search("read-only|Permission denied|not permitted", said), said
    assert image.read_bytes() == pattern(MiB)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_may_only_be_read_is_served_read_only(tmp_path: Path, image: Path, way: str) -> None:
    image.chmod(0o444)
    with VdsServer(tmp_path, {"disk": f"{image},ro"}) as vds, open_way(way, vds, "disk") as disk:
        assert disk.read_only
        with pytest.raises(DiskError) as caught:
            disk.pwrite(0, bytes(512))
        assert caught.value.errno in (errno.EROFS, errno.ENOTSUP)
        assert disk.pread(0, MiB) == pattern(MiB)
    assert image.read_bytes() == pattern(MiB)


# -- acknowledged is stored --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_what_was_acknowledged_outlives_the_server(tmp_path: Path, image: Path, way: str) -> None:
    """Killed with writes under way: each block is old or new, and every acknowledged one new."""
    dice = random.Random(SEED)
    with VdsServer(tmp_path, {"disk": str(image)}) as vds:
        disk = open_way(way, vds, "disk")
        model = bytearray(pattern(MiB))
        for _ in range(100):
            offset = 512 * dice.randrange(MiB // 512)
            data = dice.randbytes(512)
            disk.pwrite(offset, data)
            model[offset : offset + 512] = data
        pending: dict[int, bytes] = {}
        if not isinstance(disk, LoopDisk):
            pending = {512 * number: dice.randbytes(512) for number in range(64)}
            for offset, data in pending.items():
                disk.submit_write(offset, data)
            disk.wait(0)
        vds.kill()
        disk.close()
    stored = image.read_bytes()
    for offset in range(0, MiB, 512):
        block = stored[offset : offset + 512]
        assert block in (model[offset : offset + 512], pending.get(offset))
