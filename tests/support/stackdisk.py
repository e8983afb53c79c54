"""A whole virtual disk in one process: a client and a server joined through ``protocol`` alone, no sockets.

Guest memory is a ``bytearray`` with a map table, a ring and buffers; the backend is another ``bytearray``;
the channel is two queues of packets. It is a test's disk and a proof: whatever an embedder needs stands in
``protocol``. Every call works until the disk is quiet, so it answers at once.

    disk = StackDisk(bytearray(1 << 20), mode="polled")
    disk.pwrite(0, b"x" * 512)
    assert disk.pread(0, 512) == b"x" * 512

A test may break things: ``on_request(request)`` returns a status instead of 0 for a request the server takes,
``on_packet(wire, packet)`` returns what is carried in place of the output that ``wire`` carries now, or None.
``on_entry(kind, index, seq_num, entry)`` is told what a capture notes: each step of a ring entry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Final, Literal, TypeAlias

from protocol.capture import NoteKind
from protocol.errors import CookieError, DiskError, HvStatus, RingError
from protocol.ldc.cookie import PAGE_SIZE, Cookie, MapTable, Permission
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    Client,
    ClientEvent,
    DescriptorsDone,
    DescriptorsReady,
    DoorbellRung,
    InbandDone,
    LinkState,
    Negotiated,
    QueueConfigured,
    RangeOpened,
    RangeStopped,
    RequestReceived,
    RingOffered,
    Server,
    ServerEvent,
    SessionLost,
    SessionReady,
    SessionReset,
    Woken,
)
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import Request, build_entry, build_payload, parse_entry
from protocol.vdisk.operations import BLOCK_IO, SLICE_NONE, Operation, operations_mask
from protocol.vdisk.payloads import (
    CAPACITY_NBYTES,
    GEOMETRY_NBYTES,
    Capacity,
    CapacityLayout,
    Geometry,
    build_geometry,
    default_geometry,
    parse_geometry,
)
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vdisk.status import WireErrno, from_wire
from protocol.vdisk.validate import clip, validate
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import NO_EXTENSION, Extension
from protocol.vio.messages import OPEN_ENDED, TransferMode

__all__ = ["Guest", "Mode", "Packet", "ServerSide", "StackDisk", "Wire"]

Mode: TypeAlias = Literal["plain", "polled", "inband", "open"]
Packet: TypeAlias = bytes | QueueConfigured
OnPacket: TypeAlias = "Callable[[Wire, Packet], Packet | None]"
OnEntry: TypeAlias = Callable[[NoteKind, int, int, memoryview], None]

TABLE_ENTRIES: Final = 64
RING: Final = RingGeometry(num_descriptors=8, descriptor_size=128)
RING_AT: Final = PAGE_SIZE  # behind the map table
BUFFERS_AT: Final = 2 * PAGE_SIZE
MAX_XFER: Final = 4 * PAGE_SIZE
MEMORY_SIZE: Final = BUFFERS_AT + RING.num_descriptors * MAX_XFER
EXTENSIONS: Final[Mapping[Mode, Extension]] = {
    "plain": NO_EXTENSION,
    "polled": Extension.POLLED_RING,
    "inband": NO_EXTENSION,
    "open": Extension.OPEN_RANGES,
}
ATTEMPTS: Final = 4  # sessions a request may see before the test fails
ALL: Final = Permission.R | Permission.W | Permission.CR | Permission.CW


class Guest:
    """Guest memory as both sides see it: the client exports, the server resolves."""

    def __init__(self) -> None:
        self.memory = bytearray(MEMORY_SIZE)
        self.view = memoryview(self.memory)
        self.table = MapTable(self.view[: TABLE_ENTRIES * 16], TABLE_ENTRIES)

    def views(self, cookies: Sequence[Cookie], nbytes: int, need: Permission) -> list[memoryview]:
        """Return views of ``nbytes`` bytes behind ``cookies``, rounded up to 8.

        Raises: CookieError (a cookie that does not resolve; too few bytes).
        """
        rest = -(-nbytes // 8) * 8
        views = []
        for addr, size in cookies:
            length = min(size, rest)
            if length:
                views += [self.view[ra : ra + run] for ra, run in self.table.resolve(addr, length, need)]
            rest -= length
        if rest:
            raise CookieError(HvStatus.ENOMAP, f"cookies are {rest} bytes too short")
        return views

    def ring(self, cookie: Cookie, nbytes: int) -> memoryview:
        """Return the memory of a ring, which is one piece.

        Raises: CookieError (it does not resolve, or not to one piece).
        """
        pieces = self.views([cookie], nbytes, Permission.R | Permission.W)
        if len(pieces) != 1:
            raise CookieError(HvStatus.ENOMAP, "the ring is in pieces")
        return pieces[0]


def scatter(views: Sequence[memoryview], data: bytes) -> None:
    """Fill ``views`` with ``data``, and with zeroes behind it."""
    for view in views:
        piece, data = data[: len(view)], data[len(view) :]
        view[:] = piece + bytes(len(view) - len(piece))


class ServerSide:
    """A disk server around :class:`protocol.stack.Server`: maps the ring, executes, completes."""

    def __init__(self, disk: StackDisk) -> None:
        self.disk = disk
        self.stack = Server(disk.attributes, extensions=disk.extensions, polls=False)
        self.ring: ServerRing | None = None
        self.next_index = 0
        self.resets: list[SessionReset] = []

    def handle(self, event: ServerEvent) -> None:
        """Do what an event asks for."""
        if isinstance(event, RingOffered):
            self.offered(event)
        elif isinstance(event, DescriptorsReady):
            self.take(event)
        elif isinstance(event, RangeOpened):
            self.take_open(event)
        elif isinstance(event, DoorbellRung):
            self.look()
        elif isinstance(event, RequestReceived):
            self.inband(event)
        elif isinstance(event, SessionReset):
            self.resets.append(event)
            self.ring = None
            self.stack.reset_done()
        else:
            assert isinstance(event, Negotiated | SessionReady)

    def offered(self, event: RingOffered) -> None:
        """Map the ring."""
        try:
            memory = self.disk.guest.ring(event.cookie, event.geometry.nbytes)
        except CookieError as error:
            self.stack.refuse_ring(str(error))
        else:
            self.ring = ServerRing(memory, event.geometry)
            self.next_index = 0
            self.stack.accept_ring()

    def take(self, event: DescriptorsReady) -> None:
        """Plain ring: execute a range, complete it in the disk's order."""
        ring = self.ring
        assert ring is not None
        end = (event.start_idx + event.count - 1) % ring.geometry.num_descriptors
        for index in self.disk.order(list(ring.geometry.indices(event.start_idx, end))):
            try:
                self.execute(ring, index)
            except (RingError, CookieError) as error:
                self.stack.fault(event.batch, index, str(error))
                return
            self.stack.complete(event.batch, index)

    def take_open(self, event: RangeOpened) -> None:
        """Open range: take everything that is READY, complete it in the disk's order, piece by piece."""
        ring = self.ring
        assert ring is not None
        taken: dict[int, Request] = {}
        for index in self.ready(ring, event.start_idx):
            self.stack.taken(event.batch, index)
            taken[index] = self.accept(ring, index)
        in_order = self.disk.order(list(taken))
        for index in in_order:
            try:
                self.finish(ring, index, taken[index])
            except (RingError, CookieError) as error:
                self.stack.fault(event.batch, index, str(error))
                return
            self.stack.complete(event.batch, index)
            if index != in_order[-1]:
                self.stack.progress(event.batch)
        self.stack.stopped(event.batch)

    def ready(self, ring: ServerRing, start: int) -> list[int]:
        """Return the entries from ``start`` on, up to one that is not READY."""
        count = ring.geometry.num_descriptors
        around = [(start + step) % count for step in range(count)]
        return list(takewhile(ring.is_ready, around))

    def look(self) -> None:
        """Polled ring: execute everything that is READY, complete it in the disk's order."""
        ring = self.ring
        assert ring is not None
        first = self.next_index
        ready = self.ready(ring, first)
        self.next_index = (first + len(ready)) % ring.geometry.num_descriptors
        for index in self.disk.order(ready):
            try:
                self.execute(ring, index)
            except (RingError, CookieError) as error:
                self.next_index = first
                self.stack.fault(None, index, str(error))
                return
            self.stack.completed(1)
        self.stack.end_of_batch(self.next_index, stopping=True)

    def inband(self, event: RequestReceived) -> None:
        """In-band: execute one request."""
        try:
            status, nbytes = self.run(event.request)
        except CookieError as error:
            self.stack.fault(event.batch, 0, str(error))
        else:
            self.stack.complete_inband(event.batch, status, nbytes)

    def execute(self, ring: ServerRing, index: int) -> None:
        """Take one entry, do what it asks for, answer it."""
        self.finish(ring, index, self.accept(ring, index))

    def accept(self, ring: ServerRing, index: int) -> Request:
        """Take one entry."""
        request = parse_entry(ring.take(index))
        self.disk.note(NoteKind.TAKEN, index)
        return request

    def finish(self, ring: ServerRing, index: int, request: Request) -> None:
        """Do what an entry asks for, answer it."""
        ring.finish(index, *self.run(request))
        self.disk.note(NoteKind.FINISHED, index)

    def run(self, request: Request) -> tuple[int, int]:
        """Validate and execute; returns (status, nbytes)."""
        disk = self.disk
        forced = disk.on_request(request)
        export = self.stack.announced
        status = forced or validate(request.operation, request.slice, request.addr, request.nbytes, export)
        block_io = request.operation in BLOCK_IO
        if status:
            return status, 0 if block_io else request.nbytes
        if request.operation == Operation.FLUSH:
            disk.flushes += 1
            return 0, 0
        if not block_io:
            data = {
                Operation.GET_CAPACITY: lambda: CapacityLayout.build(
                    Capacity(vdisk_block_size=export.block_size, vdisk_size=export.size_blocks)
                ),
                Operation.GET_DISKGEOM: lambda: build_geometry(default_geometry(export.size)),
            }[Operation(request.operation)]()
            scatter(disk.guest.views(request.cookies, request.nbytes, Permission.CW), data)
            return 0, request.nbytes
        start = request.addr * export.block_size
        length = clip(request.addr, request.nbytes, export)
        if request.operation == Operation.BREAD:
            views = disk.guest.views(request.cookies, request.nbytes, Permission.CW)
            scatter(views, bytes(disk.backend[start : start + length]))
        else:
            views = disk.guest.views(request.cookies, request.nbytes, Permission.CR)
            disk.backend[start : start + length] = b"".join(views)[:length]
        return 0, length


class Wire:
    """What travels in one direction; ``carried`` outputs have arrived."""

    def __init__(self) -> None:
        self.packets: deque[Packet] = deque()
        self.carried = 0


class StackDisk:
    """A disk with plain, synchronous methods; offsets and lengths are bytes, multiples of the block size."""

    def __init__(
        self,
        backend: bytearray,
        *,
        mode: Mode = "plain",
        block_size: int = 512,
        read_only: bool = False,
        versions: Sequence[tuple[int, int]] = ((1, 2),),
        order: Callable[[list[int]], list[int]] = lambda indices: indices,
        on_packet: OnPacket = lambda wire, packet: packet,
        on_entry: OnEntry = lambda kind, index, seq_num, entry: None,
    ) -> None:
        """``order`` rearranges the requests of a batch, as a backend with several workers does."""
        self.backend = backend
        self.mode = mode
        self.order = order
        self.flushes = 0
        self.sessions = 0
        self.lost: list[str] = []
        self.on_request: Callable[[Request], int] = lambda request: 0
        self.on_packet = on_packet
        self.on_entry = on_entry
        self.extensions = EXTENSIONS[mode]
        self.attributes = DiskAttributes(
            size_blocks=len(backend) // block_size,
            max_xfer_blocks=MAX_XFER // block_size,
            block_size=block_size,
            operations=operations_mask((1, 2), read_only),
            phys_block_size=block_size,
        )
        self.guest = Guest()
        self.server = ServerSide(self)
        self.client = Client(
            max_xfer_blocks=MAX_XFER // 512,
            versions=versions,
            xfer_mode=TransferMode.INBAND if mode == "inband" else TransferMode.RING,
            extensions=self.extensions,
        )
        self.to_server = Wire()
        self.to_client = Wire()
        self._ready: SessionReady | None = None
        self._ring_view = self.guest.view[RING_AT : RING_AT + RING.nbytes]
        self._ring = ClientRing(self._ring_view, RING)
        (self._ring_cookie,) = self.guest.table.export(RING_AT, RING.nbytes, ALL)
        self._next = 0
        self._req_id = 0
        self._outstanding: dict[int, Request] = {}
        self._numbers: dict[int, int] = {}  # entry -> number of the message that announced it
        self._answers: dict[int, tuple[int, int]] = {}
        self.server.stack.link_state(LinkState.UP)
        self.client.link_state(LinkState.UP)
        self.pump()

    # -- facts -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> SessionReady:
        """The session that stands."""
        assert self._ready is not None, f"no session: {self.lost}"
        return self._ready

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self.ready.attributes.block_size

    @property
    def size(self) -> int:
        """Bytes of the disk, as the attributes say, or as its capacity does."""
        block_size, size_blocks = self.block_size, self.ready.attributes.size_blocks
        if self.version < (1, 1):
            geometry = self.geometry()
            return geometry.pcyl * geometry.nhead * geometry.nsect * 512
        return size_blocks * block_size

    @property
    def max_xfer(self) -> int:
        """Bytes one request may carry."""
        return self.ready.attributes.max_xfer_blocks * self.block_size

    @property
    def read_only(self) -> bool:
        """Writing is not offered."""
        return self.ready.attributes.read_only

    @property
    def version(self) -> tuple[int, int]:
        """The version agreed."""
        return self.ready.version

    # -- requests --------------------------------------------------------------------------------------------

    def pread(self, offset: int, nbytes: int) -> bytes:
        """Read ``nbytes`` at ``offset``. Raises: ValueError (misaligned or outside), DiskError."""
        pieces = self._pieces(offset, nbytes)
        answers = self._submit([(Operation.BREAD, at, length, b"") for at, length in pieces])
        return b"".join(answers)

    def pwrite(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``. Raises: ValueError (misaligned or outside), DiskError."""
        pieces = self._pieces(offset, len(data))
        self._submit(
            [
                (Operation.BWRITE, at, length, data[at - offset : at - offset + length])
                for at, length in pieces
            ]
        )

    def flush(self) -> None:
        """Make writes stable; a disk that does not offer it has nothing to flush."""
        if self.ready.attributes.operations >> Operation.FLUSH & 1:
            self._submit([(Operation.FLUSH, 0, 0, b"")])

    def capacity(self) -> tuple[int, int]:
        """Return (block size, size in blocks)."""
        (data,) = self._submit([(Operation.GET_CAPACITY, 0, CAPACITY_NBYTES, b"")])
        capacity = CapacityLayout.parse(data)
        return capacity.vdisk_block_size, capacity.vdisk_size

    def geometry(self) -> Geometry:
        """Return the geometry."""
        (data,) = self._submit([(Operation.GET_DISKGEOM, 0, GEOMETRY_NBYTES, b"")])
        return parse_geometry(data)

    def request(self, operation: int, *, addr: int = 0, nbytes: int = 0, slice: int = SLICE_NONE) -> bytes:
        """Send one request just so; its buffer is of zeroes before. Raises: DiskError."""
        return self._batch([self._make(operation, addr, nbytes, slice, b"", 0)])[0]

    def _pieces(self, offset: int, nbytes: int) -> list[tuple[int, int]]:
        """Cut a range into transfers."""
        if offset % self.block_size or nbytes % self.block_size or offset < 0 or nbytes < 0:
            raise ValueError(f"{nbytes} bytes at {offset}: not blocks of {self.block_size}")
        if offset + nbytes > self.ready.attributes.size_blocks * self.block_size:
            raise ValueError(f"{nbytes} bytes at {offset}: beyond the end")
        step = self.max_xfer
        return [(at, min(step, offset + nbytes - at)) for at in range(offset, offset + nbytes, step)]

    def _submit(self, wanted: Sequence[tuple[int, int, int, bytes]]) -> list[bytes]:
        """Do (operation, offset, nbytes, data) a ring at a time; returns the buffers."""
        answers = []
        for first in range(0, len(wanted), RING.num_descriptors):
            batch = [
                self._make(operation, offset // self.block_size, nbytes, SLICE_NONE, data, number)
                for number, (operation, offset, nbytes, data) in enumerate(
                    wanted[first : first + RING.num_descriptors]
                )
            ]
            answers += self._batch(batch)
        return answers

    def _make(self, operation: int, addr: int, nbytes: int, slice: int, data: bytes, buffer: int) -> Request:
        """Put ``data`` into buffer number ``buffer``, export it, and return the request for it."""
        self._req_id += 1
        length = -(-min(nbytes, MAX_XFER) // 8) * 8
        cookies: tuple[Cookie, ...] = ()
        if length:
            at = BUFFERS_AT + buffer * MAX_XFER
            scatter([self.guest.view[at : at + length]], data)
            cookies = tuple(self.guest.table.export(at, length, ALL))
        return Request(self._req_id, operation, slice, addr, nbytes, cookies)

    def _batch(self, requests: Sequence[Request]) -> list[bytes]:
        """Send ``requests`` until all are answered, over as many sessions as that takes."""
        answers: dict[int, tuple[int, int]] = {}
        for _ in range(ATTEMPTS):
            waiting = [request for request in requests if request.req_id not in answers]
            if waiting and self._ready is not None:
                self._post(waiting)
            self.pump()
            answers.update(self._answers)
            self._answers.clear()
        data = [
            b"".join(self.guest.views(request.cookies, request.nbytes, ALL))[: request.nbytes]
            for request in requests
            if request.req_id in answers and not answers[request.req_id][0]
        ]
        for request in requests:
            for cookie in request.cookies:
                self.guest.table.revoke(cookie)
        for request in requests:
            assert request.req_id in answers, f"request {request} was never answered: {self.lost}"
            self._raise(request, *answers[request.req_id])
        return data

    def _raise(self, request: Request, status: int, nbytes: int) -> None:
        """Raise what a status means; a short transfer is an I/O error."""
        if not status and request.operation in BLOCK_IO and nbytes != request.nbytes:
            status = WireErrno.EIO
        if status:
            raise DiskError(
                from_wire(status),
                request.operation,
                slice=request.slice,
                addr=request.addr,
                nbytes=request.nbytes,
            )

    def _post(self, requests: Sequence[Request]) -> None:
        """Hand ``requests`` to the server."""
        posted = []
        for request in requests:
            if self.mode == "inband":
                self._outstanding[request.req_id] = request
                self.client.send_inband(request.req_id, build_payload(request))
                continue
            index = self._next
            self._next = (index + 1) % RING.num_descriptors
            self._ring.post(index, build_entry(request, RING.descriptor_size))
            self._outstanding[index] = request
            posted.append(index)
            if self.mode == "plain":
                self._numbers[index] = self.client.announce(index, index)
            elif self.mode == "polled":
                self.client.posted(1)
        if self.mode == "polled":
            self.client.ring(sleeping=True)
        elif self.mode == "open":
            number = self.client.announce(posted[0], OPEN_ENDED)
            self._numbers.update(dict.fromkeys(posted, number))
        for index in posted:
            self.note(NoteKind.SUBMITTED, index)

    # -- channel ---------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Carry packets and do what events ask for, until nothing moves any more."""
        busy = True
        while busy:
            busy = self._carry(self.to_server, self.server.stack)
            busy |= self._carry(self.to_client, self.client)
            while (asked := self.server.stack.next_event()) is not None:
                self.server.handle(asked)
                busy = True
            while (told := self.client.next_event()) is not None:
                self._handle(told)
                busy = True

    def _carry(self, wire: Wire, target: Server | Client) -> bool:
        """Move what waits in ``wire`` to ``target``, through the test's hands."""
        busy = False
        self._collect()
        while wire.packets:
            busy = True
            packet = self.on_packet(wire, wire.packets.popleft())
            wire.carried += 1
            if isinstance(packet, QueueConfigured):
                target.link_state(LinkState.RESET)
                target.link_state(LinkState.UP)
            elif packet is not None:
                target.receive_packet(packet)
            self._collect()
        return busy

    def _collect(self) -> None:
        """Take what both ends have to send. A queue that is configured again has lost what was in it."""
        for source, out, back in (
            (self.client, self.to_server, self.to_client),
            (self.server.stack, self.to_client, self.to_server),
        ):
            while (output := source.next_output()) is not None:
                out.packets.append(output)
                if isinstance(output, QueueConfigured):
                    back.packets = deque(item for item in back.packets if isinstance(item, QueueConfigured))

    def _handle(self, event: ClientEvent) -> None:
        """Do what a client's event asks for."""
        if isinstance(event, ChannelUp):
            self.sessions += 1
            self.client.start(self.sessions)
        elif isinstance(event, AttributesReceived):
            if self.mode == "inband":
                self.client.start_data()
            else:
                self._ring_view[:] = bytes(RING.nbytes)
                self.client.register_ring(self._ring_cookie, RING)
        elif isinstance(event, SessionReady):
            self._ready = event
        elif isinstance(event, DescriptorsDone):
            for index in RING.indices(event.start_idx, event.end_idx):
                self._reap(index)
        elif isinstance(event, RangeStopped):
            assert event.next_idx not in self._outstanding  # all was posted before the message
        elif isinstance(event, Woken):
            reaped = sum(self._reap(index) for index in list(self._outstanding))
            self.client.consumed(reaped)
            self.client.ring(sleeping=True)
        elif isinstance(event, InbandDone):
            request = self._outstanding.pop(event.handle)
            self._answers[request.req_id] = event.status, event.nbytes
        else:
            assert isinstance(event, SessionLost)
            self.lost.append(event.cause)
            self._ready = None
            self._next = 0
            self._outstanding.clear()
            self.client.reset_done()

    def _reap(self, index: int) -> bool:
        """Take an answer out of the ring, if it is there."""
        if index not in self._outstanding or not self._ring.is_done(index):
            return False
        request = self._outstanding.pop(index)
        self.note(NoteKind.ANSWERED, index)
        self._answers[request.req_id] = self._ring.reap(index)
        return True

    def note(self, kind: NoteKind, index: int) -> None:
        """Tell the test of a step of ring entry ``index``."""
        at = RING.offset(index)
        entry = self._ring_view[at : at + RING.descriptor_size]
        self.on_entry(kind, index, self._numbers.get(index, 0), entry)
