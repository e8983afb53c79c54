"""Where a session's requests come from and where their answers go: the ring in place, or through COPY.

Every request goes the same way, whatever brings it:

    taken (one private copy) → admitted (validated on the copy) → lent (the guest's buffers) → executed
      → stored (data in the guest) → published (status, nbytes, DONE) → answered (a message, if one is due)

:class:`MappedPort` reaches guest memory by views of it, so *lent*, *stored* and *published* are done at once;
:class:`CopiedPort` sends COPY records and goes on when they are answered. A step that fails because of the
guest's own memory is a fault: NACK and full reset. Every request that arrives is answered or faulted exactly
once.

Source: Solaris vds.c, vd_process_element_range, vd_process_element, vd_mark_elem_done.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from hypervisor.memory import CopiedMemory, MappedMemory
from hypervisor.ranges import cut_cookies
from protocol.errors import CookieError, RemoteProtocolError, RingError
from protocol.ldc.cookie import Cookie, Permission
from protocol.vdisk.descriptor import ENTRY, ENTRY_ONE, Request, parse_entry
from protocol.vdisk.operations import BLOCK_IO, SLICE_NONE, Operation
from protocol.vdisk.ring import ServerRing
from protocol.vdisk.status import WireErrno
from protocol.vdisk.validate import clip, validate
from protocol.vio.dring import Dstate, RingGeometry
from protocol.wire import Buffer

from .execute import Work

if TYPE_CHECKING:
    from .session import Session

__all__ = ["CopiedPort", "GuestWork", "MappedPort", "Port"]

BUDGET: Final = 64
"""Descriptors taken in one look: a client with a full ring must not keep the others waiting."""
MAX_REQUEST: Final = 64 * 1024 * 1024
"""Bytes of one request: far beyond what any client's cookies can carry, and a bound all the same."""
MAX_LENT: Final = 64 * 1024 * 1024
"""Bytes of private buffers one channel may hold on the socket transport; the next requests wait in its ring.
"""
READY: Final = int(Dstate.READY)  # plain ints compare faster
READ: Final = int(Operation.BREAD)
MAX_AT_ONCE: Final = 1024 * 1024
"""Longest read done between two looks at the ring; a longer one takes the long way."""


class GuestWork(Work):
    """A request with what is needed to answer it."""

    __slots__ = ("cookies", "lent", "requested")

    def __init__(self, request: Request, index: int, batch: int | None) -> None:
        super().__init__(request.operation, index=index, batch=batch)
        self.cookies = request.cookies
        self.requested = request.nbytes
        self.lent: list[memoryview] | None = None  # all of the guest's buffers, when the backend sees fewer


Step: TypeAlias = Callable[[GuestWork], None]


class Port(ABC):
    """The part of the way that does not depend on how guest memory is reached."""

    def __init__(self, session: Session, ring: RingGeometry | None) -> None:
        self.session = session
        self.running = 0
        """Requests taken and not yet answered."""
        self._export = session.export
        self._executor = session.export.executor
        self._stack = session.stack
        self._geometry = ring
        self._ranges: deque[tuple[int, int, int]] = deque()  # (batch, index, how many) not yet taken
        self._pulling = False
        self._polled = session.polled
        self._idle: asyncio.Future[None] | None = None

    # -- guest memory ----------------------------------------------------------------------------------------

    @abstractmethod
    def lend(self, work: GuestWork, then: Step) -> None:
        """Give ``work`` buffers for ``work.requested`` bytes on their way to the guest."""

    @abstractmethod
    def fetch(self, work: GuestWork, then: Step) -> None:
        """Give ``work`` buffers that hold ``work.requested`` bytes from the guest."""

    @abstractmethod
    def store(self, work: GuestWork, then: Step) -> None:
        """See that the guest has what the buffers hold."""

    @abstractmethod
    def publish(self, work: GuestWork, nbytes: int) -> None:
        """Write status, nbytes and DONE into the ring entry, then :meth:`answered`."""

    @abstractmethod
    def take(self, batch: int, index: int) -> None:
        """Copy entry ``index`` out of the ring, then :meth:`arrive`."""

    @property
    def has_room(self) -> bool:
        """Whether another request may be taken now."""
        return True

    def close(self) -> None:
        """Let go of the guest's memory; nothing runs any more."""
        self._ranges.clear()

    # -- taking ----------------------------------------------------------------------------------------------

    def offer(self, batch: int, start_idx: int, count: int) -> None:
        """A message announced ``count`` descriptors: take them in their order, a budget at a time."""
        self._ranges.append((batch, start_idx, count))
        self.pull()

    def pull(self) -> None:
        """Take what was announced, as far as the budget and the room go."""
        budget = BUDGET
        while self._ranges and budget and self.has_room:
            batch, index, count = self._ranges.popleft()
            if count > 1:
                self._ranges.appendleft((batch, self._after(index), count - 1))
            budget -= 1
            try:
                self.take(batch, index)
            except RingError as cause:
                self._ranges.clear()
                self.session.fault(batch, index, cause)
        self._executor.kick()
        if self._ranges and self.has_room and not self._pulling:
            self._pulling = True
            self.session.loop.call_soon(self._pull_again)

    def _pull_again(self) -> None:
        self._pulling = False
        self.pull()
        self.session.settle()

    def _after(self, index: int) -> int:
        assert self._geometry is not None
        return index + 1 if index + 1 < self._geometry.num_descriptors else 0

    # -- on the way to the backend ---------------------------------------------------------------------------

    def arrive(self, request: Request, index: int, batch: int | None) -> None:
        """Admit a request and set it on its way. ``index`` is -1 in in-band mode."""
        self.running += 1
        work = GuestWork(request, index, batch)
        work.port = self
        work.done = self.executed
        disk = self._stack.announced
        work.status = validate(request.operation, request.slice, request.addr, request.nbytes, disk)
        if not work.status and request.nbytes > MAX_REQUEST:
            work.status = WireErrno.EINVAL
        if work.status:
            self.finish(work)
            return
        work.offset = request.addr * disk.block_size
        work.nbytes = clip(request.addr, request.nbytes, disk)
        try:
            _BEGIN[request.operation](self, work)
        except CookieError as cause:
            self.fault(work, cause)

    def begin_read(self, work: GuestWork) -> None:
        """Disk to guest."""
        self.lend(work, self.execute)

    def begin_write(self, work: GuestWork) -> None:
        """Guest to disk."""
        self.fetch(work, self.execute)

    def begin_facts(self, work: GuestWork) -> None:
        """What the export knows of itself needs no backend."""
        self.lend(work, self.fill)

    def fill(self, work: GuestWork) -> None:
        """Put the answer of an operation on the export itself into the guest's buffers."""
        facts = self._export.facts(work.operation)
        for buffer in work.buffers:
            buffer[:] = facts[: len(buffer)]
            facts = facts[len(buffer) :]
        self.store(work, self.finish)

    def execute(self, work: GuestWork) -> None:
        """Hand a request to the backend, clipped to the disk; :meth:`executed` follows, now or later."""
        if self.session.resetting:
            self.ended(work)
            return
        if work.operation in BLOCK_IO:
            if not work.nbytes:  # at or beyond the end: nothing to do, and status 0
                self.executed(work)
                return
            if work.nbytes < work.requested:
                work.lent = work.buffers
                work.buffers = first(work.buffers, work.nbytes)
        self._executor.submit(work)

    # -- on the way back -------------------------------------------------------------------------------------

    def executed(self, work: Work) -> None:
        """The backend is done. What a read did not fill is zeroed, so a guest never sees stale bytes of ours.

        Source: Solaris ldc_shm.c: shadow memory starts as zeros and is copied out whole.
        """
        assert isinstance(work, GuestWork)
        if self.session.resetting:  # nobody waits for the answer any more
            self.ended(work)
        elif work.operation != READ:
            self.finish(work)
        else:
            self._read_done(work)

    def _read_done(self, work: GuestWork) -> None:
        good = 0 if work.status else work.count
        buffers = work.lent or work.buffers
        work.buffers = buffers
        if good < work.requested:
            zero_from(buffers, good)
        try:
            self.store(work, self.finish)
        except CookieError as cause:
            self.fault(work, cause)

    def finish(self, work: GuestWork) -> None:
        """Publish the answer: bytes transferred for block I/O, the length as asked for everything else."""
        if self.session.resetting:
            self.ended(work)
            return
        nbytes = work.count if work.operation in BLOCK_IO else work.requested
        if work.index < 0:
            assert work.batch is not None
            self._stack.complete_inband(work.batch, work.status, nbytes)
            self.ended(work)
        else:
            self.publish(work, nbytes)

    def answered(self, work: GuestWork) -> None:
        """DONE is visible: account for it."""
        if work.batch is None:  # a polled ring
            self._stack.completed(1)
        else:
            self._stack.complete(work.batch, work.index)
        self.ended(work)

    def fault(self, work: GuestWork, cause: RemoteProtocolError) -> None:
        """The request cannot be answered where the client wants it: NACK and full reset."""
        self._ranges.clear()
        self.session.fault(work.batch, work.index, cause)
        self.ended(work)

    def ended(self, work: GuestWork | None = None) -> None:
        """One request less."""
        self.running -= 1
        if not self.running and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
        self.session.wake()

    async def drain(self) -> None:
        """Wait until nothing runs."""
        while self.running:
            if self._idle is None:
                self._idle = self.session.loop.create_future()
            await self._idle

    def take_pieces(self) -> list[tuple[int, Buffer]]:
        """Memory contents that the next message takes along."""
        return []


_BEGIN: Final[dict[int, Callable[[Port, GuestWork], None]]] = {
    Operation.BREAD: Port.begin_read,
    Operation.BWRITE: Port.begin_write,
    Operation.FLUSH: Port.execute,
    Operation.GET_CAPACITY: Port.begin_facts,
    Operation.GET_DISKGEOM: Port.begin_facts,
}


class MappedPort(Port):
    """Guest memory by views of the client's sealed memory: the backend reads and writes the guest's own
    pages.
    """

    busy_at = 0.0
    _view: memoryview | None = None

    def __init__(
        self, session: Session, memory: MappedMemory, cookie: Cookie | None, ring: RingGeometry | None
    ) -> None:
        super().__init__(session, ring)
        self._memory = memory
        self._next = 0  # polled ring: the entry to look at
        self._looking = False  # polled ring: the poller has it
        if cookie is not None and ring is not None:
            self._view = memory.map_ring(cookie, ring.nbytes)
            self._entries = self._view
            self._ring = ServerRing(self._view, ring)
            self._stride = ring.descriptor_size
        disk = self._stack.announced
        self._block_size = disk.block_size
        self._size = disk.size_blocks * disk.block_size

    @property
    def may_poll(self) -> bool:
        """False while worker threads are busy: they need the interpreter that polling would hold."""
        return not self._executor.pending

    def lend(self, work: GuestWork, then: Step) -> None:
        work.buffers = self._memory.views(work.cookies, work.requested, Permission.CW)
        then(work)

    def fetch(self, work: GuestWork, then: Step) -> None:
        work.buffers = self._memory.views(work.cookies, work.requested, Permission.CR)
        then(work)

    def store(self, work: GuestWork, then: Step) -> None:
        then(work)

    def publish(self, work: GuestWork, nbytes: int) -> None:
        try:
            self._ring.finish(work.index, work.status, nbytes)
        except RingError as cause:
            self.fault(work, cause)
        else:
            self.answered(work)

    def take(self, batch: int, index: int) -> None:
        entry = self._ring.take(index)
        self.arrive(parse_entry(entry), index, batch)

    # -- polled ring -----------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Serve the entries that are READY, in ring order; whether there were any.

        A read that does not block is done here, from the copy of its entry to DONE, with no more ceremony.
        """
        view = self._entries
        stride = self._stride
        index = self._next
        if view[index * stride] != READY:
            return False
        budget = BUDGET
        while budget and view[index * stride] == READY and not self.session.resetting:
            budget -= 1
            entry = self._ring.take(index)
            self._next = self._after(index)
            try:
                if not self._read_at_once(index, entry):
                    self.arrive(parse_entry(entry), index, None)
            except (CookieError, RingError) as cause:
                self.session.fault(None, index, cause)
            index = self._next
        self._executor.kick()
        self.session.settle()
        return True

    def _read_at_once(self, index: int, entry: bytes) -> bool:
        """Serve the commonest request without making an object of it; False leaves it to :meth:`arrive`.

        Every check of the long way is here too, on the same private copy.
        """
        fields = ENTRY_ONE.unpack_from(entry)
        _, _, _, operation, slice_, _, addr, nbytes, ncookies, cookie_addr, cookie_size = fields
        offset = addr * self._block_size
        if (
            operation != READ
            or slice_ != SLICE_NONE
            or ncookies != 1
            or not 0 < nbytes <= MAX_AT_ONCE
            or offset + nbytes > self._size
        ):
            return False
        views = self._memory.views(((cookie_addr, cookie_size),), nbytes, Permission.CW)
        count = self._executor.read(offset, nbytes, views)
        if count != nbytes:
            return False
        self._ring.finish(index, 0, nbytes)
        self._stack.completed(1)
        return True

    def rung(self) -> None:
        """The client rang: look now, and go on looking if polling is on."""
        if self.session.poller.enabled and self.may_poll:
            self._looking = True
            self.look()
            self.session.poller.watch(self)
        else:
            self._look_until_empty()

    def quiet(self) -> None:
        """Nobody looks at this ring any more until the client rings."""
        self._looking = False
        if not self.session.resetting:
            self._stack.end_of_batch(self._next, stopping=True)
            self.session.settle()

    def _look_until_empty(self) -> None:
        """Without polling: serve what is there, with a turn of the event loop between budgets."""
        if self.session.resetting or self._looking:
            return
        if self.look():
            self.session.loop.call_soon(self._look_until_empty)
        else:
            self._stack.end_of_batch(self._next, stopping=True)
            self.session.settle()

    def batch_ends(self) -> None:
        """Answers were published: wake the client if it sleeps."""
        if self._polled:
            self._stack.end_of_batch(self._next, stopping=False)

    def close(self) -> None:
        super().close()
        self.session.poller.forget(self)
        if self._view is not None:
            self._view.release()


class CopiedPort(Port):
    """Guest memory by COPY: a shadow of the ring, private buffers, and as many copies under way as the
    channel takes.

    Where the client agreed to INLINE, entries and write data are here already when their message comes, and
    answers leave with the message that announces them.
    """

    def __init__(
        self, session: Session, memory: CopiedMemory, cookie: Cookie | None, ring: RingGeometry | None
    ) -> None:
        super().__init__(session, ring)
        self._memory = memory
        self._lent = 0  # bytes of private buffers
        self._pieces: list[tuple[int, Buffer]] = []  # inline: what the next message takes along
        if cookie is not None and ring is not None:
            self._ring = ServerRing(memory.map_ring(cookie, ring.nbytes), ring)

    @property
    def has_room(self) -> bool:
        return self._lent < MAX_LENT and not self.session.channel.congested

    def lend(self, work: GuestWork, then: Step) -> None:
        self._lent += work.requested
        work.buffers = [memoryview(bytearray(work.requested))]
        then(work)

    def fetch(self, work: GuestWork, then: Step) -> None:
        self._lent += work.requested

        def fetched(data: bytes | CookieError) -> None:
            if isinstance(data, CookieError):
                self.fault(work, data)
            else:
                work.buffers = [memoryview(data)]
                then(work)
                self._executor.kick()

        self._memory.copy_in(work.cookies, work.requested, fetched)

    def store(self, work: GuestWork, then: Step) -> None:
        (data,) = work.buffers
        if self.session.inline:
            for addr, size in cut_cookies(work.cookies, len(data)):
                self._pieces.append((addr, data[:size]))
                data = data[size:]
            then(work)
        else:
            self._memory.copy_out(work.cookies, data, self._going_on(work, then))

    def publish(self, work: GuestWork, nbytes: int) -> None:
        assert self._geometry is not None
        offset = self._geometry.offset(work.index)
        self._ring.finish(work.index, work.status, nbytes)
        if self.session.inline:
            self._pieces.append(self._memory.ring_piece(offset, ENTRY.size))
            self.answered(work)
        else:
            self._memory.release(offset, ENTRY.size, self._going_on(work, self.answered))

    def _going_on(self, work: GuestWork, then: Step) -> Callable[[CookieError | None], None]:
        def copied(fault: CookieError | None) -> None:
            if fault is not None:
                self.fault(work, fault)
            else:
                then(work)

        return copied

    def take(self, batch: int, index: int) -> None:
        """An entry that was pushed is READY in the shadow; any other is copied first."""
        assert self._geometry is not None
        if self._ring.is_ready(index):
            entry = self._ring.take(index)
            self.arrive(parse_entry(entry), index, batch)
            return
        self.running += 1  # the copy counts as a request

        def acquired(fault: CookieError | None) -> None:
            try:
                if fault is not None:
                    raise fault
                self.arrive(parse_entry(self._ring.take(index)), index, batch)
            except (CookieError, RingError) as cause:
                self._ranges.clear()
                self.session.fault(batch, index, cause)
            self._executor.kick()
            super(CopiedPort, self).ended()

        self._memory.acquire(self._geometry.offset(index), self._geometry.descriptor_size, acquired)

    def ended(self, work: GuestWork | None = None) -> None:
        super().ended(work)
        if work is not None and work.operation != Operation.FLUSH:
            self._lent -= work.requested if work.buffers else 0
        if self._ranges:
            self.pull()

    def take_pieces(self) -> list[tuple[int, Buffer]]:
        pieces, self._pieces = self._pieces, []
        return pieces


def first(buffers: Sequence[memoryview], nbytes: int) -> list[memoryview]:
    """The first ``nbytes`` of ``buffers``."""
    clipped = []
    for buffer in buffers:
        clipped.append(buffer[:nbytes])
        nbytes -= len(clipped[-1])
        if not nbytes:
            break
    return clipped


def zero_from(buffers: Sequence[memoryview], start: int) -> None:
    """Zero what ``buffers`` hold from byte ``start`` on."""
    for buffer in buffers:
        length = len(buffer)
        if start < length:
            buffer[start:] = bytes(length - start)
        start = max(0, start - length)
