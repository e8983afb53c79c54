"""The way of a request through a session, and the part of it that does not depend on how memory is reached.

Source: Solaris vds.c, vd_process_element_range, vd_process_element, vd_mark_elem_done.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from protocol.errors import ChannelLost, CookieError, RemoteProtocolError, RingError
from protocol.vdisk.descriptor import Request
from protocol.vdisk.operations import BLOCK_IO, Operation
from protocol.vdisk.ring import ServerRing
from protocol.vdisk.status import WireErrno
from protocol.vdisk.validate import clip, validate
from protocol.vio.dring import RingGeometry
from vds.work import READ, Stage, Work

if TYPE_CHECKING:
    from vds.session import Session

__all__ = ["BUDGET", "MAX_RUNNING", "GuestWork", "Port", "Step"]

BUDGET: Final = 64
"""Descriptors taken in one look: a client with a full ring must not keep the others waiting."""
TURN: Final = 1024 * 1024
"""Bytes moved in one turn of the event loop, for the same reason: one longest transfer."""
MAX_RUNNING: Final = 1024
"""Requests of one channel under way at once, however large its ring: deeper than any queue before a disk."""
MAX_REQUEST: Final = 64 * 1024 * 1024
"""Bytes of one request: far beyond what any client's cookies can carry, and a bound all the same."""


class GuestWork(Work):
    """A request with what is needed to answer it."""

    __slots__ = ("charged", "cookies", "lent", "requested")

    def __init__(self, request: Request, index: int, batch: int | None) -> None:
        super().__init__(request.operation, index=index, batch=batch)
        self.cookies = request.cookies
        self.requested = request.nbytes
        self.charged = 0  # bytes of private memory that it holds
        self.lent: list[memoryview] | None = None  # all of the guest's buffers, when the backend sees fewer


Step: TypeAlias = Callable[[GuestWork], None]


class Port(ABC):
    """The part of the way that does not depend on how guest memory is reached."""

    def __init__(self, session: Session, ring: RingGeometry | None) -> None:
        self.session = session
        self.running = 0
        """Requests taken and not yet answered."""
        self.moved = 0
        """Bytes moved in this turn, in the event loop."""
        self.disk = session.export.executor.inline
        """What is served, as other ports of the same disk know it."""
        self._export = session.export
        self._executor = session.export.executor
        self._stack = session.stack
        self._geometry = ring
        self._ranges: deque[tuple[int, int, int]] = deque()  # (batch, index, how many) not yet taken
        self._pulling = False
        self._polled = session.polled
        self._idle: asyncio.Future[None] | None = None

    def make_ring(self, memory: memoryview, ring: RingGeometry) -> ServerRing:
        """Return our end of the ring in ``memory``."""
        return ServerRing(memory, ring)

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

    def serve(self, batch: int, index: int, most: int) -> int:
        """Serve up to ``most`` entries from ``index`` on that can be served at once, and return how many.

        The one after them goes the way of :meth:`take`.
        """
        return 0

    @property
    def has_room(self) -> bool:
        """Whether another request may be taken now."""
        return self.running < MAX_RUNNING

    def close(self) -> None:
        """Let go of the guest's memory; nothing runs any more."""
        self._ranges.clear()

    # -- taking ----------------------------------------------------------------------------------------------

    def offer(self, batch: int, start_idx: int, count: int) -> None:
        """A message announced ``count`` descriptors: take them in their order, a budget at a time."""
        self._ranges.append((batch, start_idx, count))
        self.pull()

    def digested(self) -> None:  # noqa: B027 - most ports keep nothing
        """All that was received has been acted on, but for what :meth:`pull` has not taken."""

    def pull(self) -> None:
        """Take what was announced, as far as the budgets and the room go."""
        budget = BUDGET
        self.moved = 0
        while self._ranges and budget and self.moved < TURN and self.has_room and not self.session.resetting:
            batch, index, count = self._ranges.popleft()
            served = self.serve(batch, index, min(count, budget))
            if served:
                budget -= served
                if count > served:
                    self._ranges.appendleft((batch, self._after(index, served), count - served))
                continue
            if count > 1:
                self._ranges.appendleft((batch, self._after(index), count - 1))
            budget -= 1
            try:
                self.take(batch, index)
            except RingError as cause:
                self._ranges.clear()
                self.session.fault(batch, index, cause)
        self._executor.kick()
        self.resume()

    def _pull_again(self) -> None:
        self._pulling = False
        try:
            self.pull()
        except ChannelLost as cause:
            self.session.lost(cause)
        self.session.settle()

    def _after(self, index: int, count: int = 1) -> int:
        assert self._geometry is not None
        return (index + count) % self._geometry.num_descriptors

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
        if work.stage is Stage.ENDED:  # done at once; what threads do takes no time of ours
            self.moved += work.nbytes

    # -- on the way back -------------------------------------------------------------------------------------

    def executed(self, work: Work) -> None:
        """The backend is done. What a read did not fill is zeroed, so a guest never sees stale bytes of ours.

        Source: Solaris ldc_shm.c: shadow memory starts as zeros and is copied out whole.
        """
        assert isinstance(work, GuestWork)
        try:
            if self.session.resetting:  # nobody waits for the answer any more
                self.ended(work)
            elif work.operation != READ:
                self.finish(work)
            else:
                self._read_done(work)
        except ChannelLost as cause:  # on its way to the guest; the end of the session ends it
            self.session.lost(cause)

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
        assert work.batch is not None
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

    def resume(self) -> None:
        """There is room again: take what had to wait."""
        if self._ranges and self.has_room and not self._pulling and not self.session.resetting:
            self._pulling = True
            self.session.loop.call_soon(self._pull_again)

    def account(self) -> None:  # noqa: B027 - most ports have nothing to catch up on
        """Tell the stack of every answer so far; it is about to hear the client's count of them."""

    async def drain(self) -> None:
        """Wait until nothing runs."""
        while self.running:
            if self._idle is None:
                self._idle = self.session.loop.create_future()
            await self._idle

    def send(self, packets: Sequence[bytes]) -> bool:
        """Send ``packets`` with the memory contents that go before them; False: there are none.

        Raises: ChannelLost.
        """
        return False


_BEGIN: Final[dict[int, Callable[[Port, GuestWork], None]]] = {
    Operation.BREAD: Port.begin_read,
    Operation.BWRITE: Port.begin_write,
    Operation.FLUSH: Port.execute,
    Operation.GET_CAPACITY: Port.begin_facts,
    Operation.GET_DISKGEOM: Port.begin_facts,
}


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
