"""Client and server joined in one process, with a disk behind, over a channel that the fuzzer disturbs.

Input: one byte for the mode and the damage allowed, then instructions, looked up in a table by their low four
bits. The channel is a queue each way; it drops, doubles and damages what it carries, holds it back, and
reports resets that nobody has made, but it keeps the order. What has to hold:

* a block reads as what was last written to it and acknowledged;
* once the disturbance stops, the session recovers and every request is answered, by itself if nothing was
  dropped, doubled or damaged; otherwise when the channel was cut and made anew, as a time limit would do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

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
    LinkState,
    Negotiated,
    QueueConfigured,
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
from protocol.vio.extensions import NO_EXTENSION, Extension
from protocol.vio.messages import TransferMode
from tests.fuzz.tape import Tape
from tests.support.stackdisk import Guest, scatter

__all__ = ["INSTRUCTIONS", "DisturbedDisk", "fuzz_one"]

Output: TypeAlias = bytes | QueueConfigured

BLOCK: Final = 512
BLOCKS: Final = 4  # few, so that requests meet
RING: Final = RingGeometry(4, 64)
RING_AT: Final = PAGE_SIZE  # in the guest's memory, behind the map table
BUFFERS_AT: Final = 2 * PAGE_SIZE
DISK: Final = DiskAttributes(size_blocks=BLOCKS, max_xfer_blocks=1)
MAX_QUEUED: Final = 64  # packets the fuzzer may leave in one direction
REST: Final = 5_000  # deliveries after which two ends that are left alone are done

# Bits of the first byte.
POLLED, INBAND, DAMAGE, LOSS = 1, 2, 4, 8


class _ServerEnd:
    """The server's driver: the disk, and the requests taken and not yet executed."""

    def __init__(self, guest: Guest, extensions: Extension) -> None:
        self.stack: Final = Server(DISK, extensions=extensions, polls=False)
        self.guest: Final = guest
        self.disk: Final = bytearray(BLOCKS * BLOCK)
        self.ring: ServerRing | None = None
        self.next_index = 0
        self.in_progress: list[tuple[int | None, int, Request]] = []  # batch, descriptor, request

    def handle(self, event: Any) -> None:  # noqa: ANN401  # of all kinds
        """Do what an event asks for."""
        if isinstance(event, RingOffered):
            self.offered(event)
        elif isinstance(event, DescriptorsReady):
            self.take(event)
        elif isinstance(event, DoorbellRung):
            self.look()
        elif isinstance(event, RequestReceived):
            self.in_progress.append((event.batch, 0, event.request))
        elif isinstance(event, SessionReset):
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
            self.stack.fault(batch, index, str(error))
            return False
        return True

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
            self.stack.fault(batch, index, str(error))
            return
        if inband:
            assert batch is not None
            self.stack.complete_inband(batch, status, nbytes)
        elif batch is not None:
            self.stack.complete(batch, index)
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


class _ClientEnd:
    """The client's driver: its requests, one to a slot, kept until they are answered by any session."""

    def __init__(self, guest: Guest, extensions: Extension, inband: bool) -> None:
        self.guest: Final = guest
        self.inband: Final = inband
        self.polled: Final = bool(extensions)
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
            self.running = False
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
        else:
            self.stack.announce(index, index)


class DisturbedDisk:
    """Both ends and the channel between them."""

    def __init__(self, tape: Tape) -> None:
        kind = tape.byte()
        inband = bool(kind & INBAND)
        extensions = Extension.POLLED_RING if kind & POLLED and not inband else NO_EXTENSION
        guest = Guest()
        self.tape: Final = tape
        self.may_damage: Final = bool(kind & DAMAGE) and not inband  # nothing would notice a wrong block
        self.may_lose: Final = bool(kind & LOSS)
        self.intact = True  # nothing was dropped, doubled or damaged since the channel was made
        self.server: Final = _ServerEnd(guest, extensions)
        self.client: Final = _ClientEnd(guest, extensions, inband)
        self.ends: Final = (self.server, self.client)
        self.queues: list[deque[Output]] = [deque(), deque()]  # towards each end
        self.connect()

    def connect(self) -> None:
        """Make a channel anew: what was under way is gone, and each end sees the other come."""
        for end in self.ends:
            end.stack.link_state(LinkState.DOWN)
            self.settle(end)
        self.queues = [deque(), deque()]
        self.intact = True
        for end in self.ends:
            end.stack.link_state(LinkState.UP)
            self.settle(end)

    def settle(self, end: _ServerEnd | _ClientEnd) -> None:
        """Take all that an end has to say."""
        busy = True
        while busy:
            busy = self.collect(end)
            while (event := end.stack.next_event()) is not None:
                end.handle(event)
                busy = self.collect(end) or True

    def collect(self, end: _ServerEnd | _ClientEnd) -> bool:
        """Take what an end sends. A queue that is configured again has lost what was in it."""
        number = self.ends.index(end)
        found = False
        while (output := end.stack.next_output()) is not None:
            found = True
            self.queues[1 - number].append(output)
            if isinstance(output, QueueConfigured):
                marks = [item for item in self.queues[number] if isinstance(item, QueueConfigured)]
                self.queues[number] = deque(marks)
        return found

    def deliver(self, number: int) -> None:
        """Give an end what comes next."""
        if self.queues[number]:
            end = self.ends[number]
            output = self.queues[number].popleft()
            if isinstance(output, QueueConfigured):
                end.stack.link_state(LinkState.RESET)
                end.stack.link_state(LinkState.UP)
            else:
                end.stack.receive_packet(output)
            self.settle(end)

    # -- instructions ----------------------------------------------------------------------------------------

    def to_server(self) -> None:
        """Deliver to the server, as many as the tape says."""
        for _ in range(1 + self.tape.byte() % 8):
            self.deliver(0)

    def to_client(self) -> None:
        """Deliver to the client, as many as the tape says."""
        for _ in range(1 + self.tape.byte() % 8):
            self.deliver(1)

    def quiet(self) -> None:
        """Deliver until nothing is under way; the server executes nothing."""
        for _ in range(REST):
            if not any(self.queues):
                return
            for number in (0, 1):
                self.deliver(number)
        raise AssertionError("two ends do not come to rest")

    def work(self) -> None:
        """Execute one of the requests that the server has taken."""
        if self.server.in_progress:
            self.server.execute(self.tape.byte() % len(self.server.in_progress))
            self.settle(self.server)

    def write(self) -> None:
        """Begin to write a block."""
        self.client.submit(True, self.tape.byte() % BLOCKS)
        self.settle(self.client)

    def read(self) -> None:
        """Begin to read a block."""
        self.client.submit(False, self.tape.byte() % BLOCKS)
        self.settle(self.client)

    def drop(self) -> None:
        """Lose a packet, or the notice of a reset."""
        queue = self.tape.pick(self.queues)
        if queue and self.may_lose:
            self.intact = False
            queue.popleft()

    def double(self) -> None:
        """Let a packet arrive twice."""
        queue = self.tape.pick(self.queues)
        if queue and self.may_lose and len(queue) < MAX_QUEUED:
            self.intact = False
            queue.appendleft(queue[0])

    def damage(self) -> None:
        """Change some bits of one byte of a packet."""
        queue = self.tape.pick(self.queues)
        place, bits = self.tape.byte() % 64, self.tape.byte()
        packet = queue[0] if queue and self.may_damage else None
        if isinstance(packet, bytes):
            self.intact = False
            queue[0] = packet[:place] + bytes([packet[place] ^ bits]) + packet[place + 1 :]

    def report_reset(self) -> None:
        """Report a reset of one end to the other, in order with what is under way."""
        queue = self.tape.pick(self.queues)
        if len(queue) < MAX_QUEUED:
            queue.append(QueueConfigured())

    def fault(self) -> None:
        """Let the server find that a request cannot be served at all."""
        if self.server.in_progress:
            batch, index, _ = self.server.in_progress.pop(0)
            self.server.stack.fault(batch, index, "the fuzzer wants it so")
            self.settle(self.server)

    def play(self) -> None:
        """Do what the tape says."""
        while self.tape:
            INSTRUCTIONS[(self.tape.byte() & 0x0F) % len(INSTRUCTIONS)](self)

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Leave the two alone: every request is answered. Then read everything back."""
        self.recover()
        for block in range(BLOCKS):
            self.client.submit(False, block)
            self.settle(self.client)
        self.recover()

    def recover(self) -> None:
        """See all requests answered; after loss or damage that nobody has noticed, over a new channel."""
        self.rest()
        if not self.intact and not self.is_idle:
            self.connect()
            self.rest()
        assert self.is_idle, "two ends that nobody disturbs any more do not get on"

    @property
    def is_idle(self) -> bool:
        """There is a session, and it has nothing to do."""
        return self.client.running and not self.client.requests

    def rest(self) -> None:
        """Deliver and execute until nothing moves."""
        self.quiet()
        while self.server.in_progress:
            self.server.execute(0)
            self.settle(self.server)
            self.quiet()


INSTRUCTIONS: Final[tuple[Callable[[DisturbedDisk], None], ...]] = (
    DisturbedDisk.quiet,
    DisturbedDisk.to_server,
    DisturbedDisk.to_client,
    DisturbedDisk.work,
    DisturbedDisk.write,
    DisturbedDisk.read,
    DisturbedDisk.drop,
    DisturbedDisk.double,
    DisturbedDisk.damage,
    DisturbedDisk.report_reset,
    DisturbedDisk.fault,
)
"""What the low four bits of an instruction choose from."""


def fuzz_one(data: bytes) -> None:
    """Run a program against a disk."""
    disk = DisturbedDisk(Tape(data))
    disk.play()
    disk.finish()
