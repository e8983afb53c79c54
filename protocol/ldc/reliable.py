"""One endpoint of a logical domain channel in reliable mode: an acknowledged stream of bytes.

Handshake, sequence numbers and reset are those of :mod:`protocol.ldc.handshake`. A packet carries 48 bytes
and has an ``ackid`` beside its number. The sender keeps at most one queue of data packets unacknowledged: in
the drivers, that many slots of the transmit queue may not be overwritten. The name promises too much: nothing
is ever sent again, and a packet lost is a NACK and a reset here as well. What the mode adds is flow control:
who does not read does not acknowledge.

Receive passes. A driver acknowledges once for each run of its interrupt handler, after all packets that it
has found. Here a pass ends when outputs are taken: give all packets that have come, take all events, then
take the outputs, the acknowledgement among them. Whoever takes no outputs stops the peer.

Bytes are given to the layer above when the packet with STOP has come, a whole write of the peer at a time,
as the drivers do; but the cut means nothing. A stream must not lose bytes in silence: pieces that do not
join, or a write longer than the mtu, which the drivers drop, are a reset.

Source: Solaris ldc.c, i_ldc_write_stream, i_ldc_read_stream, i_ldc_process_data_ACK, i_ldc_rx_process_hvq,
    i_ldc_get_tx_head; Linux arch/sparc/kernel/ldc.c, stream_ops, which calls the mode STREAM.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Final

from protocol.errors import Layer, LocalProtocolError
from protocol.ldc.channel import DEFAULT_MTU, count_queue_entries
from protocol.ldc.events import QueueConfigured, StreamReceived
from protocol.ldc.fragment import Collector, Piece, split_stream
from protocol.ldc.handshake import UNCHECKED, HandshakeLink
from protocol.ldc.packet import (
    CTRL_MASK,
    ENV_START,
    RELIABLE_PAYLOAD,
    SEQID_MASK,
    Mode,
    PacketStype,
    PacketType,
    ReliablePacketLayout,
)
from protocol.ldc.state import TransportState
from protocol.wire import Buffer

__all__ = ["ReliableLink"]

_CTRL: Final = int(PacketType.CTRL)
_DATA: Final = int(PacketType.DATA)
_INFO: Final = int(PacketStype.INFO)
_ACK: Final = int(PacketStype.ACK)
_NACK: Final = int(PacketStype.NACK)

_unpack: Final = ReliablePacketLayout.codec.unpack_from


class ReliableLink(HandshakeLink):
    """One endpoint in reliable mode; see the module for how to drive it.

    ``mtu``, in bytes, is the longest write of either end, and sizes the queues; both ends have the same.
    """

    mode: ClassVar = Mode.RELIABLE

    def __init__(self, mtu: int = DEFAULT_MTU) -> None:
        super().__init__(count_queue_entries(mtu, RELIABLE_PAYLOAD) - 1)
        self._mtu: Final = mtu
        self._collector: Final = Collector(mtu, RELIABLE_PAYLOAD)
        self._unacked: Final[deque[int]] = deque()  # seqids of data packets; at most queue_packets
        self._ack_due = False  # data has come in this pass

    @property
    def room(self) -> int:
        """How many bytes ``send`` would take, the link being UP; grows with ACKs and when output is taken."""
        packets = self._queue_packets - max(len(self._unacked), len(self._output))
        return min(self._mtu, packets * RELIABLE_PAYLOAD)

    def send(self, data: bytes) -> int:
        """Queue as much of ``data`` as there is :attr:`room` for and return how many bytes that was, maybe 0.

        Raises: LocalProtocolError (not UP; nothing is queued then).
        Source: Solaris ldc.c, i_ldc_write_stream; it takes nothing (EWOULDBLOCK) where not all has room.
        """
        if not self.is_up:
            raise LocalProtocolError(Layer.LDC, "the link is not up")
        taken = data[: self.room]
        for packet in split_stream(taken, (self._last_msg_snt + 1) & SEQID_MASK):
            self._last_msg_snt = (self._last_msg_snt + 1) & SEQID_MASK
            self._unacked.append(self._last_msg_snt)
            self._output.append(packet)
        return len(taken)

    def next_output(self) -> bytes | QueueConfigured | None:
        """Return the next packet or mark for the channel, or ``None`` when there is none; order counts.

        Ends the receive pass: if data has come since the last call, its acknowledgement is queued now.
        """
        if self._ack_due and len(self._output) < self._queue_packets:
            self._ack_due = False
            self._send_control(_DATA, _ACK, 0)
        return super().next_output()

    # --------------------------------------------------------------------------------------- received packets

    def _process(self, packet: Buffer) -> None:
        """Check the sequence number and act on one packet. Source: Solaris ldc.c, i_ldc_rx_process_hvq."""
        type_, stype, ctrl, env, seqid, ackid, payload = _unpack(packet)
        if type_ & _DATA and stype & _INFO and self._state is not TransportState.UP:
            return  # discarded, and its sequence number is not recorded
        if ctrl not in UNCHECKED and seqid != (self._last_msg_rcd + 1) & SEQID_MASK:
            self._refuse(type_, stype, ctrl)
            return
        self._last_msg_rcd = seqid
        if type_ & _DATA:
            self._receive_data(stype, env, seqid, ackid, payload)
        elif type_ & _CTRL:
            self._receive_control(ctrl & CTRL_MASK, stype, env, seqid, packet)

    def _receive_data(self, stype: int, env: int, seqid: int, ackid: int, payload: bytes) -> None:
        """Take one data packet, ACK or NACK; an ACK may ride on data, though no driver lets it."""
        if stype & _NACK:
            self._fail("peer refused data")
        elif stype & _ACK and not self._acknowledged(ackid):
            self._fail("peer acknowledged what was not sent")
        elif stype & _INFO:
            self._receive_piece(env, seqid, payload)

    def _receive_piece(self, env: int, seqid: int, payload: bytes) -> None:
        """Take one piece of a write. Source: Solaris ldc.c, i_ldc_rxdq_copy and i_ldc_read_packet."""
        starts, expected = bool(env & ENV_START), self._collector.first_seqid is None
        found = self._collector.add(env, seqid, payload)
        if starts is not expected or found is Piece.OVERFLOW:
            self._fail("pieces of the stream do not join")
            return
        self._ack_due = True
        if isinstance(found, bytes) and found:
            self._events.append(StreamReceived(found))

    def _acknowledged(self, ackid: int) -> bool:
        """Free the window up to ``ackid``; ``False`` if it is the number of no packet that is outstanding.

        Outstanding is what was taken from here, from the first data packet without an ACK on. That may be an
        ACK of ours: the peer names the last packet it has received, whatever it was.

        Source: Solaris ldc.c, i_ldc_process_data_ACK. With nothing outstanding it looks through old slots.
        """
        if not self._unacked:
            return False
        oldest = self._unacked[0]
        taken = ((self._last_msg_snt - oldest + 1) & SEQID_MASK) - len(self._output)
        acked = (ackid - oldest) & SEQID_MASK
        if acked >= taken:
            return False
        while self._unacked and (self._unacked[0] - oldest) & SEQID_MASK <= acked:
            self._unacked.popleft()
        return True

    def _forget(self) -> None:
        super()._forget()
        self._collector.forget()
        self._unacked.clear()
        self._ack_due = False
