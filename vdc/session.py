"""One established connection to a server: channel, handshake, ring; from the welcome to the first loss.

Everything here is non-blocking and knows no event loop.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import EIO
from typing import TYPE_CHECKING, Any, Final, Protocol

from hypervisor.captured import CapturedChannel, CapturedClientRing
from hypervisor.channel import Channel
from hypervisor.records import MapTableRecord
from hypervisor.rendezvous import Welcome
from protocol.errors import ChannelLost, Layer, Reaction, RingError
from protocol.ldc.cookie import PAGE_SIZE
from protocol.ldc.events import LinkState
from protocol.stack import (
    AttributesReceived,
    ChannelUp,
    Client,
    DescriptorsDone,
    QueueConfigured,
    SessionLost,
    SessionReady,
    Woken,
)
from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vdisk.status import from_wire
from protocol.vio.dring import Dstate
from protocol.vio.extensions import Extension

from .buffers import Arena, Buffer
from .guest import ARENA_AT, RING, TABLE_ENTRIES, GuestMemory
from .requests import Request, RequestTable

if TYPE_CHECKING:
    from hypervisor.capture import Tap

__all__ = ["DONE", "WANTED_XFER", "Owner", "Session"]

WANTED_XFER: Final = 1024 * 1024
"""Bytes a request may carry, if the server agrees; from 1 MiB on copying limits the speed, not the round
trip."""

INLINE_GROUP: Final = 1024 * 1024
"""Bytes of entries and write data that travel with one doorbell; what is posted beyond has one of its own."""

NSLOTS: Final = RING.num_descriptors
STRIDE: Final = RING.descriptor_size
DONE: Final = int(Dstate.DONE)  # plain ints compare faster
BLOCK_IO: Final = (int(Operation.BREAD), int(Operation.BWRITE))


class Owner(Protocol):
    """Whom a session belongs to."""

    def session_ready(self, version: tuple[int, int], attributes: DiskAttributes) -> None:
        """The handshake is done: requests may be posted."""

    def session_has_room(self) -> None:
        """A caller gave shared memory back."""


class Session:
    """The client's end of one connection.

    ``table`` is the owner's: the session fills its slots and answers its requests, and leaves it as it is
    when the connection is lost. ``memory`` becomes the session's, like ``sock``. What is said and done goes
    to ``tap``, if there is one.
    """

    def __init__(
        self,
        sock: socket.socket,
        memory: GuestMemory,
        welcome: Welcome,
        table: RequestTable,
        owner: Owner,
        tap: Tap | None = None,
    ) -> None:
        extensions = welcome.extensions
        self._polled = bool(extensions & Extension.POLLED_RING)
        self._inline = bool(extensions & Extension.INLINE)
        self.done_counts = self._polled or self._inline
        """An extension lets DONE alone end a request. Without one the ACK of its message does: until then the
        entry is the server's, whatever its state."""
        self._stack = Client(
            max_xfer_blocks=WANTED_XFER // 512,
            extensions=extensions,
            server_polls=welcome.poll_us > 0,
        )
        self._announce: Callable[[int, int], int] = self._stack.announce
        self._channel: Channel
        if tap is None:
            self._channel = Channel(sock, exported=memory.exported, extensions=extensions)
        else:
            self._channel = CapturedChannel(sock, tap, exported=memory.exported, extensions=extensions)
            self._announce = _captured(self._stack, memory.capture(tap, polled=self._polled))
        self.remote = memory.fd is None
        """Answers come through the socket: there is nothing to see in the ring before that."""
        self._memory = memory
        self._entries = memory.entries
        self._pages = memory.pages
        self._cookie = memory.arena_cookie
        self._free_pages = memory.arena.pages
        self._submit, self._reap = memory.ring.submit, memory.ring.reap
        self._table = table
        self._owner = owner
        self._running = False
        self._closed = False
        self._unannounced: list[int] = []  # plain ring: entries posted and not told of
        self._posted = self._consumed = 0  # polled ring: what the stack has not been told of

    # -- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Say where our map table is and open our queue; the server sees the link come up. Raises:
        ChannelLost."""
        self._channel.send_record(MapTableRecord(base=0, nentries=TABLE_ENTRIES))
        self._channel.queue_configured()

    @property
    def wants_write(self) -> bool:
        """The socket was full: call :meth:`writable` when it no longer is."""
        return self._channel.wants_write

    def writable(self) -> None:
        """Send what a full socket kept back. Raises: ChannelLost."""
        self._channel.flush()

    @property
    def is_reset(self) -> bool:
        """The server went away: call :meth:`readable` until it says so, whatever the event loop tells."""
        return self._channel.is_reset

    @property
    def has_news(self) -> bool:
        """The server has sent something: call :meth:`readable`."""
        return self._channel.has_news

    def readable(self) -> int:
        """Take what the server sent, act on it, and look at the ring; returns how many answers there were.

        Raises: ChannelLost, RemoteProtocolError; the session is to be closed then.
        """
        if self._polled and self._running:
            self._report()
            packet = self._channel.take_packet()
            if packet is not None:  # nearly always a doorbell, of which the stack reports nothing
                if not self._stack.take_packet(packet):
                    self._settle()
                return self.poll() or self.sweep()
        for item in self._channel.receive():
            if isinstance(item, bytes):
                self._stack.receive_packet(item)
            elif isinstance(item, LinkState):
                self._stack.link_state(item)
            self._settle()
            if self._closed:
                return 0
        return (self.poll() or self.sweep()) if self._running else 0

    def _settle(self) -> None:
        while (event := self._stack.next_event()) is not None:
            _EVENTS[type(event)](self, event)
        self._send()

    def _send(self) -> None:
        while (output := self._stack.next_output()) is not None:
            if isinstance(output, QueueConfigured):
                self._channel.queue_configured()
            else:
                self._channel.send_packet(output)

    def close(self) -> None:
        """Leave the server; harmless when done twice."""
        if not self._closed:
            self._closed = True
            self._memory.close()
            self._channel.close()

    # -- handshake -----------------------------------------------------------------------------------------

    def _start(self, event: ChannelUp) -> None:
        self._stack.start(int.from_bytes(os.urandom(4), "big"))

    def _register(self, event: AttributesReceived) -> None:
        self._stack.register_ring(self._memory.ring_cookie, RING)

    def _ready(self, event: SessionReady) -> None:
        self._table.begin(RING.num_descriptors)
        self._running = True
        self._owner.session_ready((event.version.major, event.version.minor), event.attributes)

    def _woken(self, event: Woken) -> None:
        """Something is done; :meth:`readable` looks at the ring whatever was received."""

    def _acknowledged(self, event: DescriptorsDone) -> None:
        """Plain ring: answer the requests of these entries; they are not looked at before.

        Raises: RingError (the server acknowledges what it has not finished: it will not do so again).
        Source: Solaris vdc.c, vdc_process_data_msg; Linux sunvdc.c, vdc_end_one.
        """
        if self.done_counts:
            return
        for index in RING.indices(event.start_idx, event.end_idx):
            if self._closed:  # by whom the last answer was for
                return
            request = self._table.slots[index]
            if request is None:
                continue
            if not self._memory.ring.is_done(index):
                why = f"descriptor {index} is acknowledged and not DONE"
                raise RingError(Layer.VIO, Reaction.RESET, why)
            self._answer(index, request)

    def _lost(self, event: SessionLost) -> None:
        raise ChannelLost(event.cause)

    # -- requests ----------------------------------------------------------------------------------------

    def buffer(self, nbytes: int) -> Buffer | None:
        """Shared memory for a caller, or None when there is no room."""
        arena = self._memory.arena
        order = arena.order_of(nbytes)
        offset = arena.take(order)
        if offset < 0:
            return None

        def give() -> None:
            arena.give(offset, order)
            self._owner.session_has_room()

        return Buffer(self._memory, self._memory.data[offset : offset + nbytes], offset, give)

    def post(self, request: Request) -> bool:
        """Put ``request`` into the ring; False when ring or buffers are full now."""
        table = self._table
        index = table.head
        if table.slots[index] is not None:
            return False
        nbytes = request.nbytes
        buffer = request.buffer
        if buffer is not None and buffer.memory is self._memory:
            offset = buffer.offset
        elif nbytes:
            if nbytes <= PAGE_SIZE and self._free_pages:
                offset = self._free_pages.pop()
                request.order = 0
            else:
                order = Arena.order_of(nbytes)
                offset = self._memory.arena.take(order)
                if offset < 0:
                    return False
                request.order = order
            request.offset = offset
            if request.source is not None:
                at = ARENA_AT + offset
                self._pages[at : at + nbytes] = request.source
        else:
            offset = 0
        self._submit(
            index,
            request.token,
            request.operation,
            SLICE_NONE,
            request.addr,
            nbytes,
            self._cookie + offset,
            (nbytes + 7) & ~7,
        )
        table.slots[index] = request
        table.outstanding += 1
        table.head = index + 1 if index + 1 < NSLOTS else 0
        if self._polled:
            self._posted += 1
        else:
            self._unannounced.append(index)
        return True

    def ring(self, sleeping: bool) -> None:
        """Tell the server of what was posted, if it has to be told; ``sleeping``: and that we wait for a
        message."""
        if self._polled:
            if sleeping or not self._stack.server_looks:
                self._report()
                if self._stack.ring(sleeping):
                    self._send()
        elif self._unannounced:
            indices, self._unannounced = self._unannounced, []
            if self._inline:
                self._push(indices)
            else:
                for index in indices:
                    self._announce(index, index)
                self._send()

    def _report(self) -> None:
        """Tell the stack what was posted and answered; it counts, but not one by one."""
        if self._posted:
            self._stack.posted(self._posted)
            self._posted = 0
        if self._consumed:
            self._stack.consumed(self._consumed)
            self._consumed = 0

    def _push(self, indices: list[int]) -> None:
        """Send entries, and the data of writes, along with the message that announces them."""
        slots = self._table.slots
        pieces: list[tuple[int, memoryview]] = []
        first = indices[0]
        size = 0
        for index in indices:
            request = slots[index]
            if request is not None and request.source is not None:
                pieces.append(self._outgoing(request))
                size += request.nbytes
            if size > INLINE_GROUP or index in (indices[-1], RING.num_descriptors - 1):
                pieces.append(self._run_of_entries(first, index))
                self._announce(first, index)
                packets = []
                while (output := self._stack.next_output()) is not None:
                    assert isinstance(output, bytes)
                    packets.append(output)
                self._channel.push(pieces, packets)
                pieces, size = [], 0
                first = index + 1 if index + 1 < RING.num_descriptors else 0

    def _run_of_entries(self, first: int, last: int) -> tuple[int, memoryview]:
        """A run of ring entries, as one piece."""
        start, end = RING.offset(first), RING.offset(last + 1)
        return self._memory.ring_cookie.addr + start, self._memory.entries[start:end]

    def _outgoing(self, request: Request) -> tuple[int, memoryview]:
        """The data that a posted write sends, where its cookie says it is."""
        buffer = request.buffer
        offset = buffer.offset if buffer is not None and buffer.memory is self._memory else request.offset
        end = offset + ((request.nbytes + 7) & ~7)
        return self._memory.arena_cookie + offset, self._memory.data[offset:end]

    def poll(self, most: int = RING.num_descriptors) -> int:
        """Answer what the server has finished, the oldest first and ``most`` of it; returns how many.

        Only where ``done_counts``; else they were answered when they were acknowledged.
        """
        if not self.done_counts:
            return 0
        table = self._table
        slots = table.slots
        entries = self._entries
        index = table.tail
        answered = 0
        while table.outstanding:
            request = slots[index]
            if request is not None:
                if entries[index * STRIDE] != DONE:
                    break
                self._answer(index, request)
                answered += 1
            index = index + 1 if index + 1 < NSLOTS else 0
            if answered == most or self._closed:
                break
        table.tail = index
        self._consumed += answered
        return answered

    def sweep(self) -> int:
        """Answer whatever the server has finished, in whatever order; returns how many."""
        if not self.done_counts:
            return 0
        slots = self._table.slots
        states = self._memory.dstates()
        answered = 0
        index = states.find(DONE)
        while index >= 0 and not self._closed:
            request = slots[index]
            if request is not None:
                self._answer(index, request)
                answered += 1
            index = states.find(DONE, index + 1)
        self._consumed += answered
        return answered

    def oldest(self) -> tuple[memoryview, int]:
        """The ring, and where in it the state of the oldest unanswered request stands; there must be one."""
        table = self._table
        while table.slots[table.tail] is None:
            table.tail = table.tail + 1 if table.tail + 1 < NSLOTS else 0
        return self._entries, table.tail * STRIDE

    def _answer(self, index: int, request: Request) -> None:
        """The server set DONE: read its answer once, check it against our own record, and pass it on."""
        status, nbytes = self._reap(index)
        table = self._table
        table.slots[index] = None
        table.outstanding -= 1
        error = None
        if status:
            error = request.error(from_wire(status))
        elif request.operation not in BLOCK_IO:
            request.result = bytes(self._chunk(request)) if request.nbytes else None
        elif nbytes != request.nbytes:
            error = request.error(EIO)  # the range was checked before: a short answer is lost data
        elif request.source is None:
            if request.into is None and request.buffer is None:
                at = ARENA_AT + request.offset
                request.result = self._pages[at : at + nbytes]
            else:
                self._deliver(request)
        order = request.order
        if order == 0:
            self._free_pages.append(request.offset)
        elif order > 0:
            self._memory.arena.give(request.offset, order)
        request.order = -1
        if request.buffer is None:
            request.finish(request, error)
        else:
            request.end(error)

    def _deliver(self, request: Request) -> None:
        """Copy what was read to where the caller wants it; nothing to do when that is our own shared
        memory."""
        if request.into is not None:
            request.into[:] = self._chunk(request)
        elif request.buffer is not None and request.buffer.memory is not self._memory:
            request.buffer.view[:] = self._chunk(request)  # it is of an earlier connection

    def _chunk(self, request: Request) -> memoryview:
        return self._memory.data[request.offset : request.offset + request.nbytes]


def _captured(stack: Client, ring: CapturedClientRing) -> Callable[[int, int], int]:
    """Return :meth:`Client.announce` for a ring that wants to know the messages of its entries."""

    def announce(start_idx: int, end_idx: int) -> int:
        seq_num = stack.announce(start_idx, end_idx)
        ring.announced(start_idx, end_idx, seq_num)
        return seq_num

    return announce


_EVENTS: Final[dict[type, Callable[[Session, Any], None]]] = {
    ChannelUp: Session._start,
    AttributesReceived: Session._register,
    SessionReady: Session._ready,
    DescriptorsDone: Session._acknowledged,
    Woken: Session._woken,
    SessionLost: Session._lost,
}
