"""One endpoint of a logical domain channel in unreliable mode: handshake, sequence numbers, messages, reset.

The link stands between the channel, which carries 64-byte packets and knows whether the peer is there, and
the VIO layer, which exchanges messages. All transitions are in :mod:`protocol.ldc.state`. Faults of the
peer are dealt with here as the protocol says (NACK, reset), they do not raise.

How to drive it: give it what the channel reports (``link_state``, ``receive_packet``), then take all events
(``next_event``) and all outputs (``next_output``), in order. After :class:`~protocol.ldc.events.LinkReset`
put the layer above in order, then call ``up()``.

Source: Solaris ldc.c; FWARC 2006/571. Where they disagree this follows the code: nothing is ever sent
    again, and loss means reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.ldc.events import (
    LinkDown,
    LinkEvent,
    LinkReset,
    LinkState,
    LinkUp,
    MessageReceived,
    QueueConfigured,
)
from protocol.ldc.fragment import (
    MAX_MESSAGE_SIZE,
    QUEUE_PACKETS,
    Collector,
    Piece,
    count_packets,
    split_message,
)
from protocol.ldc.packet import (
    CTRL_MASK,
    PACKET_SIZE,
    Mode,
    PacketCtrl,
    PacketStype,
    PacketType,
    UnreliablePacketLayout,
    VersionPacketLayout,
)
from protocol.ldc.state import RECEIVED, TRANSITIONS, Action, Handshake, Move, TransportState
from protocol.wire import Buffer

__all__ = ["VERSIONS", "Link", "Version"]


class Version(NamedTuple):
    """A version of the link protocol."""

    major: int
    minor: int


VERSIONS: Final = (Version(1, 0),)  # highest first; 1.0 is the only one there has ever been

_CTRL: Final = int(PacketType.CTRL)
_DATA: Final = int(PacketType.DATA)
_INFO: Final = int(PacketStype.INFO)
_ACK: Final = int(PacketStype.ACK)
_NACK: Final = int(PacketStype.NACK)
_VER: Final = int(PacketCtrl.VER)
_RTS: Final = int(PacketCtrl.RTS)
_RTR: Final = int(PacketCtrl.RTR)
_RDX: Final = int(PacketCtrl.RDX)
_UNCHECKED: Final = frozenset(
    (_VER, _RTS, _RTR)
)  # the whole ctrl byte; their sequence numbers are not checked
_MODE: Final = int(Mode.UNRELIABLE)
_SEQID_MASK: Final = 0xFFFF_FFFF
_UP: Final = TransportState.UP

_pack: Final = UnreliablePacketLayout.codec.pack
_unpack: Final = UnreliablePacketLayout.codec.unpack_from
_pack_version: Final = VersionPacketLayout.codec.pack
_unpack_version: Final = VersionPacketLayout.codec.unpack_from


class Link:
    """One endpoint of the link; see the module for how to drive it."""

    def __init__(self) -> None:
        self._state = TransportState.OPEN
        self._peer = LinkState.DOWN
        self._in_reset = False
        self._handshake = Handshake.NONE
        self._version: Version | None = None
        self._last_msg_snt = 0
        self._last_msg_rcd = 0
        self._collector: Final = Collector()
        self._events: Final[deque[LinkEvent]] = deque()
        self._output: deque[bytes | QueueConfigured] = deque()  # at most QUEUE_PACKETS packets and one mark
        self._held: Final[deque[bytes]] = deque()  # received while IN_RESET; at most QUEUE_PACKETS

    # ------------------------------------------------------------------------------------------ what it tells

    @property
    def is_up(self) -> bool:
        """Whether messages may be sent: the handshake is done and ``up()`` came since the last reset."""
        return self._state is _UP and not self._in_reset

    @property
    def state(self) -> TransportState:
        """How far the handshake is, whether or not ``up()`` was called."""
        return self._state

    @property
    def in_reset(self) -> bool:
        """Whether there was a reset since the last ``up()``."""
        return self._in_reset

    @property
    def has_begun(self) -> bool:
        """Whether a handshake has begun, from either end: ``up()`` would begin none."""
        return bool(self._handshake) or self._state is _UP

    @property
    def version(self) -> Version | None:
        """The link version agreed, if any."""
        return self._version

    def next_event(self) -> LinkEvent | None:
        """Return the next event, or ``None`` when there is none until more input comes."""
        return self._events.popleft() if self._events else None

    def next_output(self) -> bytes | QueueConfigured | None:
        """Return the next packet or mark for the channel, or ``None`` when there is none; order counts."""
        return self._output.popleft() if self._output else None

    # ----------------------------------------------------------------------------------- from the layer above

    def up(self) -> None:
        """Ask for a handshake; legal whenever the peer is present.

        Does nothing if one has begun in either direction. If one has already ended, quietly because of a
        reset before, the link is UP at once: :class:`LinkUp` is given, and then the messages that have
        waited.

        Raises: LocalProtocolError (the peer is not there: wait for LinkReset).
        Source: Solaris ldc.c, ldc_up. It raises no event in the second case, its callers look at the status.
        """
        if self._peer is LinkState.DOWN:
            raise LocalProtocolError(Layer.LDC, "the peer is not there")
        was_in_reset, self._in_reset = self._in_reset, False
        if self._state is _UP:
            if was_in_reset:
                self._events.append(LinkUp())
                self._release()
        elif not self._handshake:
            self._offer(VERSIONS[0])

    def down(self) -> None:
        """Take the link down, at any time; the peer sees a reset, this end stays down until ``up()``.

        No event is given for it. Source: Solaris ldc.c, ldc_down.
        """
        self._reset(force=True)

    def send(self, message: bytes) -> None:
        """Queue ``message``, 1 byte or more, as one packet or several.

        Raises: LocalProtocolError (not UP; empty or longer than the queue; no room until output is taken,
            which
            Solaris calls EWOULDBLOCK). Nothing is queued then.
        Source: Solaris ldc.c, ldc_write in unreliable mode.
        """
        if self._state is not _UP or self._in_reset:
            raise LocalProtocolError(Layer.LDC, "the link is not up")
        npackets = count_packets(len(message))
        if not 0 < len(message) <= MAX_MESSAGE_SIZE:
            reason = f"a message has 1 to {MAX_MESSAGE_SIZE} bytes, not {len(message)}"
            raise LocalProtocolError(Layer.LDC, reason)
        if npackets > QUEUE_PACKETS - len(self._output):
            raise LocalProtocolError(Layer.LDC, f"no room for {npackets} packets")
        self._output.extend(split_message(message, (self._last_msg_snt + 1) & _SEQID_MASK))
        self._last_msg_snt = (self._last_msg_snt + npackets) & _SEQID_MASK

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

    def receive_packet(self, packet: Buffer) -> None:
        """Take one packet from the peer.

        Raises: PacketError (not 64 bytes; nothing has changed).
        """
        if len(packet) != PACKET_SIZE:
            reason = f"a packet has {PACKET_SIZE} bytes, not {len(packet)}"
            raise PacketError(Layer.LDC, Reaction.CLOSE, reason)
        if self._in_reset and self._state is _UP and (self._held or _carries_data(packet)):
            if (
                len(self._held) < QUEUE_PACKETS
            ):  # beyond that it is lost, which the sequence check will notice
                self._held.append(bytes(packet))
            return
        self._process(packet)

    # --------------------------------------------------------------------------------------- received packets

    def _process(self, packet: Buffer) -> None:
        """Check the sequence number and act on one packet. Source: Solaris ldc.c, i_ldc_rx_hdlr."""
        type_, stype, ctrl, env, seqid, payload = _unpack(packet)
        is_data = type_ & _DATA and stype & _INFO
        if is_data and self._state is not _UP:
            return  # discarded, and its sequence number is not recorded
        if ctrl not in _UNCHECKED and seqid != (self._last_msg_rcd + 1) & _SEQID_MASK:
            self._refuse(type_, stype, ctrl)
        elif is_data:
            self._receive_data(env, seqid, payload)
        else:
            self._last_msg_rcd = seqid
            if type_ & _DATA and stype & _NACK:
                self._fail("peer refused data")
            elif type_ & _CTRL:
                self._receive_control(ctrl & CTRL_MASK, stype, env, seqid, packet)

    def _release(self) -> None:
        """Act on the packets that have waited for ``up()``."""
        while self._held and not self._in_reset:
            self._process(self._held.popleft())

    def _receive_data(self, env: int, seqid: int, payload: bytes) -> None:
        """Take one data packet that is in sequence. Source: Solaris ldc.c, i_ldc_read_packet."""
        message = self._collector.add(env, seqid, payload)
        if message is not Piece.STRAY:
            self._last_msg_rcd = seqid
        if isinstance(message, bytes) and message:  # an empty one is no message
            self._events.append(MessageReceived(message))

    def _refuse(self, type_: int, stype: int, ctrl: int) -> None:
        """Answer a wrong sequence number: go back to before the current message, NACK, purge what waits.

        A NACK out of sequence is not answered with a NACK as in Solaris: where packets were lost both ways
        the two ends would go on so for ever. It says that the peer has lost something, and that is a reset.
        """
        if stype & _NACK:
            self._fail("packets lost in both directions")
            return
        first = self._collector.first_seqid
        if first is not None:
            self._last_msg_rcd = (first - 1) & _SEQID_MASK
        self._collector.forget()
        self._held.clear()
        self._send_control(type_, _NACK, ctrl & CTRL_MASK, force=False)

    def _receive_control(self, ctrl: int, stype: int, env: int, seqid: int, packet: Buffer) -> None:
        """Act on a control packet by the table; what is not in it is ignored."""
        action = RECEIVED.get((ctrl, stype, self._state))
        if action is not None:
            _HANDLERS[action](self, ctrl, env, seqid, packet)

    def _answer_version(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """ACK the version offered if it is known, else NACK with the best there is."""
        stype, answer = _choose_version(*_unpack_version(packet)[5:])
        if self._send_version(stype, answer) and stype == _ACK:
            self._version = answer
            self._handshake |= Handshake.RCVD_VER
            self._move(Move.VERSION_AGREED)

    def _adopt_version(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Record the version that the peer agreed to and go on with RTS."""
        self._version = Version(*_unpack_version(packet)[5:])
        self._move(Move.VERSION_AGREED)
        self._last_msg_rcd = 0
        if self._send(_pack(_CTRL, _INFO, _RTS, _MODE, 0, b"")):
            self._handshake |= Handshake.SENT_RTS

    def _confirm_version(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Go on with RTS if the peer agreed to the version that we agreed to before, else reset."""
        if self._version == _unpack_version(packet)[5:]:
            self._adopt_version(ctrl, env, seqid, packet)
        else:
            self._fail("peer agreed to two versions")

    def _offer_again(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Offer the version that the peer's NACK proposes, or the next lower one of ours; else give up."""
        major, minor = _unpack_version(packet)[5:]
        for own in VERSIONS:
            if major == own.major:
                return self._offer(Version(major, min(minor, own.minor)))
            if major > own.major:
                return self._offer(own)
        return self._fail("no common link version")

    def _restart(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Forget the old handshake, which the peer has forgotten, and take the packet as a first one.

        Solaris tells the layer above nothing but UP a second time; here it gets a reset first.
        """
        if self.is_up:
            self._in_reset = True
            self._events.append(LinkReset("peer restarted"))
        self._flush_output()
        self._forget()
        self._receive_control(ctrl, packet[1], env, seqid, packet)

    def _answer_rts(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Adopt the peer's sequence number and send RTR; another mode is refused and changes nothing."""
        if env != _MODE:
            self._send_control(_CTRL, _NACK, _RTS)
            return
        self._handshake |= Handshake.RCVD_RTS
        self._last_msg_snt = self._last_msg_rcd = seqid
        if self._send(_pack(_CTRL, _INFO, _RTR, _MODE, 0, b"")):
            self._handshake |= Handshake.SENT_RTR

    def _answer_rtr(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Adopt the peer's sequence number and send RDX; another mode is refused and changes nothing."""
        if env != _MODE:
            self._send_control(_CTRL, _NACK, _RTR)
            return
        self._handshake |= Handshake.RCVD_RTR
        self._last_msg_snt = seqid
        if self._send_control(_CTRL, _INFO, _RDX):
            self._handshake |= Handshake.SENT_RDX
            self._exchange()

    def _accept_rdx(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """End the handshake; when both ends began one, RDX comes when the link is UP already."""
        if self._handshake & Handshake.RCVD_RDX:
            self._fail("second RDX")
        else:
            self._handshake |= Handshake.RCVD_RDX
            self._exchange()

    def _violated(self, ctrl: int, env: int, seqid: int, packet: Buffer) -> None:
        """Reset: the peer has refused a step of the handshake, or acknowledged what takes no answer."""
        self._fail(f"peer refused {PacketCtrl(ctrl).name}")

    # -------------------------------------------------------------------------------------- sending and state

    def _offer(self, version: Version) -> None:
        if self._send_version(_INFO, version):
            self._handshake |= Handshake.SENT_VER

    def _send_version(self, stype: int, version: Version) -> bool:
        return self._send(_pack_version(_CTRL, stype, _VER, 0, 0, *version))

    def _send_control(self, type_: int, stype: int, ctrl: int, *, force: bool = True) -> bool:
        """Send RDX, or a NACK. Source: Solaris ldc.c, i_ldc_send_pkt."""
        if ctrl in (_RTS, _RTR):  # carry no numbers
            return self._send(_pack(type_, stype, ctrl, 0, 0, b""), force=force)
        seqid = (self._last_msg_snt + 1) & _SEQID_MASK
        ackid = self._last_msg_rcd.to_bytes(8, "big")  # at offset 12; ignored on receipt in unreliable mode
        sent = self._send(_pack(type_, stype, ctrl, 0, seqid, ackid), force=force)
        if sent:
            self._last_msg_snt = seqid
        return sent

    def _send(self, packet: bytes, *, force: bool = True) -> bool:
        """Queue one packet of our own; ``False`` if the queue is full, and then the link is reset."""
        if len(self._output) >= QUEUE_PACKETS:
            self._reset(force=force)
            self._events.append(LinkReset("transmit queue full"))
            return False
        self._output.append(packet)
        return True

    def _exchange(self) -> None:
        """The handshake is done."""
        was_up = self._state is _UP
        self._move(Move.EXCHANGED)
        if not was_up and not self._in_reset:
            self._events.append(LinkUp())

    def _fail(self, cause: str) -> None:
        """Reset by force because of what the peer sent, and tell the layer above."""
        self._reset(force=True)
        self._events.append(LinkReset(cause))

    def _reset(self, *, force: bool, answer: bool = False) -> None:
        """Throw the link back to where the handshake begins; ``answer``: because the peer did so.

        Source: Solaris ldc.c, i_ldc_reset.
        """
        reconfigure = force or (self._state is _UP and not answer)
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
        self._handshake = Handshake.NONE
        self._version = None
        self._last_msg_snt = self._last_msg_rcd = 0
        self._collector.forget()

    def _move(self, move: Move) -> None:
        self._state = TRANSITIONS[self._state, move]


def _carries_data(packet: Buffer) -> bool:
    return bool(packet[0] & _DATA and packet[1] & _INFO)


def _choose_version(major: int, minor: int) -> tuple[int, Version]:
    """Return the answer to a version offered: ACK or NACK, and which.

    Source: Solaris ldc.c, i_ldc_process_VER.
    """
    for own in VERSIONS:
        if major == own.major:
            return _ACK, Version(major, min(minor, own.minor))
        if major > own.major:
            return _NACK, own
    return _NACK, Version(0, 0)


_HANDLERS: Final[Mapping[Action, Callable[[Link, int, int, int, Buffer], None]]] = {
    Action.ANSWER_VERSION: Link._answer_version,
    Action.ADOPT_VERSION: Link._adopt_version,
    Action.CONFIRM_VERSION: Link._confirm_version,
    Action.OFFER_AGAIN: Link._offer_again,
    Action.RESTART: Link._restart,
    Action.ANSWER_RTS: Link._answer_rts,
    Action.ANSWER_RTR: Link._answer_rtr,
    Action.ACCEPT_RDX: Link._accept_rdx,
    Action.RESET: Link._violated,
}
