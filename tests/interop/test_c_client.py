"""A client in C, written from ``docs/transport.md`` alone, against the real server; and the page's example.

What this proves: the page is enough to write a peer from. The client checks every byte that it reads back;
here the backend file is compared with the pattern, computed a second time.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import VdsServer, run

SOURCE = Path(__file__).parent / "c_client" / "client.c"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "transport.md"
SIZE = 1024 * 1024

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled client."""
    program = tmp_path_factory.mktemp("c_client") / "client"
    run("cc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", program, SOURCE)
    return program


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file behind volume ``file``."""
    path = tmp_path_factory.mktemp("image") / "disk.img"
    path.write_bytes(b"\xaa" * SIZE)
    return path


@pytest.fixture(scope="module")
def vds(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Iterator[VdsServer]:
    """Return a server with a file, a disk in memory, one of 4 KiB blocks, and one that cannot be written."""
    volumes: dict[str, str | Path] = {
        "file": image,
        "disk": "memory:1M",
        "blocks": "memory:2M,blocksize=4096",
        "readonly": "memory:1M,ro",
    }
    with VdsServer(tmp_path_factory.mktemp("vds"), volumes) as server:
        yield server


def pattern(size: int) -> bytes:
    """Return what the client writes: each word tells where it belongs."""
    words = ((index * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF for index in range(size // 8))
    return b"".join(word.to_bytes(8, "little") for word in words)


def counts(line: str) -> dict[str, int]:
    """Return the numbers that the client prints."""
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}


@pytest.mark.parametrize("transport", ["shm", "socket"])
class TestClientInC:
    def test_whole_disk_is_written_flushed_and_read_back(
        self, client: Path, vds: VdsServer, image: Path, transport: str
    ) -> None:
        image.write_bytes(b"\xaa" * SIZE)
        said = counts(run(client, vds.socket, "file", transport))
        assert image.read_bytes() == pattern(SIZE)
        assert said["written"] == said["verified"] == SIZE
        assert (said["blocks"], said["block_size"]) == (2048, 512)
        assert said["requests"] > 100
        assert (said["copies"] > said["requests"]) == (transport == "socket")

    @pytest.mark.parametrize(
        ("volume", "blocks", "block_size", "written"),
        [("disk", 2048, 512, SIZE), ("blocks", 512, 4096, 2 * SIZE)],
    )
    def test_other_disks(
        self,
        client: Path,
        vds: VdsServer,
        transport: str,
        volume: str,
        blocks: int,
        block_size: int,
        written: int,
    ) -> None:
        said = counts(run(client, vds.socket, volume, transport))
        assert (said["blocks"], said["block_size"]) == (blocks, block_size)
        assert said["written"] == said["verified"] == written

    def test_read_only_disk_offers_no_writes(self, client: Path, vds: VdsServer, transport: str) -> None:
        said = counts(run(client, vds.socket, "readonly", transport))
        assert (said["blocks"], said["written"], said["requests"]) == (2048, 0, 2)

    def test_unknown_volume_is_refused_in_words(self, client: Path, vds: VdsServer, transport: str) -> None:
        refused = subprocess.run(
            [client, vds.socket, "nowhere", transport], capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert refused.stderr == "client: refused: no volume 'nowhere' here (No such file or directory)\n"


def conversation() -> list[tuple[str, str, str]]:
    """Return (who, what, octets) of the page's worked example; ``.`` stands for any half octet."""
    block = re.search(r"```conversation\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    steps: list[tuple[str, str, str]] = []
    for line in block[1].splitlines():
        who, what, octets = line[:2].strip(), line[2:20].strip(), line[20:].replace(" ", "")
        if not who:
            who, what, before = steps.pop()
            octets = before + octets
        steps.append((who, what, octets))
    return [(who, what, _filled(octets)) for who, what, octets in steps]


def _filled(octets: str) -> str:
    """Return ``octets`` with zeros up to 64 bytes where the page leaves them out."""
    head, ellipsis, _ = octets.partition("…")
    return head.ljust(128, "0") if ellipsis else head


def test_worked_example_happens_as_written(vds: VdsServer) -> None:
    """Play the client's lines, and compare every octet of the server's."""
    steps = conversation()
    assert len(steps) == 26
    assert [who for who, _, _ in steps].count("S") == 13
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(30)
        client.connect(str(vds.socket))
        for who, what, octets in steps:
            if who == "C":
                client.send(bytes.fromhex(octets))
            else:
                received = client.recv(65536).hex()
                assert re.fullmatch(octets, received), f"{what}: {received} is not {octets}"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(65536) == b""
