"""The NBD server as a whole: its socket, its limits on connections, its end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.fakedisk import FakeDisk
from tests.support.nbdclient import (
    EXPORT_NAME,
    FLUSH,
    GO,
    LIST,
    READ,
    WRITE,
    NbdClient,
    option,
    request,
    string,
)
from tests.support.turns import until
from vdc.frontends.nbd import NbdServer
from vdc.frontends.nbd import server as server_module

MIB = 1 << 20


@asynccontextmanager
async def serving(
    path: Path,
    disk: FakeDisk,
    *,
    handshake_limit_s: float = 10.0,
    name: str | None = None,
    read_only: bool = False,
) -> AsyncIterator[NbdServer]:
    """A server of ``disk`` at ``path``."""
    server = NbdServer(disk, path, name=name, read_only=read_only, handshake_limit_s=handshake_limit_s)
    server.start()
    try:
        yield server
    finally:
        await server.stop(0)


async def test_uri_names_export_and_socket(tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    async with serving(path, FakeDisk(MIB, volume="vol 1/ü")) as server:
        assert server.uri == f"nbd+unix:///vol%201%2F%C3%BC?socket={tmp_path}/a%20socket"


async def test_export_may_have_another_name(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB), name="root"), NbdClient(tmp_path / "s") as client:
        await client.negotiate(name="root")
        assert await client.read(0, 512) == bytes(512)


async def test_read_only_by_option(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    async with serving(tmp_path / "s", disk, read_only=True), NbdClient(tmp_path / "s") as client:
        await client.negotiate()
        assert client.flags & 2
        await client.send(request(WRITE, 1, 0, 512, data=bytes(512)))
        assert await client.answer() == (1, 1)
    assert disk.log == []


async def test_export_name_enters_transmission(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)), NbdClient(tmp_path / "s") as client:
        await client.connect()
        await client.send((3).to_bytes(4, "big") + option(EXPORT_NAME, b"disk0") + request(READ, 1, 0, 512))
        assert int.from_bytes((await client.receive(10))[:8], "big") == MIB
        assert await client.answer() == (0, 1)


async def test_first_request_may_come_with_the_last_option(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)), NbdClient(tmp_path / "s") as client:
        await client.connect()
        await client.send((3).to_bytes(4, "big") + option(GO, string("") + b"\0\0") + request(FLUSH, 1))
        await client.option_reply()
        await client.option_reply()
        assert await client.answer() == (0, 1)


async def test_refused_handshake_closes_after_the_reply(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)), NbdClient(tmp_path / "s") as client:
        await client.connect()
        await client.send((3).to_bytes(4, "big") + option(2))
        assert await client.option_reply() == (2, 1, b"")
        assert await client.is_closed()


async def test_option_in_pieces(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)), NbdClient(tmp_path / "s") as client:
        await client.connect()
        for byte in (3).to_bytes(4, "big") + option(LIST):
            await client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.option_reply()).data == string("disk0")


async def test_flush_of_one_connection_covers_another(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    async with (
        serving(tmp_path / "s", disk),
        NbdClient(tmp_path / "s") as writer,
        NbdClient(tmp_path / "s") as flusher,
    ):
        await writer.negotiate()
        await flusher.negotiate()
        assert writer.flags & 0x100
        await writer.send(request(WRITE, 1, 0, 512, data=b"x" * 512))
        assert await writer.answer() == (0, 1)
        await flusher.send(request(FLUSH, 1))
        assert await flusher.answer() == (0, 1)
        assert disk.stable[:512] == b"x" * 512


async def test_silent_client_is_closed_at_the_limit(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB), handshake_limit_s=0.01) as server:
        async with NbdClient(tmp_path / "s") as client:
            await client.connect()
            await client.send(b"\0\0")
            assert await client.is_closed()
        assert server.connections == 0


async def test_limit_holds_for_the_handshake_only(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "s", FakeDisk(MIB), handshake_limit_s=0.02),
        NbdClient(tmp_path / "s") as client,
    ):
        await client.negotiate()
        async with NbdClient(tmp_path / "s") as silent:
            await silent.connect()
            assert await silent.is_closed()
        assert await client.read(0, 512) == bytes(512)


async def test_silent_clients_lock_nobody_out(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)) as server:
        silent = [await NbdClient(tmp_path / "s").connect() for _ in range(100)]
        async with NbdClient(tmp_path / "s") as client:
            await client.negotiate()
            assert await client.read(0, 512) == bytes(512)
        assert server.connections <= 100
        assert await silent[0].is_closed()
        for each in silent:
            each.sock.close()


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    async with serving(tmp_path / "s", FakeDisk(MIB)) as server:
        first, second = [await NbdClient(tmp_path / "s").negotiate() for _ in range(2)]
        third = NbdClient(tmp_path / "s")
        waiting = asyncio.ensure_future(third.negotiate())
        await asyncio.sleep(0)
        assert server.connections == 2
        assert not waiting.done()
        first.sock.close()
        await waiting
        assert server.connections == 2
        for client in (second, third):
            client.sock.close()


async def test_accepting_goes_on_when_descriptors_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "RETRY_S", 0.0)
    failures = [errno.EMFILE, errno.EAGAIN]

    class Scarce(socket.socket):
        """A listening socket that cannot accept at first."""

        def accept(self) -> tuple[socket.socket, object]:
            if failures:
                number = failures.pop()
                raise OSError(number, os.strerror(number))
            return super().accept()

    monkeypatch.setattr(socket, "socket", Scarce)
    async with serving(tmp_path / "s", FakeDisk(MIB)), NbdClient(tmp_path / "s") as client:
        await client.negotiate()
    assert not failures


async def test_stop_while_descriptors_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = asyncio.Event()

    class Scarce(socket.socket):
        """A listening socket that cannot accept."""

        def accept(self) -> tuple[socket.socket, object]:
            tried.set()
            raise OSError(errno.EMFILE, "no descriptors")

    monkeypatch.setattr(socket, "socket", Scarce)
    client = socket.socket(socket.AF_UNIX)
    async with serving(tmp_path / "s", FakeDisk(MIB)):
        client.connect(str(tmp_path / "s"))
        await tried.wait()
    client.close()


async def test_stop_answers_what_runs_and_takes_no_more(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    disk.hold()
    async with serving(tmp_path / "s", disk) as server, NbdClient(tmp_path / "s") as client:
        await client.negotiate()
        await client.send(request(WRITE, 1, 0, 512, data=b"x" * 512))
        await until(lambda: len(disk.held) == 1)
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0)
        await client.send(request(READ, 2, 0, 512))
        disk.release()
        assert await client.answer() == (0, 1)
        assert await client.is_closed()
        assert await stopping
    assert disk.counts["read"] == 0
    assert not (tmp_path / "s").exists()


async def test_stop_cuts_off_after_the_grace_time(tmp_path: Path) -> None:
    disk = FakeDisk(MIB)
    disk.hold()
    async with serving(tmp_path / "s", disk) as server, NbdClient(tmp_path / "s") as client:
        await client.negotiate()
        await client.send(request(READ, 1, 0, 512))
        await until(lambda: len(disk.held) == 1)
        assert not await server.stop(0)
        assert await client.is_closed()
        disk.release()
        assert await server.stop(0)


async def test_stop_ends_clients_that_negotiate(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)) as server, NbdClient(tmp_path / "s") as client:
        await client.connect()
        assert await server.stop(30)
        assert await client.is_closed()


async def test_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)):
        mode = (tmp_path / "s").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


async def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "s"))
    async with serving(tmp_path / "s", FakeDisk(MIB)), NbdClient(tmp_path / "s") as client:
        await client.negotiate()


async def test_live_socket_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)):
        with pytest.raises(OSError, match="live server") as caught:
            NbdServer(FakeDisk(MIB), tmp_path / "s").start()
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.filename == str(tmp_path / "s")
        async with NbdClient(tmp_path / "s") as client:
            await client.negotiate()


async def test_live_socket_with_a_full_backlog_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        first.connect(str(tmp_path / "s"))
        with pytest.raises(OSError, match="live server"):
            NbdServer(FakeDisk(MIB), tmp_path / "s").start()


async def test_socket_of_another_kind_of_server_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        with pytest.raises(OSError, match="another kind of server") as caught:
            NbdServer(FakeDisk(MIB), tmp_path / "s").start()
    assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, str(tmp_path / "s"))


async def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"):
        NbdServer(FakeDisk(MIB), tmp_path / "s").start()
    assert (tmp_path / "s").read_text() == "precious"


async def test_overlong_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="at most 107 bytes") as caught:
        NbdServer(FakeDisk(MIB), tmp_path / ("x" * 120)).start()
    assert caught.value.errno == errno.ENAMETOOLONG


async def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NbdServer(FakeDisk(MIB), tmp_path / "none" / "s").start()


async def test_overlong_export_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4096"):
        NbdServer(FakeDisk(MIB), tmp_path / "s", name="x" * 4097)


async def test_stop_leaves_the_socket_of_a_successor(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)):
        (tmp_path / "s").unlink()
        (tmp_path / "s").write_text("somebody else's")
    assert (tmp_path / "s").read_text() == "somebody else's"


async def test_stop_survives_a_socket_that_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", FakeDisk(MIB)) as server:
        (tmp_path / "s").unlink()
        assert await server.stop(0)
    assert await server.stop(0)
