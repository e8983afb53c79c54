"""What an endpoint is in every mode: events, outputs, reset, and whether the peer is there.

The three modes (:mod:`~protocol.ldc.raw`, :mod:`~protocol.ldc.link`, :mod:`~protocol.ldc.reliable`) are
driven alike. Give an endpoint what the channel reports (``link_state``, ``receive_packet``), then take all
events (``next_event``) and all outputs (``next_output``), in order. After
:class:`~protocol.ldc.events.LinkReset` put the layer above in order, then call ``up()``.

Source: Solaris ldc.c, i_ldc_reset, i_ldc_reset_state, ldc_up, ldc_down, i_ldc_rx_hdlr.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Final

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.ldc.events import LinkDown, LinkEvent, LinkReset, LinkState, LinkUp, QueueConfigured
from protocol.ldc.packet import PACKET_SIZE, Mode
from protocol.ldc.state import STATUS, LinkStatus, Move, TransportState
from protocol.wire import Buffer

__all__ = ["Transport", "refuse_packet"]


class Transport(ABC):
    """One endpoint, whatever its mode; ``queue_packets`` is what its queues hold each."""

    mode: ClassVar[Mode]
    _transitions: ClassVar[Mapping[tuple[TransportState, Move], TransportState]]

    def __init__(self, queue_packets: int) -> None:
        self._queue_packets: Final = queue_packets
        self._state = TransportState.OPEN
        self._peer = LinkState.DOWN
        self._in_reset = False
        self._events: Final[deque[LinkEvent]] = deque()
        self._output: deque[bytes | QueueConfigured] = deque()  # at most queue_packets, and one mark
        self._held: Final[deque[bytes]] = deque()  # received, waiting for up(); at most queue_packets

    # ------------------------------------------------------------------------------------------ what it tells

    @property
    def is_up(self) -> bool:
        """Whether data may be sent: the handshake is done and ``up()`` came since the last reset."""
        return self._state is TransportState.UP and not self._in_reset

    @property
    def state(self) -> TransportState:
        """How far the handshake is, whether or not ``up()`` was called."""
        return self._state

    @property
    def in_reset(self) -> bool:
        """Whether there was a reset since the last ``up()``."""
        return self._in_reset

    @property
    def status(self) -> LinkStatus:
        """What a driver's client is told of the state: not UP before ``up()``. Source: ldc.c, ldc_status."""
        return (
            LinkStatus.READY if self._in_reset and self._state is TransportState.UP else STATUS[self._state]
        )

    def next_event(self) -> LinkEvent | None:
        """Return the next event, or ``None`` when there is none until more input comes."""
        return self._events.popleft() if self._events else None

    def next_output(self) -> bytes | QueueConfigured | None:
        """Return the next packet or mark for the channel, or ``None`` when there is none; order counts."""
        return self._output.popleft() if self._output else None

    # ----------------------------------------------------------------------------------- from the layer above

    def up(self) -> None:
        """Ask for the link to be brought up; legal whenever the peer is present.

        Where there is a handshake this begins it, unless one has begun already, in either direction. If one
        has already ended, quietly because of a reset before, the link is UP at once: :class:`LinkUp` is
        given, and then what was received meanwhile.

        Raises: LocalProtocolError (the peer is not there: wait for LinkReset).
        Source: Solaris ldc.c, ldc_up. It raises no event in the last case, its callers look at the status.
        """
        if self._peer is LinkState.DOWN:
            raise LocalProtocolError(Layer.LDC, "the peer is not there")
        was_in_reset, self._in_reset = self._in_reset, False
        if self._state is not TransportState.UP:
            self._begin()
        elif was_in_reset:
            self._events.append(LinkUp())
            self._release()

    def down(self) -> None:
        """Take the link down, at any time; the peer sees a reset, this end stays down until ``up()``.

        No event is given for it. Source: Solaris ldc.c, ldc_down.
        """
        self._reset(force=True)

    # --------------------------------------------------------------------------------- from the channel below

    def link_state(self, state: LinkState) -> None:
        """Take the hypervisor's report about the peer's receive queue; each RESET report counts.

        The peer's RESET is not answered by configuring our own queue. Solaris does that when it was UP, to
        empty a queue that may hold packets from before; here the report comes in order with the packets,
        and the answer would do harm: two ends that reset at once could answer each other for ever, each
        brought UP by packets that the other sent before its own reset.

        Source: Solaris ldc.c, i_ldc_rx_hdlr.
        """
        before, self._peer = self._peer, state
        if state is LinkState.RESET:
            self._reset(force=False, answer=True)
            self._events.append(LinkReset("peer reset"))
        elif state is LinkState.DOWN:
            if before is not LinkState.DOWN:
                self._reset(force=False)
                self._events.append(LinkDown())
        elif self._state is TransportState.OPEN:
            self._move(Move.PEER_PRESENT)
            self._events.append(LinkReset("peer appeared"))

    @abstractmethod
    def receive_packet(self, packet: Buffer) -> None:
        """Take one packet from the peer.

        Raises: PacketError (not 64 bytes; nothing has changed).
        """

    # ------------------------------------------------------------------------------------ for the modes to do

    @abstractmethod
    def _begin(self) -> None:
        """Do what ``up()`` asks for; the link is not UP."""

    @abstractmethod
    def _process(self, packet: Buffer) -> None:
        """Act on one packet, now."""

    # ---------------------------------------------------------------------------------------- what they share

    def _release(self) -> None:
        """Act on the packets that have waited for ``up()``."""
        while self._held and not self._in_reset:
            self._process(self._held.popleft())

    def _send(self, packet: bytes) -> bool:
        """Queue one packet of our own; ``False`` if the queue is full: then the link is reset by force."""
        if len(self._output) >= self._queue_packets:
            self._fail("transmit queue full")
            return False
        self._output.append(packet)
        return True

    def _fail(self, cause: str) -> None:
        """Reset by force, of our own accord, and tell the layer above."""
        self._reset(force=True)
        self._events.append(LinkReset(cause))

    def _reset(self, *, force: bool, answer: bool = False) -> None:
        """Throw the link back to where it begins; ``answer``: because the peer did so.

        Source: Solaris ldc.c, i_ldc_reset.
        """
        reconfigure = force or (self._state is TransportState.UP and not answer)
        self._flush_output()
        self._held.clear()
        if reconfigure and not self._output:  # one mark does for two: it says that, not how often
            self._output.append(QueueConfigured())
        self._forget()
        self._in_reset = True

    def _flush_output(self) -> None:
        """Configure the transmit queue again: packets not yet taken are gone, marks are not."""
        self._output = deque(output for output in self._output if isinstance(output, QueueConfigured))

    def _forget(self) -> None:
        """Forget all but whether the peer is there. Source: Solaris ldc.c, i_ldc_reset_state."""
        self._move(Move.PEER_ABSENT if self._peer is LinkState.DOWN else Move.RESET)

    def _move(self, move: Move) -> None:
        self._state = self._transitions[self._state, move]


def refuse_packet(packet: Buffer) -> PacketError:
    """Return the error for what is no packet because of its size."""
    reason = f"a packet has {PACKET_SIZE} bytes, not {len(packet)}"
    return PacketError(Layer.LDC, Reaction.CLOSE, reason)
