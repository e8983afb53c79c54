"""One endpoint of a logical domain channel in unreliable mode: messages on top of the handshake.

The link stands between the channel, which carries 64-byte packets and knows whether the peer is there, and
the VIO layer, which exchanges messages. How to drive it is said in :mod:`protocol.ldc.transport`, the
handshake and the reset rules are in :mod:`protocol.ldc.handshake`; here is the data path.

It can be gone two ways. ``send`` and ``receive_packet`` with their queues are the general one. ``frame`` and
``take`` are for a whole message in one packet, when nothing else is under way: the same without the queues.

Source: Solaris ldc.c, i_ldc_write_packet, i_ldc_read_packet, i_ldc_rx_process_hvq; FWARC 2006/571.
"""

from __future__ import annotations

from typing import ClassVar, Final

from protocol.errors import Layer, LocalProtocolError
from protocol.ldc.events import MessageReceived
from protocol.ldc.fragment import (
    MAX_MESSAGE_SIZE,
    QUEUE_PACKETS,
    WHOLE,
    Collector,
    Piece,
    count_packets,
    split_message,
)
from protocol.ldc.handshake import UNCHECKED, HandshakeLink
from protocol.ldc.packet import (
    CTRL_MASK,
    PACKET_SIZE,
    SEQID_MASK,
    UNRELIABLE_PAYLOAD,
    Mode,
    PacketStype,
    PacketType,
    UnreliablePacketLayout,
)
from protocol.ldc.state import TransportState
from protocol.wire import Buffer

__all__ = ["Link"]

_CTRL: Final = int(PacketType.CTRL)
_DATA: Final = int(PacketType.DATA)
_INFO: Final = int(PacketStype.INFO)
_NACK: Final = int(PacketStype.NACK)
_UP: Final = TransportState.UP
_FULL: Final = WHOLE | UNRELIABLE_PAYLOAD  # env of a packet that is a message, as most are: 56 bytes

_unpack: Final = UnreliablePacketLayout.codec.unpack_from


class Link(HandshakeLink):
    """One endpoint of the link; see the module for how to drive it."""

    mode: ClassVar = Mode.UNRELIABLE

    def __init__(self) -> None:
        super().__init__(QUEUE_PACKETS)
        self._collector: Final = Collector()

    def send(self, message: bytes) -> None:
        """Queue ``message``, 1 byte or more, as one packet or several.

        Raises: LocalProtocolError (not UP; empty or longer than the queue; no room until output is taken,
            which Solaris calls EWOULDBLOCK). Nothing is queued then.
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
        self._output.extend(split_message(message, (self._last_msg_snt + 1) & SEQID_MASK))
        self._last_msg_snt = (self._last_msg_snt + npackets) & SEQID_MASK

    def frame(self, message: bytes) -> bytes | None:
        """As :meth:`send`, but return the packet, to be sent next, instead of queueing it.

        ``None``: nothing was done, send() the message. It takes several packets, or cannot be sent now, or
        other outputs go before it.
        """
        if (
            self._output
            or self._state is not _UP
            or self._in_reset
            or not 0 < len(message) <= UNRELIABLE_PAYLOAD
        ):
            return None
        self._last_msg_snt = (self._last_msg_snt + 1) & SEQID_MASK
        return split_message(message, self._last_msg_snt)[0]

    def take(self, packet: Buffer) -> bytes | None:
        """As :meth:`receive_packet`, but return the message, instead of an event, that ``packet`` is.

        For what nearly all packets of a session are: a message of 56 bytes in one piece, in sequence, on a
        link that is UP and has no events left to take. ``None``: nothing was done, receive_packet() it.
        """
        if self._state is not _UP or self._in_reset or self._events or len(packet) != PACKET_SIZE:
            return None
        type_, stype, _, env, seqid, payload = _unpack(packet)  # what ctrl says does not matter in data
        if (
            seqid != (self._last_msg_rcd + 1) & SEQID_MASK
            or type_ != _DATA
            or stype != _INFO
            or env != _FULL
            or self._collector.first_seqid is not None
        ):
            return None
        self._last_msg_rcd = seqid
        message: bytes = payload
        return message

    def _process(self, packet: Buffer) -> None:
        """Check the sequence number and act on one packet. Source: Solaris ldc.c, i_ldc_rx_hdlr."""
        type_, stype, ctrl, env, seqid, payload = _unpack(packet)
        is_data = type_ & _DATA and stype & _INFO
        if is_data and self._state is not _UP:
            return  # discarded, and its sequence number is not recorded
        if ctrl not in UNCHECKED and seqid != (self._last_msg_rcd + 1) & SEQID_MASK:
            self._refuse(type_, stype, ctrl)
        elif is_data:
            self._receive_data(env, seqid, payload)
        else:
            self._last_msg_rcd = seqid
            if type_ & _DATA and stype & _NACK:
                self._fail("peer refused data")
            elif type_ & _CTRL:
                self._receive_control(ctrl & CTRL_MASK, stype, env, seqid, packet)

    def _receive_data(self, env: int, seqid: int, payload: bytes) -> None:
        """Take one data packet that is in sequence. Source: Solaris ldc.c, i_ldc_read_packet."""
        message = self._collector.add(env, seqid, payload)
        if message is not Piece.STRAY:
            self._last_msg_rcd = seqid
        if isinstance(message, bytes) and message:  # an empty one is no message
            self._events.append(MessageReceived(message))

    def _refuse(self, type_: int, stype: int, ctrl: int) -> None:
        """Go back to before the current message, then answer the wrong sequence number."""
        first = self._collector.first_seqid
        if first is not None:
            self._last_msg_rcd = (first - 1) & SEQID_MASK
        self._collector.forget()
        super()._refuse(type_, stype, ctrl)

    def _forget(self) -> None:
        super()._forget()
        self._collector.forget()
