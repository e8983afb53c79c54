"""vdc against a disk server of version 1.0: no size told, no extension, one message a descriptor."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vdc
from hypervisor.channel import Channel
from hypervisor.memory import MappedMemory
from hypervisor.records import MapTableRecord
from hypervisor.rendezvous import Listener, Welcome
from protocol.errors import ChannelLost
from protocol.ldc.cookie import Permission
from protocol.ldc.events import LinkState
from protocol.stack import DescriptorsReady, QueueConfigured, RingOffered, Server
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import Request, parse_entry
from protocol.vdisk.operations import Operation, operations_mask
from protocol.vdisk.payloads import build_geometry, default_geometry
from protocol.vdisk.ring import ServerRing
from protocol.vdisk.status import WireErrno
from protocol.vio.extensions import NO_EXTENSION
from protocol.vio.messages import Version

SIZE = 16 * 1024 * 1024


class OldServer:
    """Serves one disk of ``SIZE`` bytes to one client at a time, as simply as can be."""

    def __init__(self, path: Path) -> None:
        self.disk = bytearray(SIZE)
        self.versions: list[Version] = []
        self.status = 0
        """What every request is answered with."""
        self._listener = Listener(path)
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stopped.close()
        self._thread.join()
        self._listener.close()
        self._stop.close()

    def _ready(self, fd: int) -> bool:
        """Wait for ``fd``; False when it is time to end."""
        readable, _, _ = select.select([fd, self._stop.fileno()], [], [])
        return self._stop.fileno() not in readable

    def _serve(self) -> None:
        while self._ready(self._listener.fileno()):
            pending = self._listener.accept()
            while pending is not None and self._ready(pending.fileno()):
                greeting = pending.receive()
                if greeting is not None and greeting[1] is not None:
                    memory = MappedMemory(greeting[1], greeting[0].memory_size)
                    welcome = Welcome(extensions=NO_EXTENSION, instance=bytes(16), poll_us=0)
                    self._converse(Channel(pending.welcome(welcome)), memory)
                    break

    def _converse(self, channel: Channel, memory: MappedMemory) -> None:
        attributes = DiskAttributes(
            size_blocks=SIZE // 512, max_xfer_blocks=256, operations=operations_mask((1, 0), False)
        )
        stack = Server(attributes, versions=((1, 0),))
        channel.queue_configured()
        ring: ServerRing | None = None
        try:
            while self._ready(channel.fileno()):
                for item in channel.receive():
                    if isinstance(item, bytes):
                        stack.receive_packet(item)
                    elif isinstance(item, LinkState):
                        stack.link_state(item)
                    elif isinstance(item, MapTableRecord):
                        memory.set_map_table(item.base, item.nentries)
                    while (event := stack.next_event()) is not None:
                        if isinstance(event, RingOffered):
                            self.versions.append(stack.version)
                            view = memory.map_ring(event.cookie, event.geometry.nbytes)
                            ring = ServerRing(view, event.geometry)
                            stack.accept_ring()
                        elif isinstance(event, DescriptorsReady) and ring is not None:
                            self._execute(parse_entry(ring.take(event.start_idx)), memory)
                            ring.finish(event.start_idx, self.status, self._nbytes)
                            stack.complete(event.batch, event.start_idx)
                    while (output := stack.next_output()) is not None:
                        if isinstance(output, QueueConfigured):
                            channel.queue_configured()
                        else:
                            channel.send_packet(output)
        except ChannelLost:
            pass
        finally:
            channel.close()

    def _execute(self, request: Request, memory: MappedMemory) -> None:
        self._nbytes = request.nbytes
        if request.operation == Operation.FLUSH:
            return
        start = request.addr * 512
        source: bytes | bytearray = self.disk[start : start + request.nbytes]
        if request.operation == Operation.BWRITE:
            (view,) = memory.views(request.cookies, request.nbytes, Permission.CR)
            self.disk[start : start + request.nbytes] = view
        else:
            if request.operation == Operation.GET_DISKGEOM:
                source = build_geometry(default_geometry(SIZE))
            (view,) = memory.views(request.cookies, request.nbytes, Permission.CW)
            view[:] = source


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OldServer]:
    old = OldServer(tmp_path / "old.sock")
    yield old
    old.close()


def test_the_size_is_that_of_the_geometry(server: OldServer, tmp_path: Path) -> None:
    geometry = default_geometry(SIZE)
    with vdc.connect(f"vdisk+unix:///old?socket={tmp_path / 'old.sock'}") as disk:
        assert disk.version == (1, 0)
        assert disk.size == geometry.pcyl * geometry.nhead * geometry.nsect * 512
        assert disk.capacity() == (512, disk.size // 512)
        assert not disk.extensions
    assert server.versions == [Version(1, 0)]


def test_data_goes_there_and_back(server: OldServer, tmp_path: Path) -> None:
    data = bytes(range(256)) * 2048
    with vdc.connect(f"vdisk+unix:///old?socket={tmp_path / 'old.sock'}") as disk:
        assert disk.max_xfer == 128 * 1024
        disk.pwrite(4096, data)
        disk.flush()
        assert disk.pread(4096, len(data)) == data
    assert server.disk[4096 : 4096 + len(data)] == data


async def test_without_a_thread_of_its_own_too(server: OldServer, tmp_path: Path) -> None:
    async with await vdc.open(f"vdisk+unix:///old?socket={tmp_path / 'old.sock'}") as disk:
        await disk.pwrite(512, b"async" * 512 + bytes(512))
        assert (await disk.pread(512, 3072)).startswith(b"asyncasync")


async def test_a_server_that_does_not_tell_the_size_is_left_at_once(
    server: OldServer, tmp_path: Path
) -> None:
    server.status = WireErrno.EIO
    uri = f"vdisk+unix:///old?socket={tmp_path / 'old.sock'}"
    async with asyncio.timeout(10):
        with pytest.raises(ChannelLost, match="does not tell the disk's size"):
            await vdc.open(uri)
    with pytest.raises(ChannelLost, match="does not tell the disk's size"):
        await asyncio.to_thread(vdc.connect, uri)
