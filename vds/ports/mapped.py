"""Guest memory in place, by views of the client's sealed memory: transport SHM, plain and polled ring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypervisor.memory import MappedMemory
from hypervisor.patience import Patience
from protocol.errors import CookieError, RingError
from protocol.ldc.cookie import Cookie, Permission
from protocol.vdisk.descriptor import parse_entry
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.vio.dring import Dstate, RingGeometry
from vds.ports.base import BUDGET, MAX_RUNNING, GuestWork, Port, Step

if TYPE_CHECKING:
    from vds.session import Session

__all__ = ["MappedPort"]

MAX_AT_ONCE: Final = 1024 * 1024
"""Longest transfer done between two looks at the ring; a longer one takes the long way."""

# Plain ints: on the data path an enum member costs more than what is done with it.
READY: Final = int(Dstate.READY)
READ: Final = int(Operation.BREAD)
WRITE: Final = int(Operation.BWRITE)
COPY_IN: Final = int(Permission.CR)
COPY_OUT: Final = int(Permission.CW)


class MappedPort(Port):
    """Guest memory by views of the client's sealed memory: the backend reads and writes the guest's own
    pages.
    """

    busy_at = 0.0
    look_s = 0.0
    looked_at = False
    _view: memoryview | None = None

    def __init__(
        self, session: Session, memory: MappedMemory, cookie: Cookie | None, ring: RingGeometry | None
    ) -> None:
        super().__init__(session, ring)
        self._memory = memory
        self._next = 0  # polled ring: the entry to look at
        self._looking = False  # polled ring: the poller has it
        self._done = 0  # polled ring: answers that the stack has not been told of
        self.patience = Patience(session.poller.budget_s)
        if cookie is not None and ring is not None:
            self._view = memory.map_ring(cookie, ring.nbytes)
            self._entries = self._view
            self._ring = self.make_ring(self._view, ring)
            self._stride = ring.descriptor_size
            self._count = ring.num_descriptors
        disk = self._stack.announced
        self._block_size = disk.block_size
        self._size = disk.size_blocks * disk.block_size
        self._writable = bool(disk.operations >> Operation.BWRITE & 1)
        self._views = memory.views
        self._read = self._executor.read
        self._write = self._executor.write

    @property
    def may_poll(self) -> bool:
        """False while worker threads are busy: they need the interpreter that polling would hold."""
        return not self._executor.pending

    def lend(self, work: GuestWork, then: Step) -> None:
        work.buffers = self._memory.views(work.cookies, work.requested, COPY_OUT)
        then(work)

    def fetch(self, work: GuestWork, then: Step) -> None:
        work.buffers = self._memory.views(work.cookies, work.requested, COPY_IN)
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
        """Serve the entries that are READY, in ring order; whether there were any."""
        states = self._entries
        stride = self._stride
        index = self._next
        if states[index * stride] != READY or self.running >= MAX_RUNNING or self.session.resetting:
            return False
        budget = BUDGET
        done = 0
        accept = self._ring.accept
        while budget and states[index * stride] == READY:
            budget -= 1
            here, index = index, index + 1
            if index == self._count:
                index = 0
            self._next = index
            try:
                if self._at_once(here, accept(here)):
                    done += 1
                    continue
                self.arrive(parse_entry(self._ring.copy(here)), here, None)
            except (CookieError, RingError) as cause:
                self.session.fault(None, here, cause)
            if self.session.resetting or self.running >= MAX_RUNNING:
                break
        self._done += done
        self._executor.kick()
        if self._looking and self._stack.client_sleeps:
            self._report(stopping=False)
        return True

    def _report(self, *, stopping: bool) -> None:
        """Let the stack know what was done since, and send what it has to say about it."""
        if self.session.resetting:  # nothing comes after a NACK
            return
        self.account()
        if self._stack.end_of_batch(self._next, stopping):
            self.session.say()

    def _at_once(self, index: int, fields: tuple[int, ...]) -> bool:
        """Serve a read or write that does not block, from its fields to DONE, without making an object of it.

        False leaves it to :meth:`arrive`. Every check of the long way is made here too, on the fields as
        read.
        """
        _, _, _, operation, slice_, _, addr, nbytes, ncookies, cookie, size = fields
        offset = addr * self._block_size
        if (
            slice_ != SLICE_NONE
            or ncookies != 1
            or not 0 < nbytes <= MAX_AT_ONCE
            or offset + nbytes > self._size
        ):
            return False
        if operation == READ:
            done = self._read(offset, nbytes, self._views(((cookie, size),), nbytes, COPY_OUT))
        elif operation == WRITE and self._writable:
            done = self._write(offset, nbytes, self._views(((cookie, size),), nbytes, COPY_IN))
        else:
            return False
        if done != nbytes:
            return False
        self._ring.finish(index, 0, nbytes)
        return True

    def rung(self) -> None:
        """The client rang: look now, and go on looking if polling is on."""
        poller = self.session.poller
        if not self._looking and poller.enabled and self.may_poll:
            self.look_s = self.patience.span()
            self._looking = self.look_s > 0
        if self._looking:
            if not self.look() and self._stack.client_sleeps:
                self._report(stopping=False)  # it may not have seen what was done before
            poller.watch(self)
        else:
            self._look_until_empty()

    def quiet(self) -> None:
        """Nobody looks at this ring any more until the client rings.

        What the last look has left, because its budget was used up, is served first: the client takes all
        that it rang for as seen.
        """
        self._looking = False
        self._look_until_empty()

    def _look_until_empty(self) -> None:
        """Without polling: serve what is there, with a turn of the event loop between budgets.

        What is filled after the last look needs no other: its doorbell is on the way, or will be when the
        client hears that we stopped.
        """
        session = self.session
        if session.resetting or self._looking or self._view is None:
            return
        more = self.look() and self._entries[self._next * self._stride] == READY
        self._report(stopping=not more)
        if more:
            session.loop.call_soon(self._look_until_empty)

    def ended(self, work: GuestWork | None = None) -> None:
        super().ended(work)
        if self._polled and self.running == MAX_RUNNING - 1:
            self.session.loop.call_soon(self._look_until_empty)

    def answered(self, work: GuestWork) -> None:
        if work.batch is None:
            self._done += 1
            self.ended(work)
        else:
            super().answered(work)

    def account(self) -> None:
        if self._done:
            self._stack.completed(self._done)
            self._done = 0

    def batch_ends(self) -> None:
        """Answers were published: wake the client if it sleeps."""
        if self._polled and self._stack.client_sleeps:
            self.account()
            self._stack.end_of_batch(self._next, stopping=False)

    def close(self) -> None:
        super().close()
        self.session.poller.forget(self)
        if self._view is not None:
            self._view.release()
            self._view = None
