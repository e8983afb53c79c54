"""Guest memory through COPY records: transport SOCKET."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from hypervisor.memory import CopiedMemory
from hypervisor.patience import Patience
from hypervisor.ranges import cut_cookies
from protocol.errors import ChannelLost, CookieError, RingError
from protocol.ldc.cookie import ALIGNMENT, Cookie
from protocol.vdisk.descriptor import ENTRY, parse_entry
from protocol.vio.dring import RingGeometry
from protocol.wire import Buffer
from vds.ports.base import GuestWork, Port, Step
from vds.ports.pushed import PushedWay

if TYPE_CHECKING:
    from vds.session import Session

__all__ = ["CopiedPort"]

MAX_LENT: Final = 64 * 1024 * 1024
"""Bytes of private buffers that one channel may hold; the next requests wait in its ring."""


Lending: TypeAlias = Callable[[GuestWork, Step], None]


class CopiedPort(Port):
    """Guest memory by COPY: a shadow of the ring, private buffers, and as many copies under way as the
    channel takes.

    Where the client agreed to INLINE, entries and write data are here already when their message comes, and
    answers leave with the message that announces them.

    After a message its socket is looked at for a while: the next one may follow sooner than a sleeper wakes.
    """

    busy_at = 0.0
    look_s = 0.0
    looked_at = False

    def __init__(
        self, session: Session, memory: CopiedMemory, cookie: Cookie | None, ring: RingGeometry | None
    ) -> None:
        super().__init__(session, ring)
        self._memory = memory
        self._lent = 0  # bytes of private buffers
        self._held: deque[tuple[Lending, GuestWork, Step]] = deque()  # requests that wait for such bytes
        self._letting_go = False
        self._pieces: list[tuple[int, Buffer]] = []  # inline: what the next message takes along
        self._way: PushedWay | None = None
        self._looking = False
        self.patience = Patience(session.poller.budget_s)
        if cookie is not None and ring is not None:
            shadow = memory.map_ring(cookie, ring.nbytes)
            self._ring = self.make_ring(shadow, ring)
            if session.inline and session.tap is None:  # a capture wants each entry taken and finished
                disk = self._stack.announced
                glance = partial(session.poller.glance, self.disk)
                self._way = PushedWay(shadow, ring, memory, session.channel, self.disk, disk, glance)

    @property
    def has_room(self) -> bool:
        channel = self.session.channel
        full = channel.congested if self._way is None else channel.wants_write
        return super().has_room and self._lent < MAX_LENT and not full

    def serve(self, batch: int, index: int, most: int) -> int:
        if self._way is None:
            return 0
        self.session.poller.glance(self.disk)
        served = self._way.serve(index, most)
        self.moved += self._way.moved
        if served:
            self._stack.complete_run(batch, index, served)
        return served

    def digested(self) -> None:
        if not self._ranges:
            self._memory.forget_pushed()

    # -- polling ---------------------------------------------------------------------------------------------

    def offer(self, batch: int, start_idx: int, count: int) -> None:
        super().offer(batch, start_idx, count)
        poller = self.session.poller
        if not self._looking and poller.enabled and self.may_poll:
            self.look_s = self.patience.span()
            self._looking = self.look_s > 0
            if self._looking:
                poller.watch(self)

    @property
    def may_poll(self) -> bool:
        """False while worker threads are busy: they need the interpreter that polling would hold."""
        return not self._executor.pending

    def look(self) -> bool:
        """Take what has come; whether anything had."""
        return self.session.look()

    def glance(self) -> bool:
        """Not worth it: what a message brings may be long, and its sender sleeps longer than that takes."""
        return False

    def quiet(self) -> None:
        """Nobody looks any more; the loop tells of the next message."""
        self._looking = False

    def close(self) -> None:
        super().close()
        self.session.poller.forget(self)

    # -- guest memory ----------------------------------------------------------------------------------------

    def lend(self, work: GuestWork, then: Step) -> None:
        self._with_room(self._lend, work, then)

    def _lend(self, work: GuestWork, then: Step) -> None:
        work.buffers = [memoryview(bytearray(work.requested))]
        then(work)

    def fetch(self, work: GuestWork, then: Step) -> None:
        self._with_room(self._fetch, work, then)

    def _fetch(self, work: GuestWork, then: Step) -> None:
        def fetched(data: bytes | CookieError) -> None:
            if isinstance(data, CookieError):
                self.fault(work, data)
            else:
                work.buffers = [memoryview(data)]
                then(work)
                self._executor.kick()

        if self.session.inline and not work.requested % ALIGNMENT:
            pushed = self._memory.pushed(work.cookies, work.requested)
            if pushed is not None:
                work.buffers = pushed
                then(work)
                return
        self._begin(self._memory.copy_in, work.cookies, work.requested, fetched)

    def _with_room(self, go_on: Lending, work: GuestWork, then: Step) -> None:
        """Go on when there is memory for ``work``; there is for one request alone, whatever it asks for.

        ``has_room`` is not enough: entries whose COPY is under way, and in-band messages, are not known yet,
        or not asked, when it is looked at.
        """
        if self._held or not self._fits(work):
            self._held.append((go_on, work, then))
            return
        work.charged = work.requested
        self._lent += work.charged
        go_on(work, then)

    def _fits(self, work: GuestWork) -> bool:
        return not self._lent or self._lent + work.requested <= MAX_LENT

    def _let_go(self) -> None:
        """Go on with what was held, as far as there is room; a loop, since one may end at once."""
        if self._letting_go:
            return
        self._letting_go = True
        try:
            while self._held and self._fits(self._held[0][1]):
                go_on, work, then = self._held.popleft()
                if self.session.resetting:
                    self.ended(work)
                    continue
                work.charged = work.requested
                self._lent += work.charged
                try:
                    go_on(work, then)
                except CookieError as cause:
                    self.fault(work, cause)
        finally:
            self._letting_go = False

    def store(self, work: GuestWork, then: Step) -> None:
        (data,) = work.buffers
        if self.session.inline:
            for addr, size in cut_cookies(work.cookies, len(data)):
                self._pieces.append((addr, data[:size]))
                data = data[size:]
            then(work)
        else:
            self._begin(self._memory.copy_out, work.cookies, data, self._going_on(work, then))

    def publish(self, work: GuestWork, nbytes: int) -> None:
        assert self._geometry is not None
        offset = self._geometry.offset(work.index)
        try:
            self._ring.finish(work.index, work.status, nbytes)
        except RingError as cause:  # pushed anew while it was ours
            self.fault(work, cause)
            return
        if self.session.inline:
            self._pieces.append(self._memory.ring_piece(offset, ENTRY.size))
            self.answered(work)
        else:
            self._begin(self._memory.release, offset, ENTRY.size, self._going_on(work, self.answered))

    def _begin(self, copy: Callable[..., None], *what: object) -> None:
        """Begin a copy. If the channel is lost in doing so, its end ends the copy with all others."""
        try:
            copy(*what)
        except ChannelLost as cause:
            self.session.lost(cause)

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
            self.ended()

        size = self._geometry.descriptor_size
        self._begin(self._memory.acquire, self._geometry.offset(index), size, acquired)

    def ended(self, work: GuestWork | None = None) -> None:
        if work is not None:
            self._lent -= work.charged
            work.charged = 0
        super().ended(work)
        if self._held:
            self._let_go()

    def send(self, packets: Sequence[bytes]) -> bool:
        pieces, self._pieces = self._pieces, []
        if self._way is not None and self._way.pending:
            if pieces:
                self.session.channel.push(pieces)
            self._way.send(packets)
        elif pieces:
            self.session.channel.push(pieces, packets)
        else:
            return False
        return True
