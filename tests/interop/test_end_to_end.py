"""One suite for every way to a disk: both transports, both APIs, and the bare stacks joined in memory."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import DiskError
from tests.support.daemons import VdsServer
from tests.support.ways import STACK_WAYS, WAYS, AnyDisk, make_stack, open_way

SIZE = 8 * 1024 * 1024
SEED = 20261


def pattern(size: int) -> bytes:
    """Bytes that differ from block to block and are the same in every run."""
    return random.Random(SEED).randbytes(size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="module")
def image(folder: Path) -> Path:
    path = folder / "disk.img"
    path.write_bytes(pattern(SIZE))
    return path


@pytest.fixture(scope="module")
def vds(folder: Path, image: Path) -> Iterator[VdsServer]:
    volumes = {
        "disk": str(image),
        "ro": f"{image},ro",
        "big": "memory:8M,blocksize=4096",
        "wce": "memory:8M,wce",
    }
    (folder / "copy.img").write_bytes(image.read_bytes())
    volumes["ro"] = f"{folder / 'copy.img'},ro"
    with VdsServer(folder, volumes) as server:
        yield server


@pytest.fixture(params=WAYS)
def disk(request: pytest.FixtureRequest, vds: VdsServer, image: Path) -> Iterator[AnyDisk]:
    image.write_bytes(pattern(SIZE))
    if request.param in STACK_WAYS:
        yield make_stack(request.param, image)
    else:
        with open_way(request.param, vds, "disk") as disk:
            yield disk


@pytest.fixture(params=WAYS)
def read_only_disk(request: pytest.FixtureRequest, vds: VdsServer, image: Path) -> Iterator[AnyDisk]:
    if request.param in STACK_WAYS:
        yield make_stack(request.param, image, read_only=True)
    else:
        with open_way(request.param, vds, "ro") as disk:
            yield disk


def test_the_whole_disk_is_there(disk: AnyDisk) -> None:
    assert disk.size == SIZE
    assert disk.block_size == 512
    assert disk.capacity() == (512, SIZE // 512)
    assert disk.pread(0, SIZE) == pattern(SIZE)


def test_the_first_and_the_last_block_can_be_written(disk: AnyDisk) -> None:
    disk.pwrite(0, b"A" * 512)
    disk.pwrite(SIZE - 512, b"Z" * 512)
    disk.flush()
    assert disk.pread(0, 1024) == b"A" * 512 + pattern(SIZE)[512:1024]
    assert disk.pread(SIZE - 1024, 1024) == pattern(SIZE)[-1024:-512] + b"Z" * 512


def test_random_requests_agree_with_a_model(disk: AnyDisk) -> None:
    rng = random.Random(SEED)
    model = bytearray(pattern(SIZE))
    for _ in range(400):
        nbytes = 512 * rng.choice([1, 2, 7, 8, 16, 17, 64, 129, 400])
        offset = 512 * rng.randrange((SIZE - nbytes) // 512 + 1)
        if rng.random() < 0.5:
            data = rng.randbytes(nbytes)
            disk.pwrite(offset, data)
            model[offset : offset + nbytes] = data
        else:
            assert disk.pread(offset, nbytes) == model[offset : offset + nbytes], f"{nbytes} at {offset}"
    disk.flush()
    assert disk.pread(0, SIZE) == model


def test_requests_longer_than_the_longest_are_split(disk: AnyDisk) -> None:
    data = bytes(reversed(pattern(3 * disk.max_xfer + 512)))
    disk.pwrite(512, data)
    assert disk.pread(512, len(data)) == data


def test_the_ring_wraps_many_times(disk: AnyDisk) -> None:
    for number in range(1500):
        offset = number % 64 * 512
        disk.pwrite(offset, number.to_bytes(8, "big") * 64)
        assert disk.pread(offset, 512)[:8] == number.to_bytes(8, "big")


@pytest.mark.parametrize(
    ("offset", "nbytes"), [(1, 512), (0, 511), (SIZE, 512), (SIZE - 512, 1024), (-512, 512), (1 << 63, 512)]
)
def test_a_range_that_is_not_the_disks_is_refused_before_it_is_sent(
    disk: AnyDisk, offset: int, nbytes: int
) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        disk.pread(offset, nbytes)
    with pytest.raises(ValueError, match=r"\d"):
        disk.pwrite(offset, bytes(nbytes))
    assert disk.pread(0, 512) == pattern(512)


def test_a_read_only_disk_reads_and_refuses_writes(read_only_disk: AnyDisk) -> None:
    assert read_only_disk.read_only
    with pytest.raises(DiskError) as caught:
        read_only_disk.pwrite(0, bytes(512))
    assert caught.value.errno in (errno.EROFS, errno.ENOTSUP)
    read_only_disk.flush()
    assert read_only_disk.pread(0, 4096) == pattern(4096)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in STACK_WAYS])
def test_a_disk_of_4096_byte_blocks(vds: VdsServer, way: str) -> None:
    with open_way(way, vds, "big") as disk:
        assert disk.block_size == 4096
        disk.pwrite(4096, b"4" * 8192)
        assert disk.pread(0, 16384) == bytes(4096) + b"4" * 8192 + bytes(4096)
        with pytest.raises(ValueError, match="4096"):
            disk.pread(512, 512)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in STACK_WAYS])
def test_what_one_client_writes_another_reads(vds: VdsServer, way: str) -> None:
    with open_way(way, vds, "wce") as one, open_way("shm-blocking", vds, "wce") as other:
        one.pwrite(8192, b"one" * 1024 + bytes(1024))
        assert other.pread(8192, 3072) == b"one" * 1024
        other.pwrite(8192, b"two" * 1024 + bytes(1024))
        assert one.pread(8192, 3072) == b"two" * 1024
