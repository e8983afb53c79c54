"""How often the NBD server copies the data of long requests: by where in memory it is, not by what is called.

Each byte that the server receives is known by its address. What the disk is given is a copy where it lies
elsewhere. Everything stays referenced until the end, so that no address comes to mean something else.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.fakedisk import FakeDisk
from tests.support.nbdclient import READ, WRITE, NbdClient, request
from vdc.blockdisk import Done, ReadDone
from vdc.frontends.nbd import NbdServer
from vdc.frontends.nbd.connection import BUFFER_SIZE, LONG_WRITE

MIB = 1 << 20
Data = bytes | bytearray | memoryview


class WatchedDisk(FakeDisk):
    """Keeps what it is given and what it gives."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.given: list[Data] = []
        self.gave: list[object] = []

    def submit_write(self, offset: int, data: Data, callback: Done) -> None:
        self.given.append(data)
        super().submit_write(offset, data, callback)

    def submit_read(self, offset: int, nbytes: int, callback: ReadDone) -> None:
        def answered(data: Data | None, error: OSError | None) -> None:
            self.gave.append(data)
            callback(data, error)

        super().submit_read(offset, nbytes, answered)


class Received:
    """Where the bytes were put that sockets received, those of ``but`` excepted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.but: socket.socket | None = None
        self.places: set[range] = set()
        receive = socket.socket.recv_into

        def recv_into(sock: socket.socket, target: memoryview) -> int:
            count = receive(sock, target)
            if sock is not self.but:
                start = address(target)
                self.places.add(range(start, start + count))
            return count

        monkeypatch.setattr(socket.socket, "recv_into", recv_into)

    def copied(self, data: Data) -> int:
        """How many bytes of ``data`` lie where none was received."""
        if isinstance(data, bytes):  # nothing is ever received into bytes
            return len(data)
        start = address(memoryview(data))
        own = range(start, start + len(data))
        inside = (place for place in self.places if place.start in own)
        return len(data) - sum(len(place) for place in inside)


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view else 0


async def write(client: NbdClient, lengths: Iterable[int]) -> None:
    """Send writes of these lengths one behind the other, and wait for all answers."""
    lengths = list(lengths)
    content = b"".join(
        request(WRITE, cookie, 0, length, data=os.urandom(length)) for cookie, length in enumerate(lengths)
    )
    await client.send(content)
    assert [(await client.answer()).cookie for _ in lengths] == list(range(len(lengths)))


async def test_long_writes_in_a_row_are_received_where_they_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = Received(monkeypatch)
    disk = WatchedDisk(MIB)
    server = NbdServer(disk, tmp_path / "nbd.sock")
    server.start()
    async with NbdClient(tmp_path / "nbd.sock") as client:
        received.but = client.sock
        await client.negotiate()
        await write(client, [MIB] * 4)
        first, *others = (received.copied(data) for data in disk.given)
        assert 0 < first < BUFFER_SIZE  # what came in the same read as its header
        assert others == [0, 0, 0]
    await server.stop(0)


async def test_a_short_write_behind_a_long_one_ends_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = Received(monkeypatch)
    disk = WatchedDisk(MIB)
    server = NbdServer(disk, tmp_path / "nbd.sock")
    server.start()
    async with NbdClient(tmp_path / "nbd.sock") as client:
        received.but = client.sock
        await client.negotiate()
        await write(client, [MIB, LONG_WRITE, LONG_WRITE - 512, 512, 512])
        copied = [received.copied(data) for data in disk.given]
        assert copied[1:3] == [0, 0]  # behind the second of them many small ones may come at once
        assert copied[4] == 512
    await server.stop(0)


@pytest.mark.parametrize("structured", [False, True])
async def test_what_is_read_is_sent_as_the_disk_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, structured: bool
) -> None:
    sent: list[object] = []
    send = socket.socket.sendmsg

    def sendmsg(sock: socket.socket, pieces: list[Data]) -> int:
        sent.extend(piece.obj if isinstance(piece, memoryview) else piece for piece in pieces)
        return send(sock, pieces)

    monkeypatch.setattr(socket.socket, "sendmsg", sendmsg)
    disk = WatchedDisk(2 * MIB)
    server = NbdServer(disk, tmp_path / "nbd.sock")
    server.start()
    async with NbdClient(tmp_path / "nbd.sock") as client:
        await client.negotiate(structured=structured)
        await client.send(request(READ, 1, 0, 2 * MIB) + request(READ, 2, 0, 4096))
        for length in (2 * MIB, 4096):
            await (client.chunk() if structured else client.receive(16 + length))
    assert len(disk.gave) == 2
    assert all(any(piece is data for piece in sent) for data in disk.gave)
    await server.stop(0)
