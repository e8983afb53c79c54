"""Guest memory in place, by views of the client's sealed memory: transport SHM, plain and polled ring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypervisor.memory import MappedMemory
from hypervisor.patience import Patience
from protocol.errors import CookieError, RingError
from protocol.ldc.cookie import Cookie, Permission
from protocol.vdisk.descriptor import parse_entry
from protocol.vio.dring import Dstate, RingGeometry
from vds.ports.base import BUDGET, MAX_RUNNING, GuestWork, Port, Step
from vds.ports.quick import LONG, MAX_AT_ONCE, Serve, quick_way

if TYPE_CHECKING:
    from vds.session import Session

__all__ = ["MappedPort"]

READY: Final = int(Dstate.READY)  # a plain int compares faster


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
        self._at = 0  # polled ring: where the entry to look at begins
        self._looking = False  # polled ring: the poller has it
        self._done = 0  # polled ring: answers that the stack has not been told of
        self.patience = Patience(session.poller.budget_s)
        if cookie is not None and ring is not None:
            self._view = self._entries = memory.map_ring(cookie, ring.nbytes)
            self._ring = self.make_ring(self._view, ring)
            self._stride, self._end = ring.descriptor_size, ring.nbytes
            self._serve = self.make_quick(self._view, ring)

    def make_quick(self, entries: memoryview, ring: RingGeometry) -> Serve:
        """Return the quick way of what is in the ring."""
        return quick_way(entries, ring, self._memory, self.disk, self._stack.announced, self.session.poller)

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
        """Serve entries that are READY, in ring order; whether there were any.

        Not necessarily all: so many requests or bytes end the look, so that nobody else waits for more.
        """
        entries = self._entries
        if entries[self._at] != READY or self.running >= MAX_RUNNING or self.session.resetting:
            return False
        budget = BUDGET
        self.moved = 0
        while not (served := self._serve(self._at, budget, MAX_AT_ONCE)):
            self._take_next()
            budget -= 1
            if not budget or self.moved > LONG or self.running >= MAX_RUNNING or self.session.resetting:
                break
            if entries[self._at] != READY:
                break
        self._served(served)
        return True

    def glance(self) -> bool:
        """Serve entries that are READY, short and of the plain kind; whether there were any."""
        if self._entries[self._at] != READY or self.session.resetting:
            return False
        served = self._serve(self._at, BUDGET, LONG)
        if served:
            self._served(served)
        return served > 0

    def _served(self, count: int) -> None:
        """``count`` entries, the last of a look, went the quick way."""
        self._done += count
        self._at = (self._at + count * self._stride) % self._end
        if self.running:
            self._executor.kick()
        if self._looking and self._stack.client_sleeps:
            self._report(stopping=False)

    def _take_next(self) -> None:
        """Send the next entry the long way."""
        index = self._at // self._stride
        self._at = (self._at + self._stride) % self._end
        try:
            self.arrive(parse_entry(self._ring.take(index)), index, None)
        except (CookieError, RingError) as cause:
            self.session.fault(None, index, cause)

    def _report(self, *, stopping: bool) -> None:
        """Let the stack know what was done since, and send what it has to say about it."""
        if self.session.resetting:  # nothing comes after a NACK
            return
        self.account()
        if self._stack.end_of_batch(self._at // self._stride, stopping):
            self.session.say()

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
        more = self.look() and self._entries[self._at] == READY
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
            self._stack.end_of_batch(self._at // self._stride, stopping=False)

    def close(self) -> None:
        super().close()
        self.session.poller.forget(self)
        if self._view is not None:
            self._view.release()
            self._view = None
