"""One endpoint of a logical domain channel in raw mode: packets without a header, no handshake.

The link is UP from ``up()`` on, for which the peer has to be there; every packet is a message of 64 bytes,
and nobody numbers them. How to drive it is said in :mod:`protocol.ldc.transport`.

Source: Solaris ldc.c, i_ldc_write_raw, i_ldc_read_raw, and raw mode in ldc_up and i_ldc_reset_state.
"""

from __future__ import annotations

from typing import ClassVar

from protocol.errors import Layer, LocalProtocolError
from protocol.ldc.channel import DEFAULT_MTU, count_queue_entries
from protocol.ldc.events import LinkUp, MessageReceived
from protocol.ldc.packet import PACKET_SIZE, RAW_PAYLOAD, Mode
from protocol.ldc.state import RAW_TRANSITIONS, Move, TransportState
from protocol.ldc.transport import Transport, refuse_packet
from protocol.wire import Buffer

__all__ = ["RawLink"]


class RawLink(Transport):
    """One endpoint in raw mode; ``mtu``, in bytes, sizes the queues and nothing else."""

    mode: ClassVar = Mode.RAW
    _transitions: ClassVar = RAW_TRANSITIONS

    def __init__(self, mtu: int = DEFAULT_MTU) -> None:
        super().__init__(count_queue_entries(mtu, RAW_PAYLOAD) - 1)

    def send(self, message: bytes) -> None:
        """Queue ``message``, a multiple of 64 bytes and not empty, as it is: one packet for each 64.

        Raises: LocalProtocolError (not UP; another length; no room until output is taken). Nothing is queued
            then.
        Source: Solaris ldc.c, i_ldc_write_raw, which takes one packet at a time.
        """
        if not self.is_up:
            raise LocalProtocolError(Layer.LDC, "the link is not up")
        npackets, rest = divmod(len(message), RAW_PAYLOAD)
        if rest or not npackets:
            reason = f"a message in raw mode has a multiple of {RAW_PAYLOAD} bytes, not {len(message)}"
            raise LocalProtocolError(Layer.LDC, reason)
        if npackets > self._queue_packets - len(self._output):
            raise LocalProtocolError(Layer.LDC, f"no room for {npackets} packets")
        self._output.extend(
            message[offset : offset + RAW_PAYLOAD] for offset in range(0, len(message), RAW_PAYLOAD)
        )

    def receive_packet(self, packet: Buffer) -> None:
        """Take one packet from the peer; until ``up()`` it waits, in a queue of the usual length.

        One packet too many is a reset: without sequence numbers nobody else would notice the loss.

        Raises: PacketError (not 64 bytes; nothing has changed).
        """
        if len(packet) != PACKET_SIZE:
            raise refuse_packet(packet)
        if self._state is TransportState.UP:
            self._process(packet)
        elif len(self._held) < self._queue_packets:
            self._held.append(bytes(packet))
        else:
            self._fail("receive queue full")

    def _begin(self) -> None:
        """Be UP, and give what has waited."""
        self._move(Move.EXCHANGED)
        self._events.append(LinkUp())
        self._release()

    def _process(self, packet: Buffer) -> None:
        self._events.append(MessageReceived(bytes(packet)))
