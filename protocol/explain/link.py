"""The link of one channel, packet after packet: both ends' states, sequence numbers, pieces joined.

An end is judged as the receiver of what the other sends, by the tables of :mod:`protocol.ldc.state`. What one
end has sent the other knows of a little later than the capture shows; nothing here depends on that. After a
reset packets from before it may still arrive, which is harmless: until an end sends a step of the handshake
they are stale and judged by nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from protocol.ldc.fragment import Collector, Piece
from protocol.ldc.handshake import INIT_SEQID, UNCHECKED
from protocol.ldc.packet import ENV_START, SEQID_MASK, PacketCtrl, PacketStype, PacketType
from protocol.ldc.state import RECEIVED, TRANSITIONS, Action, Move, TransportState

from .lines import Line, remark, say, warn
from .packet import Header
from .rules import Rule

__all__ = ["LinkWatch"]


class _End:
    """One end as a receiver: ``last`` is the number of the last packet that it has received."""

    def __init__(self) -> None:
        self.state = TransportState.OPEN
        self.last: int | None = None  # None: the capture has begun in the middle
        self.stale = False  # what it receives may be from before a reset
        self.has_rdx = False
        self.collector: Final = Collector()

    def forget(self, *, stale: bool) -> None:
        """Be as before the handshake, the peer present."""
        self.state = TransportState.READY
        self.last = INIT_SEQID
        self.stale = stale
        self.has_rdx = False
        self.collector.forget()


class LinkWatch:
    """A link between two ends, 0 and 1. After :meth:`packet` look at ``message`` and ``was_reset``."""

    def __init__(self) -> None:
        self._ends: Final = (_End(), _End())
        self._begun = False
        self.message: bytes | None = None
        """The message that the last packet has completed."""
        self.was_reset = False
        """The last packet began a new link: whatever was agreed is void."""
        self.times_up = 0

    @property
    def is_up(self) -> bool:
        """Whether data flows."""
        return self._ends[0].state is TransportState.UP

    def configured(self) -> None:
        """An end has configured its receive queue: nothing that was sent before counts."""
        self._begun = True
        for end in self._ends:
            end.forget(stale=True)

    def packet(self, sender: int, header: Header) -> Iterator[Line]:
        """Take a packet from the end ``sender``; yield what it does to the link and what is wrong with it."""
        self.message = None
        self.was_reset = False
        was_up = self.is_up
        if not self._begun:
            self._begin(header)
        receiver = self._ends[1 - sender]
        if receiver.stale and not self._begins_anew(receiver, header):
            yield remark("from before the reset, ignored")
            return
        receiver.stale = False
        if header.is_data and receiver.state is not TransportState.UP:
            yield warn(Rule.NOT_UP, f"data while the link is {receiver.state.name}, dropped")
            return
        yield from self._number(receiver, header)
        if header.is_data:
            yield from self._data(receiver, header)
        elif header.type & PacketType.DATA and header.stype & PacketStype.NACK:
            yield warn(Rule.LOST, "its sender has lost packets and wants a reset")
        elif header.type & PacketType.CTRL:
            yield from self._control(sender, header)
        if self.is_up and not was_up:
            self.times_up += 1
            yield say("the link is up")

    def _begin(self, header: Header) -> None:
        """Judge what follows from a packet that may stand in the middle: all that was agreed is unseen."""
        self._begun = True
        for end in self._ends:
            if header.step == PacketCtrl.VER and not header.is_data:
                end.forget(stale=False)
            else:
                end.state = TransportState.UP

    def _begins_anew(self, receiver: _End, header: Header) -> bool:
        """Say whether this cannot be from before the reset; a version sent before it serves as well."""
        version_agreed = receiver.state >= TransportState.VREADY
        return header.ctrl == PacketCtrl.VER or (header.ctrl in UNCHECKED and version_agreed)

    def _number(self, receiver: _End, header: Header) -> Iterator[Line]:
        """Check the number as the receiver does; go on from this one whatever it is."""
        last = receiver.last
        if last is not None and header.ctrl not in UNCHECKED and header.seqid != (last + 1) & SEQID_MASK:
            missing = (header.seqid - last - 1) & SEQID_MASK
            what = "numbered twice" if missing > SEQID_MASK // 2 else f"{missing} missing"
            yield warn(Rule.SEQID, f"packet {header.seqid} after {last}, {what}")
            receiver.collector.forget()
        receiver.last = header.seqid

    # -- data ------------------------------------------------------------------------------------------------

    def _data(self, receiver: _End, header: Header) -> Iterator[Line]:
        """Join the pieces of a message."""
        first = receiver.collector.first_seqid
        if first is not None and header.env & ENV_START:
            yield warn(Rule.PIECES, f"a message begins, the one of packet {first} has not ended")
        found = receiver.collector.add(header.env, header.seqid, header.payload)
        if isinstance(found, bytes):
            self.message = found
            if first is not None and not header.env & ENV_START:
                yield say(f"ends a message of {len(found)} bytes that began with packet {first}")
        elif found is Piece.STRAY:
            yield warn(Rule.PIECES, "no message has begun")
        elif found is Piece.OVERFLOW:
            yield warn(Rule.TOO_LONG, "the message is forgotten")
        else:
            yield say(f"a piece of the message of packet {receiver.collector.first_seqid}")

    # -- handshake -------------------------------------------------------------------------------------------

    def _control(self, sender: int, header: Header) -> Iterator[Line]:
        receiver = self._ends[1 - sender]
        action = RECEIVED.get((header.step, header.stype, receiver.state))
        if action is None:
            yield warn(Rule.STEP, f"ignored while the link is {receiver.state.name}")
            return
        yield from _HANDLERS[action](self, receiver)
        if (header.step, header.stype) == (PacketCtrl.VER, PacketStype.ACK):
            self._move(Move.VERSION_AGREED)

    def _move(self, move: Move) -> None:
        for end in self._ends:
            end.state = TRANSITIONS.get((end.state, move), end.state)

    def _restart(self, receiver: _End) -> Iterator[Line]:
        """Both ends have forgotten the link; the packet counts as a first one."""
        last = receiver.last
        for end in self._ends:
            end.forget(stale=False)
        receiver.last = last
        self.was_reset = True
        yield remark("the link is begun again")

    def _rdx(self, receiver: _End) -> Iterator[Line]:
        if receiver.has_rdx:
            yield warn(Rule.SECOND_RDX, "a second RDX; the receiver resets")
        receiver.has_rdx = True
        self._move(Move.EXCHANGED)

    def _refused(self, receiver: _End) -> Iterator[Line]:
        yield warn(Rule.REFUSED_STEP, "its sender refuses, and wants a reset")

    def _version_refused(self, receiver: _End) -> Iterator[Line]:
        yield remark("the link version is refused")

    def _quiet(self, receiver: _End) -> Iterator[Line]:
        return iter(())


_HANDLERS: Final[Mapping[Action, Callable[[LinkWatch, _End], Iterator[Line]]]] = {
    Action.ANSWER_VERSION: LinkWatch._quiet,
    Action.ADOPT_VERSION: LinkWatch._quiet,
    Action.CONFIRM_VERSION: LinkWatch._quiet,
    Action.OFFER_AGAIN: LinkWatch._version_refused,
    Action.RESTART: LinkWatch._restart,
    Action.ANSWER_RTS: LinkWatch._quiet,
    Action.ANSWER_RTR: LinkWatch._quiet,
    Action.ACCEPT_RDX: LinkWatch._rdx,
    Action.RESET: LinkWatch._refused,
}
