"""Where the time of one request goes: the real objects of both daemons in one process, step by step.

Client session and server session sit on the two ends of a socket pair, with the client's real sealed memory
between them. A request is posted, served and answered by calling what the daemons call, so nothing waits and
nothing switches; each step is a loop of its own around the same call. What the sum lacks of a measured
latency is waiting: for the other processor to see a byte, for a look at the ring, for the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Final

import uvloop

from hypervisor.memory import MappedMemory
from hypervisor.rendezvous import Welcome
from protocol.errors import DiskError
from protocol.ldc.cookie import Permission
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import PLAIN, PLAIN_AT, RESULT, STATUS, STATUS_AT
from protocol.vdisk.operations import Operation
from protocol.vio.dring import Dstate
from protocol.vio.extensions import Extension
from vdc.guest import RING, GuestMemory
from vdc.requests import Request, RequestTable
from vdc.session import Session as ClientSession
from vds.execute import Executor
from vds.export import open_export
from vds.poller import Poller
from vds.ports import MappedPort
from vds.session import Session as ServerSession
from vds.volume import parse_volume

__all__ = ["Step", "measure"]

REPEATS: Final = 7
CALLS: Final = 5000
BLOCK: Final = 4096
DONE: Final = int(Dstate.DONE)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: whose, what, and its median cost. ``part`` is a part of the step above it."""

    side: str
    what: str
    nanoseconds: float
    part: bool = False


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


def _cost(call: Callable[[], object], prepare: Callable[[], object] | None = None) -> float:
    """Nanoseconds of ``call``, the cost of ``prepare`` before it taken off: the median of several loops."""

    def loop(body: Callable[[], object]) -> float:
        started = perf_counter_ns()
        for _ in range(CALLS):
            body()
        return (perf_counter_ns() - started) / CALLS

    if prepare is None:
        return median(loop(call) for _ in range(REPEATS)) - median(loop(_nothing) for _ in range(REPEATS))

    def both() -> None:
        prepare()
        call()

    return median(loop(both) - loop(prepare) for _ in range(REPEATS))


def _nothing() -> None: ...


def measure(image: Path) -> list[Step]:
    """Measure 4 KiB reads of ``image``, at least 1 MiB, polled ring, nobody asleep."""
    logging.getLogger("vds").setLevel(logging.ERROR)
    return uvloop.run(_measure(image))


async def _measure(image: Path) -> list[Step]:
    loop = asyncio.get_running_loop()
    export = open_export(parse_volume(f"disk={image}"))
    welcome = Welcome(extensions=Extension.POLLED_RING, instance=export.instance, poll_us=50)
    with ThreadPoolExecutor(1) as pool:
        export.executor = Executor(export, pool, loop)
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        guest = GuestMemory(shared=True)
        assert guest.fd is not None
        mapped = MappedMemory(os.dup(guest.fd), guest.size)
        log = logging.LoggerAdapter(logging.getLogger("vds"))
        server = ServerSession(theirs, mapped, welcome, export, Poller(loop, 50), log)
        table, owner = RequestTable(), _Owner()
        client = ClientSession(ours, guest, welcome, table, owner)
        server.start()
        client.start()
        loop.add_reader(ours.fileno(), client.readable)
        await owner.ready.wait()
        port = server._port
        assert isinstance(port, MappedPort)
        steps = _steps(client, guest, table, port, mapped, export.executor)
        loop.remove_reader(ours.fileno())
        client.close()
        await server.stop("measured")
        export.close()
    return steps


def _steps(
    client: ClientSession,
    guest: GuestMemory,
    table: RequestTable,
    port: MappedPort,
    mapped: MappedMemory,
    executor: Executor,
) -> list[Step]:
    """One request at a time, and the same call again and again."""
    read = int(Operation.BREAD)
    entries = guest.entries

    def make() -> Request:
        return Request(read, 8, BLOCK, _finish)

    def post() -> None:
        request = make()
        table.number(request)
        client.post(request)

    def serve() -> None:
        port.look()

    def answer() -> None:
        client.poll()

    client.ring(sleeping=False)
    post()
    client.ring(sleeping=False)
    serve()
    answer()

    def whole() -> None:
        post()
        client.ring(sleeping=False)
        serve()
        answer()

    def posted_alone() -> None:
        post()
        _withdraw(table, guest)

    def finish_directly() -> None:
        """In the server's place; it leaves the entry alone, and skips it."""
        RESULT.pack_into(entries, port._at + STATUS_AT, 0, 8, BLOCK)
        entries[port._at] = Dstate.DONE
        port._at = (port._at + RING.descriptor_size) % RING.nbytes

    def without_server() -> None:
        post()
        client.ring(sleeping=False)
        finish_directly()
        answer()

    total = _cost(whole)
    clients = _cost(without_server) - _cost(finish_directly)
    port._at = RING.offset(table.head)
    posting = _cost(posted_alone) - _cost(lambda: _withdraw_nothing(table, guest))
    doorbell = _cost(lambda: client.ring(sleeping=False))
    at = port._at
    post()
    *_, cookie, size = PLAIN.unpack_from(entries, at + PLAIN_AT)
    views = mapped.views(((cookie, size),), BLOCK, Permission.CW)
    known, words = mapped.known[Permission.CW].get, mapped.words

    def resolve() -> bool:
        page = known(cookie)
        return page is not None and page[:2] == (BLOCK, size) and words[page[2]] == page[3]

    def finish() -> None:
        STATUS.pack_into(entries, at + STATUS_AT, 0)
        entries[at] = DONE

    reading_entry = _cost(lambda: PLAIN.unpack_from(entries, at + PLAIN_AT))
    resolving = _cost(resolve)
    reading = _cost(lambda: executor.inline.try_read(views, 0))
    finishing = _cost(finish)
    entries[at] = Dstate.READY
    serve()
    answer()
    return [
        Step("both", "one request, posted to answered", total),
        Step("client", "request made, entry written", posting),
        Step("client", "doorbell: not needed", doorbell),
        Step("server", "one look at a ring with one entry", total - clients),
        Step("server", "entry's fields copied", reading_entry, part=True),
        Step("server", "cookie to memory, map table compared", resolving, part=True),
        Step("server", "read from the backend", reading, part=True),
        Step("server", "status, DONE", finishing, part=True),
        Step("client", "answer read and checked, data copied out", clients - posting - doorbell),
    ]


def _withdraw_nothing(table: RequestTable, guest: GuestMemory) -> None:
    """What :func:`_withdraw` costs by itself, nearly."""
    table.head = (table.head - 1) % RING.num_descriptors
    guest.entries[RING.offset(table.head)] = Dstate.FREE


def _withdraw(table: RequestTable, guest: GuestMemory) -> None:
    """Take the request just posted back."""
    table.head = (table.head - 1) % RING.num_descriptors
    request = table.slots[table.head]
    assert request is not None
    table.slots[table.head] = None
    table.outstanding -= 1
    guest.arena.give(request.offset, request.order)
    guest.entries[RING.offset(table.head)] = Dstate.FREE
