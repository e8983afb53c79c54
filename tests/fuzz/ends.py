"""Both ends of a disk that is fuzzed: a server that executes when told, a client that knows what it wrote."""

from __future__ import annotations

from typing import Any, Final

from protocol.errors import CookieError, RingError
from protocol.ldc.cookie import PAGE_SIZE, Cookie, Permission
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    Client,
    DescriptorsDone,
    DescriptorsReady,
    DoorbellRung,
    InbandDone,
    Negotiated,
    RangeOpened,
    RangeStopped,
    RequestReceived,
    RingOffered,
    Server,
    SessionLost,
    SessionReady,
    SessionReset,
    Woken,
)
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.descriptor import Request, build_entry, build_payload, parse_entry
from protocol.vdisk.operations import BLOCK_IO, SLICE_NONE, Operation
from protocol.vdisk.ring import ClientRing, ServerRing
from protocol.vdisk.validate import clip, validate
from protocol.vio.dring import RingGeometry
from protocol.vio.extensions import Extension
from protocol.vio.messages import OPEN_ENDED, TransferMode
from tests.support.stackdisk import Guest, scatter

__all__ = ["BLOCKS", "ClientEnd", "ServerEnd"]

BLOCK: Final = 512
BLOCKS: Final = 4  # few, so that requests meet
RING: Final = RingGeometry(4, 64)
RING_AT: Final = PAGE_SIZE  # in the guest's memory, behind the map table
BUFFERS_AT: Final = 2 * PAGE_SIZE
DISK: Final = DiskAttributes(size_blocks=BLOCKS, max_xfer_blocks=1)


class ServerEnd:
    """The server's driver: the disk, and the requests taken and not yet executed."""

    rung: Final = DoorbellRung()

    def __init__(self, guest: Guest, extensions: Extension) -> None:
        self.stack: Final = Server(DISK, extensions=extensions, polls=False)
        self.guest: Final = guest
        self.disk: Final = bytearray(BLOCKS * BLOCK)
        self.ring: ServerRing | None = None
        self.next_index = 0
        self.open: int | None = None  # batch of the range that has not stopped
        self.in_progress: list[tuple[int | None, int, Request]] = []  # batch, descriptor, request

    def handle(self, event: Any) -> None:  # noqa: ANN401  # of all kinds
        """Do what an event asks for."""
        if isinstance(event, RingOffered):
            self.offered(event)
        elif isinstance(event, DescriptorsReady):
            self.take(event)
        elif isinstance(event, RangeOpened):
            self.stop()
            self.open, self.next_index = event.batch, event.start_idx
        elif isinstance(event, DoorbellRung):
            self.look()
        elif isinstance(event, RequestReceived):
            self.in_progress.append((event.batch, 0, event.request))
        elif isinstance(event, SessionReset):
            self.open = None
            while self.in_progress:
                self.execute(0)
            self.ring = None
            self.stack.reset_done()
        else:
            assert isinstance(event, Negotiated | SessionReady)

    def offered(self, event: RingOffered) -> None:
        """Map the ring."""
        try:
            memory = self.guest.ring(event.cookie, event.geometry.nbytes)
        except CookieError as error:
            self.stack.refuse_ring(str(error))
        else:
            self.ring = ServerRing(memory, event.geometry)
            self.next_index = 0
            self.stack.accept_ring()

    def take(self, event: DescriptorsReady) -> None:
        """Plain ring: take a range."""
        assert self.ring is not None
        self.stop()
        geometry = self.ring.geometry
        end = (event.start_idx + event.count - 1) % geometry.num_descriptors
        for index in geometry.indices(event.start_idx, end):
            if not self.take_one(event.batch, index):
                return

    def take_one(self, batch: int | None, index: int) -> bool:
        """Take one entry; a fault ends the session."""
        assert self.ring is not None
        try:
            self.in_progress.append((batch, index, parse_entry(self.ring.take(index))))
        except RingError as error:
            self.fault(batch, index, str(error))
            return False
        return True

    def fault(self, batch: int | None, index: int, why: str) -> None:
        """A request cannot be served."""
        if batch == self.open:
            self.open = None
        self.stack.fault(batch, index, why)

    def look_on(self) -> None:
        """Open range: take what is READY; where there is nothing, look no more."""
        batch, ring = self.open, self.ring
        if batch is None or ring is None:
            return
        if not ring.is_ready(self.next_index):
            self.stop()
        while self.open is not None and ring.is_ready(self.next_index):
            index, self.next_index = self.next_index, (self.next_index + 1) % ring.geometry.num_descriptors
            try:
                self.stack.taken(batch, index)
            except RingError as error:
                self.fault(batch, index, str(error))
                return
            self.take_one(batch, index)

    def stop(self) -> None:
        """Open range: look no more."""
        if self.open is not None:
            batch, self.open = self.open, None
            self.stack.stopped(batch)

    def look(self) -> None:
        """Polled ring: take what is READY, and go to sleep."""
        ring = self.ring
        if ring is not None:
            while ring.is_ready(self.next_index) and self.take_one(None, self.next_index):
                self.next_index = (self.next_index + 1) % ring.geometry.num_descriptors
            self.stack.end_of_batch(self.next_index, stopping=True)

    def execute(self, place: int) -> None:
        """Execute one of the requests in progress and answer it."""
        batch, index, request = self.in_progress.pop(place)
        inband = self.stack.xfer_mode == TransferMode.INBAND
        try:
            status, nbytes = self.run(request)
            if not inband:
                assert self.ring is not None
                self.ring.finish(index, status, nbytes)
        except (CookieError, RingError) as error:
            self.fault(batch, index, str(error))
            return
        if inband:
            assert batch is not None
            self.stack.complete_inband(batch, status, nbytes)
        elif batch is not None:
            self.stack.complete(batch, index)
            if batch == self.open:
                self.stack.progress(batch)
        else:
            self.stack.completed(1)
            self.stack.end_of_batch(self.next_index, stopping=True)

    def run(self, request: Request) -> tuple[int, int]:
        """Validate and execute; returns (status, nbytes)."""
        announced = self.stack.announced
        status = validate(request.operation, request.slice, request.addr, request.nbytes, announced)
        if status or request.operation not in BLOCK_IO:
            return status, 0
        start = request.addr * BLOCK
        length = clip(request.addr, request.nbytes, announced)
        if request.operation == Operation.BREAD:
            views = self.guest.views(request.cookies, request.nbytes, Permission.CW)
            scatter(views, bytes(self.disk[start : start + length]))
        else:
            views = self.guest.views(request.cookies, request.nbytes, Permission.CR)
            self.disk[start : start + length] = b"".join(views)[:length]
        return 0, length


class ClientEnd:
    """The client's driver: its requests, one to a slot, kept until they are answered by any session."""

    rung: Final = Woken()

    def __init__(self, guest: Guest, extensions: Extension, inband: bool) -> None:
        self.guest: Final = guest
        self.inband: Final = inband
        self.polled: Final = extensions == Extension.POLLED_RING
        self.opens: Final = extensions == Extension.OPEN_RANGES
        self.stack: Final = Client(
            max_xfer_blocks=1,
            xfer_mode=TransferMode.INBAND if inband else TransferMode.RING,
            extensions=extensions,
        )
        size = RING.nbytes
        self.ring_view: Final = guest.view[RING_AT : RING_AT + size]
        self.ring: Final = ClientRing(self.ring_view, RING)
        (self.ring_cookie,) = guest.table.export(RING_AT, size, Permission.R | Permission.W)
        both = Permission.CR | Permission.CW  # to be copied, but not to be taken for a ring
        self.buffers: Final[list[Cookie]] = [
            *(
                guest.table.export(BUFFERS_AT + slot * PAGE_SIZE, BLOCK, both)[0]
                for slot in range(RING.num_descriptors)
            )
        ]
        self.sid = 0
        self.requests: dict[int, Request] = {}  # slot → what is unanswered
        self.posted: dict[int, int] = {}  # descriptor of this session → slot
        self.waiting: list[int] = []  # slots for which the ring has no room yet
        self.next_index = 0
        self.running = False
        self.looks = False  # an open range has not stopped
        self.sessions = 0  # that came to data
        self.contents = [bytes(BLOCK)] * BLOCKS  # as acknowledged
        self.writing: dict[int, bytes] = {}  # slot → what is being written
        self.count = 0

    def handle(self, event: Any) -> None:  # noqa: ANN401  # of all kinds
        """Do what an event asks for."""
        if isinstance(event, ChannelUp):
            self.sid += 1
            self.stack.start(self.sid)
        elif isinstance(event, AttributesReceived):
            if self.inband:
                self.stack.start_data()
            else:
                self.ring_view[:] = bytes(RING.nbytes)
                self.stack.register_ring(self.ring_cookie, RING)
        elif isinstance(event, SessionReady):
            self.running = True
            self.sessions += 1
            for slot in self.requests:
                self.post(slot)
        elif isinstance(event, SessionLost):
            self.running = self.looks = False
            self.posted.clear()
            self.waiting.clear()
            self.next_index = 0
            self.stack.reset_done()
        else:
            self.answered(event)

    def answered(self, event: Any) -> None:  # noqa: ANN401  # of all kinds
        """Take answers, wherever this mode has them."""
        if isinstance(event, InbandDone):
            self.end(event.handle, event.status, event.nbytes)
        elif isinstance(event, DescriptorsDone):
            for index in RING.indices(event.start_idx, event.end_idx):
                self.reap(index)
        elif isinstance(event, RangeStopped):
            self.looks = False
            if event.next_idx in self.posted:
                self.announce(event.next_idx)
        else:
            assert isinstance(event, Woken)
            self.stack.consumed(sum(self.reap(index) for index in list(self.posted)))
            self.stack.ring(sleeping=True)
        waiting, self.waiting = self.waiting, []
        for slot in waiting:
            self.post(slot)

    def reap(self, index: int) -> bool:
        """Take an answer out of the ring, if it is there."""
        if index not in self.posted or not self.ring.is_done(index):
            return False
        self.end(self.posted.pop(index), *self.ring.reap(index))
        return True

    def end(self, slot: int, status: int, nbytes: int) -> None:
        """Check an answer: all done, and a block read as it has to be."""
        request = self.requests.pop(slot)
        assert (status, nbytes) == (0, BLOCK)
        if request.operation == Operation.BWRITE:
            self.contents[request.addr] = self.writing.pop(slot)
        else:
            at = BUFFERS_AT + slot * PAGE_SIZE
            assert bytes(self.guest.view[at : at + BLOCK]) == self.contents[request.addr]

    def submit(self, write: bool, block: int) -> None:
        """Begin a request, unless all slots are taken or the block has one under way."""
        free = [slot for slot in range(RING.num_descriptors) if slot not in self.requests]
        if not free or block in {request.addr for request in self.requests.values()}:
            return
        slot = free[0]
        self.count += 1
        at = BUFFERS_AT + slot * PAGE_SIZE
        operation = Operation.BREAD
        if write:
            operation = Operation.BWRITE
            self.writing[slot] = self.count.to_bytes(4, "big") * (BLOCK // 4)
            self.guest.view[at : at + BLOCK] = self.writing[slot]
        self.requests[slot] = Request(slot, operation, SLICE_NONE, block, BLOCK, (self.buffers[slot],))
        if self.running:
            self.post(slot)

    def post(self, slot: int) -> None:
        """Send a request on this session."""
        request = self.requests[slot]
        if self.inband:
            self.stack.send_inband(slot, build_payload(request))
            return
        index = self.next_index
        if index in self.posted:
            self.waiting.append(slot)  # the ring is filled in order, and answered in any
            return
        self.next_index = (index + 1) % RING.num_descriptors
        self.ring.post(index, build_entry(request, RING.descriptor_size))
        self.posted[index] = slot
        if self.polled:
            self.stack.posted(1)
            self.stack.ring(sleeping=True)
        elif not self.looks:
            self.announce(index)

    def announce(self, index: int) -> None:
        """Tell the server of an entry, and of what is filled behind it if it looks on."""
        self.looks = self.opens
        self.stack.announce(index, OPEN_ENDED if self.opens else index)
