"""The real objects of both daemons in one process: client and server session, joined by a socket pair.

The client's real sealed memory is between them. Whoever measures calls what the daemons call: nothing looks,
waits or runs by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hypervisor.memory import MappedMemory
from hypervisor.rendezvous import Welcome
from protocol.errors import DiskError
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.operations import Operation
from protocol.vio.extensions import Extension
from vdc.guest import GuestMemory
from vdc.requests import Request, RequestTable
from vdc.session import Session as ClientSession
from vds.execute import Executor
from vds.export import open_export
from vds.poller import Poller
from vds.ports import Port
from vds.session import Session as ServerSession
from vds.volume import parse_volume

__all__ = ["BLOCK", "Pair", "joined"]

BLOCK = 4096
_READ = int(Operation.BREAD)


class _Owner:
    """Whoever owns the client session: here, someone who waits for it to be ready."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()

    def session_ready(self, version: tuple[int, int], attributes: DiskAttributes) -> None:
        self.ready.set()

    def session_has_room(self) -> None: ...


def _finish(request: Request, error: DiskError | None) -> None:
    if error is not None:
        raise error


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both ends of a session; ``port`` and ``memory`` are the server's where memory is shared."""

    client: ClientSession
    guest: GuestMemory
    table: RequestTable
    server: ServerSession
    port: Port
    memory: MappedMemory | None
    executor: Executor

    def make(self) -> Request:
        """A read of one block."""
        return Request(_READ, 8, BLOCK, _finish)

    def post(self) -> None:
        """Make a read and put it into the ring."""
        request = Request(_READ, 8, BLOCK, _finish)
        self.table.number(request)
        self.client.post(request)


@asynccontextmanager
async def joined(image: Path, *, poll_us: int, shared: bool = True) -> AsyncIterator[Pair]:
    """Both ends of a session about ``image``, with what our daemons agree on.

    ``poll_us``: as the server's option; ``shared``: by shared memory, else by the socket alone.
    """
    loop = asyncio.get_running_loop()
    export = open_export(parse_volume(f"disk={image},share"))
    extension = Extension.POLLED_RING if shared else Extension.INLINE
    welcome = Welcome(extensions=extension, instance=export.instance, poll_us=poll_us)
    with ThreadPoolExecutor(1) as pool:
        export.executor = Executor(export, pool, loop)
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        guest = GuestMemory(shared=shared)
        memory = None if guest.fd is None else MappedMemory(os.dup(guest.fd), guest.size)
        log = logging.LoggerAdapter(logging.getLogger("vds"))
        server = ServerSession(theirs, memory, welcome, export, Poller(loop, poll_us), log)
        table, owner = RequestTable(), _Owner()
        client = ClientSession(ours, guest, welcome, table, owner)
        server.start()
        client.start()
        loop.add_reader(ours.fileno(), client.readable)
        await owner.ready.wait()
        loop.remove_reader(ours.fileno())
        port = server._port
        assert port is not None
        yield Pair(
            client=client,
            guest=guest,
            table=table,
            server=server,
            port=port,
            memory=memory,
            executor=export.executor,
        )
        client.close()
        await server.stop("measured")
        export.close()
