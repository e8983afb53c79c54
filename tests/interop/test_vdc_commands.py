"""The command ``vdc`` and its daemon as processes, against a real server."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemons import ROOT, Daemon, VdcServer, VdsServer, run
from tests.support.nbdclient import GO, READ, option, request, string

MIB = 1 << 20
SIZE = 16 * MIB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server's socket and files are."""
    return tmp_path_factory.mktemp("vds")


@pytest.fixture(scope="module")
def vds(folder: Path) -> Iterator[VdsServer]:
    """A server of good and bad volumes."""
    (folder / "image").write_bytes(os.urandom(SIZE))
    volumes = {
        "image": str(folder / "image"),
        "empty": "memory:16M",
        "large-blocks": "memory:16M,blocksize=4096",
        "small": "memory:1M",
        "fixed": "memory:16M,ro",
        "full": "memory:16M,error-rate=100%,error-op=write,error-errno=ENOSPC",
        "broken": "memory:16M,error-rate=100%,error-op=read",
        "held": f"memory:16M,pause-file={folder / 'hold'}",
    }
    with VdsServer(folder, volumes) as server:
        yield server
        assert server.stop() == 0, "\n".join(server.lines[-25:])


@pytest.fixture(params=["shm", "socket"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each of the transports."""
    word: str = request.param
    return word


def vdc(*words: str | Path, code: int = 0) -> tuple[str, str]:
    """Run the command; its stdout and stderr. It must exit with ``code``."""
    done = subprocess.run(
        [sys.executable, "-m", "vdc", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_info(vds: VdsServer, transport: str) -> None:
    facts = json.loads(vdc("info", vds.uri("large-blocks", transport=transport), "--json")[0])
    instance = facts.pop("instance")
    extensions = facts.pop("extensions")
    assert len(instance) == 32
    assert extensions == ["polled_ring" if transport == "shm" else "inline"]
    assert facts == {
        "volume": "large-blocks",
        "socket": str(vds.socket),
        "transport": transport,
        "state": "running",
        "size": SIZE,
        "block_size": 4096,
        "max_transfer": MIB,
        "read_only": False,
        "version": "1.2",
        "operations": ["BREAD", "BWRITE", "FLUSH", "GET_DISKGEOM", "GET_CAPACITY"],
    }
    assert "access:           read-only" in vdc("info", vds.uri("fixed", transport=transport))[0]


@pytest.mark.parametrize("words", [["info"], ["serve", "--nbd", "/tmp/never-made"]])
def test_what_cannot_be_opened_is_one_line(vds: VdsServer, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").touch()
    for uri, reason in [
        (vds.uri("no-such"), f"{vds.socket}: no volume 'no-such' here"),
        (vds.uri("image").replace("vds.sock", "no.sock"), "no such socket"),
        (f"vdisk+unix:///image?socket={tmp_path / 'file'}", "not a socket"),
        (f"vdisk+unix:///image?socket={tmp_path / ('x' * 120)}", "107"),
    ]:
        said, error = vdc(*words, uri, code=1)
        assert said == ""
        assert len(error.splitlines()) == 1
        assert reason in error
    assert not Path("/tmp/never-made").exists()


def test_copies_with_verification(vds: VdsServer, folder: Path, tmp_path: Path, transport: str) -> None:
    target, out = vds.uri("empty", transport=transport), tmp_path / "out"
    vdc("copy", vds.uri("image", transport=transport), target, "--verify")
    vdc("copy", target, out, "--verify")
    run("cmp", folder / "image", out)
    vdc("copy", out, vds.uri("large-blocks", transport=transport), "--verify", "--parallel", "32")
    vdc("copy", vds.uri("large-blocks"), tmp_path / "again", "--parallel", "1", "--loop", "asyncio")
    run("cmp", out, tmp_path / "again")


def test_odd_file_to_a_disk(vds: VdsServer, tmp_path: Path, transport: str) -> None:
    (tmp_path / "odd").write_bytes(os.urandom(5 * MIB + 777))
    for parallel in ("16", "64"):  # as many as take all the memory that is shared
        vdc(
            "copy",
            tmp_path / "odd",
            vds.uri("empty", transport=transport),
            "--verify",
            "--parallel",
            parallel,
        )


def test_copies_that_cannot_be(vds: VdsServer, folder: Path, tmp_path: Path) -> None:
    image = vds.uri("image")
    cases: list[tuple[str | Path, str | Path, str]] = [
        (image, image, "source and target are the same"),
        (image, vds.uri("image", transport="socket"), "source and target are the same"),
        (image, vds.uri("small"), "has 1048576 bytes, the source has 16777216"),
        (image, vds.uri("fixed"), "read-only"),
        (image, vds.uri("full"), "at offset 0: No space left on device"),
        (vds.uri("broken"), tmp_path / "out", "at offset 0: Input/output error"),
        (tmp_path / "none", image, "none: No such file or directory"),
        (tmp_path, image, "neither a regular file nor a block device"),
        (image, tmp_path, "Is a directory"),
    ]
    for source, target, reason in cases:
        error = vdc("copy", source, target, "--parallel", "1", code=1)[1]
        assert len(error.splitlines()) == 1
        assert reason in error
    assert (folder / "image").stat().st_size == SIZE


def test_copy_whose_flush_fails_is_no_copy(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(512))
    with VdsServer(tmp_path, {"volatile": "memory:1M,wce,error-rate=100%,error-op=flush"}) as vds:
        assert "flushing" in vdc("copy", tmp_path / "in", vds.uri("volatile"), code=1)[1]
        assert vds.stop() == 1


def test_errors_of_the_disk_reach_nbd_clients(vds: VdsServer, tmp_path: Path) -> None:
    with VdcServer(vds.uri("full"), tmp_path) as server:
        error = run("qemu-io", "-f", "raw", "-c", "write 0 4k", server.nbd_uri, codes=[1])
        assert "No space left on device" in error
        run("qemu-io", "-f", "raw", "-c", "read -P 0 0 4k", server.nbd_uri)
    with VdcServer(vds.uri("broken"), tmp_path) as server:
        run("nbdcopy", server.nbd_uri, tmp_path / "out", codes=[1])
        error = run("qemu-io", "-f", "raw", "-c", "read 0 4k", server.nbd_uri, codes=[1])
        assert "Input/output error" in error


def test_dead_servers_socket_is_replaced_and_a_live_one_refused(vds: VdsServer, tmp_path: Path) -> None:
    first = VdcServer(vds.uri("empty"), tmp_path).start()
    error = vdc("serve", vds.uri("empty"), "--nbd", first.socket, code=1)[1]
    assert error == f"vdc: {first.socket}: in use by a live server\n"
    run("nbdinfo", first.nbd_uri)
    first.kill()
    assert first.socket.exists()
    with VdcServer(vds.uri("empty"), tmp_path) as second:
        run("nbdinfo", second.nbd_uri)
        assert second.stop() == 0
    assert not second.socket.exists()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_ready_line_names_disk_and_export(vds: VdsServer, tmp_path: Path, loop: str) -> None:
    with VdcServer(vds.uri("empty"), tmp_path, "--loop", loop, "--export", "a b") as server:
        path = server.socket
        line = f"vdc: ready: empty (16.0 MiB) as NBD on {path}: nbd+unix:///a%20b?socket={path}"
        assert line in server.lines
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_second_term_ends_a_server_whose_disk_hangs(vds: VdsServer, folder: Path, tmp_path: Path) -> None:
    (folder / "hold").touch()
    with (
        VdcServer(vds.uri("held"), tmp_path, "--stop-timeout", "600") as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client,
    ):
        client.connect(str(server.socket))
        client.sendall((3).to_bytes(4, "big") + option(GO, string("") + b"\0\0"))
        client.sendall(request(READ, 1, 0, 512) + request(READ, 2, 1, 1))
        said = bytearray()
        while not said.endswith((22).to_bytes(4, "big") + (2).to_bytes(8, "big")):
            said += client.recv(4096)  # when the second request is refused the first is on its way
        server.signal(signal.SIGTERM)
        server.wait_for("stopping: 1 NBD clients")
        server.signal(signal.SIGTERM)
        assert server.wait() == 1
        assert server.lines[-1] == "vdc: stopped with requests unanswered"
        assert client.recv(1) == b""
    (folder / "hold").unlink()


def test_end_of_the_parent_ends_the_server(vds: VdsServer, tmp_path: Path) -> None:
    starter = (
        "import subprocess, sys;"
        "child = subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE, text=True);"
        "print(child.stderr.readline(), child.pid, file=sys.stderr, flush=True);"
        "sys.stdin.read()"
    )
    words = [sys.executable, "-m", "vdc", "serve", vds.uri("empty"), "--nbd", str(tmp_path / "s")]
    parent = Daemon(sys.executable, "-c", starter, *words, "--exit-with-parent").start()
    (match,) = parent.wait_for(r"^ ?(\d+)$")
    child = os.pidfd_open(int(match[1]))
    try:
        parent.kill()
        ended = select.poll()
        ended.register(child, select.POLLIN)
        assert ended.poll(30_000)
    finally:
        os.close(child)
    assert not (tmp_path / "s").exists()
