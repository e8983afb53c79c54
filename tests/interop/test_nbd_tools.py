"""Programs that have never heard of us read and write a virtual disk: libnbd's tools, QEMU's and fio.

The whole way is there: tool → NBD → ``vdc serve`` → ring → ``vds serve`` → a file, all of them processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import VdcServer, VdsServer, run

MIB = 1 << 20
SIZE = 64 * MIB


@pytest.fixture(scope="module", params=["shm", "socket"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each of the transports between vdc and vds."""
    word: str = request.param
    return word


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the daemons' sockets and files are."""
    return tmp_path_factory.mktemp("daemons")


@pytest.fixture(scope="module")
def backend(folder: Path) -> Path:
    """The file behind the disk."""
    path = folder / "backend.img"
    path.touch()
    os.truncate(path, SIZE)
    return path


@pytest.fixture(scope="module")
def vds(folder: Path, backend: Path) -> Iterator[VdsServer]:
    """A server of three volumes: a file, the same size in memory with 4096-byte blocks, and one read-only."""
    (folder / "iso").write_bytes(os.urandom(MIB))
    volumes = {
        "disk0": str(backend),
        "large-blocks": "memory:64M,blocksize=4096",
        "fixed": f"{folder / 'iso'},ro",
    }
    with VdsServer(folder, volumes) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="module")
def vdc(folder: Path, vds: VdsServer, transport: str) -> Iterator[VdcServer]:
    """The first volume as NBD."""
    with VdcServer(vds.uri("disk0", transport=transport), folder, socket=f"{transport}.sock") as server:
        yield server
        assert server.stop() == 0


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of the disk's size, some of it zeroes."""
    path = tmp_path / "image"
    path.write_bytes(os.urandom(20 * MIB) + bytes(24 * MIB) + os.urandom(20 * MIB))
    return path


def test_nbdinfo_tells_what_the_export_is(vdc: VdcServer) -> None:
    (export,) = json.loads(run("nbdinfo", "--json", vdc.nbd_uri))["exports"]
    assert export["export-name"] == "disk0"
    assert export["export-size"] == SIZE
    assert export["block_size_minimum"] == 512
    assert export["block_size_preferred"] == 4096
    assert export["block_size_maximum"] == 32 * MIB
    capabilities = {name for name, value in export.items() if value is True}
    assert capabilities == {"can_df", "can_flush", "can_fua", "can_multi_conn", "can_zero"}


def test_nbdinfo_lists_the_export(vdc: VdcServer) -> None:
    listed = json.loads(run("nbdinfo", "--list", "--json", vdc.nbd_uri))
    assert listed["protocol"] == "newstyle-fixed"
    assert listed["structured"] is True
    assert [export["export-name"] for export in listed["exports"]] == ["disk0"]
    assert "disk0" in run("nbdinfo", vdc.nbd_uri)
    assert run("nbdinfo", "--size", vdc.nbd_uri).strip() == str(SIZE)


def test_nbdinfo_answers_by_exit_code(vdc: VdcServer) -> None:
    run("nbdinfo", "--can", "fua", vdc.nbd_uri)
    run("nbdinfo", "--can", "trim", vdc.nbd_uri, codes=[2])
    run("nbdinfo", "--is", "read-only", vdc.nbd_uri, codes=[2])


def test_another_export_name_is_refused(vdc: VdcServer) -> None:
    run("nbdinfo", vdc.nbd_uri.replace("nbd+unix:///", "nbd+unix:///disk1"), codes=[1])
    run("nbdinfo", vdc.nbd_uri.replace("nbd+unix:///", "nbd+unix:///disk0"))


@pytest.mark.parametrize("connections", [1, 4])
def test_nbdcopy_in_and_out(
    vdc: VdcServer, image: Path, backend: Path, tmp_path: Path, connections: int
) -> None:
    run("nbdcopy", f"--connections={connections}", "--flush", image, vdc.nbd_uri)
    run("cmp", image, backend)
    run("nbdcopy", f"--connections={connections}", vdc.nbd_uri, tmp_path / "out")
    run("cmp", image, tmp_path / "out")


def test_qemu_img_converts_and_compares(vdc: VdcServer, image: Path, backend: Path, tmp_path: Path) -> None:
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, vdc.nbd_uri)
    run("cmp", image, backend)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", vdc.nbd_uri, tmp_path / "out")
    run("cmp", image, tmp_path / "out")
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, vdc.nbd_uri)
    with image.open("r+b") as file:
        file.write(b"changed")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, vdc.nbd_uri, codes=[1])


def qemu_io(uri: str, *commands: str, options: tuple[str, ...] = (), codes: tuple[int, ...] = (0,)) -> str:
    """Run qemu-io's commands on the disk."""
    words = [word for command in commands for word in ("-c", command)]
    return run("qemu-io", "-f", "raw", *options, *words, uri, codes=codes)


def test_qemu_io_patterns(vdc: VdcServer, backend: Path) -> None:
    said = qemu_io(
        vdc.nbd_uri,
        "write -z 0 64M",
        "write -P 0x11 0 4M",
        "write -f -P 0x22 4096 512",
        "write -P 0x33 32M 31M",
        "flush",
        "write -z 1M 1M",
        "read -P 0x11 0 4096",
        "read -P 0x22 4096 512",
        "read -P 0x11 4608 1043968",
        "read -P 0 1M 1M",
        "read -P 0x11 2M 2M",
        "read -P 0x33 32M 31M",
        "read -P 0 63M 1M",
        "aio_write -P 0x44 8M 1M",
        "aio_write -P 0x55 9M 1M",
        "aio_flush",
        "read -P 0x44 8M 1M",
        "read -P 0x55 9M 1M",
    )
    assert "failed" not in said
    data = backend.read_bytes()
    assert data[4096:4608] == b"\x22" * 512
    assert data[9 * MIB : 10 * MIB] == b"\x55" * MIB
    assert not any(data[MIB : 2 * MIB])


def test_qemu_io_finds_a_wrong_pattern(vdc: VdcServer) -> None:
    assert "Pattern verification failed" in qemu_io(vdc.nbd_uri, "read -P 1 0 512", codes=(1,))


def test_qemu_img_bench(vdc: VdcServer) -> None:
    for words in (["-d", "32"], ["-d", "8", "-w"], ["-d", "4", "-w", "--flush-interval", "8"]):
        count = 400 if "--flush-interval" in words else 4000
        assert "Run completed" in run("qemu-img", "bench", "-f", "raw", "-c", str(count), *words, vdc.nbd_uri)


def fio(uri: str, *options: str) -> dict[str, int]:
    """Run fio's NBD engine; what it counted."""
    words = ["--name=t", "--ioengine=nbd", f"--uri={uri}", "--output-format=json", *options]
    said = run("fio", *words)
    (job,) = json.loads(said[said.index("{") :])["jobs"]
    return {"error": job["error"], "read": job["read"]["total_ios"], "write": job["write"]["total_ios"]}


@pytest.mark.parametrize(("depth", "size"), [(1, 2), (16, 16)])
def test_fio_verifies_what_it_wrote(vdc: VdcServer, depth: int, size: int) -> None:
    done = fio(
        vdc.nbd_uri, "--rw=randwrite", "--bs=4k", f"--iodepth={depth}", f"--size={size}M", "--verify=crc32c"
    )
    assert done == {"error": 0, "read": 256 * size, "write": 256 * size}


def test_fio_with_all_sizes_and_flushes(vdc: VdcServer) -> None:
    done = fio(
        vdc.nbd_uri,
        "--rw=randwrite",
        "--bsrange=512-1M",
        "--size=16M",
        "--iodepth=16",
        "--verify=crc32c",
        "--fsync=16",
    )
    assert done["error"] == 0
    assert done["write"] == done["read"] > 10


def test_blocks_of_4096_bytes(tmp_path: Path, vds: VdsServer, transport: str, image: Path) -> None:
    with VdcServer(vds.uri("large-blocks", transport=transport), tmp_path, "--export", "root") as vdc:
        (export,) = json.loads(run("nbdinfo", "--json", vdc.nbd_uri))["exports"]
        assert export["export-name"] == "root"
        assert export["block_size_minimum"] == 4096
        run("nbdcopy", image, vdc.nbd_uri)
        run("nbdcopy", vdc.nbd_uri, tmp_path / "out")
        run("cmp", image, tmp_path / "out")
        qemu_io(vdc.nbd_uri, "write -P 7 4000 100", "read -P 7 4000 100")  # QEMU widens it to whole blocks


@pytest.mark.parametrize("by", ["server", "client"])
def test_read_only_disk_refuses_writes(tmp_path: Path, folder: Path, vds: VdsServer, by: str) -> None:
    uri, options = (vds.uri("fixed"), []) if by == "server" else (vds.uri("disk0"), ["--read-only"])
    with VdcServer(uri, tmp_path, *options) as vdc:
        run("nbdinfo", "--is", "read-only", vdc.nbd_uri)
        qemu_io(vdc.nbd_uri, "read 0 1M", options=("-r",))
        run("nbdcopy", folder / "iso", vdc.nbd_uri, codes=[1])


def test_two_front_ends_show_one_disk(tmp_path: Path, vds: VdsServer) -> None:
    uri = vds.uri("large-blocks")
    with VdcServer(uri, tmp_path, socket="a") as first:
        qemu_io(first.nbd_uri, "write -P 9 1M 1M", "flush")
    with VdcServer(uri, tmp_path, socket="b") as second:
        qemu_io(second.nbd_uri, "read -P 9 1M 1M")
