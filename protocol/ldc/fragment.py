"""Messages and the packets that carry them, joined by the START and STOP bits of ``env``.

A message is cut into pieces of 56 bytes, all full but the last; the first carries START, the last STOP, a
single one both. Every piece has a sequence number of its own. In reliable mode a piece has 48 bytes, and what
is cut so is one write to the stream.

Source: Solaris ldc.c, ldc_write (i_ldc_write_packet) and i_ldc_read_packet.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from protocol.ldc.channel import VDISK_MTU, count_queue_entries
from protocol.ldc.packet import (
    ENV_LENGTH_MASK,
    ENV_START,
    ENV_STOP,
    RELIABLE_PAYLOAD,
    SEQID_MASK,
    UNRELIABLE_PAYLOAD,
    PacketStype,
    PacketType,
    ReliablePacketLayout,
    UnreliablePacketLayout,
)

__all__ = [
    "MAX_MESSAGE_SIZE",
    "QUEUE_ENTRIES",
    "QUEUE_PACKETS",
    "WHOLE",
    "Collector",
    "Piece",
    "count_packets",
    "split_message",
    "split_stream",
]

QUEUE_ENTRIES: Final = count_queue_entries(VDISK_MTU, UNRELIABLE_PAYLOAD)  # of a vDisk channel: 512
QUEUE_PACKETS: Final = QUEUE_ENTRIES - 1  # a queue is full with one entry unused
MAX_MESSAGE_SIZE: Final = (
    QUEUE_PACKETS * UNRELIABLE_PAYLOAD
)  # a message must fit whole into the sender's queue
WHOLE: Final = ENV_START | ENV_STOP  # of a message in one packet

_DATA: Final = int(PacketType.DATA)
_INFO: Final = int(PacketStype.INFO)
_pack: Final = UnreliablePacketLayout.codec.pack


def count_packets(nbytes: int) -> int:
    """Return how many packets a message of ``nbytes`` takes."""
    return (nbytes + UNRELIABLE_PAYLOAD - 1) // UNRELIABLE_PAYLOAD


def split_message(message: bytes, seqid: int) -> list[bytes]:
    """Return the packets of ``message``, numbered from ``seqid`` on; unused payload is zero.

    ``message`` is 1 byte or more: an empty one has no packets.
    Source: Solaris ldc.c, ldc_write in unreliable mode.
    """
    size = len(message)
    if 0 < size <= UNRELIABLE_PAYLOAD:
        return [_pack(_DATA, _INFO, 0, WHOLE | size, seqid, message)]
    return _split(message, seqid, UNRELIABLE_PAYLOAD, _pack)


def split_stream(data: bytes, seqid: int) -> list[bytes]:
    """Return the packets of one write to a stream, numbered from ``seqid`` on; unused payload is zero.

    So is ``ackid``: an acknowledgement is a packet of its own. ``data`` may be empty and then has no packets.
    Source: Solaris ldc.c, i_ldc_write_stream.
    """
    return _split(data, seqid, RELIABLE_PAYLOAD, _pack_reliable)


def _split(message: bytes, seqid: int, payload: int, pack: Callable[..., bytes]) -> list[bytes]:
    """Return the packets of ``message`` with ``payload`` bytes each, all full but the last."""
    packets = []
    for offset in range(0, len(message), payload):
        piece = message[offset : offset + payload]
        env = len(piece)
        if offset == 0:
            env |= ENV_START
        if offset + payload >= len(message):
            env |= ENV_STOP
        packets.append(pack(_DATA, _INFO, 0, env, seqid, piece))
        seqid = (seqid + 1) & SEQID_MASK
    return packets


def _pack_reliable(type_: int, stype: int, ctrl: int, env: int, seqid: int, piece: bytes) -> bytes:
    """Return a packet of reliable mode without an acknowledgement."""
    return ReliablePacketLayout.codec.pack(type_, stype, ctrl, env, seqid, 0, piece)


class Piece(Enum):
    """What became of a piece that was given to a :class:`Collector`, when it did not end a message."""

    KEPT = "kept"  # more is to come
    STRAY = "stray"  # no message was begun: the packet counts as not received
    OVERFLOW = "overflow"  # the message is too long and forgotten; the rest of it will be stray


class Collector:
    """Puts the pieces of one message at a time together; holds at most ``limit`` bytes.

    ``payload`` is the most that one piece can carry.
    """

    def __init__(self, limit: int = MAX_MESSAGE_SIZE, payload: int = UNRELIABLE_PAYLOAD) -> None:
        self._limit: Final = limit
        self._payload: Final = min(payload, limit)
        self._collected: Final = bytearray()
        self.first_seqid: int | None = None
        """Sequence number of the first packet of the message being collected, if there is one."""

    def add(self, env: int, seqid: int, payload: bytes) -> bytes | Piece:
        """Take the next packet in sequence and return the whole message if this ends it.

        Source: Solaris ldc.c, i_ldc_read_packet.
        """
        if env & WHOLE == WHOLE and env & ENV_LENGTH_MASK <= self._payload:  # the usual case
            if self.first_seqid is not None:
                self.forget()
            return payload[: env & ENV_LENGTH_MASK]
        if env & ENV_START:
            self.forget()  # START in the middle of a message: begin again with this packet
            self.first_seqid = seqid
        elif self.first_seqid is None:
            return Piece.STRAY
        length = env & ENV_LENGTH_MASK
        if length > self._payload or len(self._collected) + length > self._limit:
            self.forget()
            return Piece.OVERFLOW
        self._collected.extend(payload[:length])
        if not env & ENV_STOP:
            return Piece.KEPT
        message = bytes(self._collected)
        self.forget()
        return message

    def forget(self) -> None:
        """Drop what has been collected."""
        self._collected.clear()
        self.first_seqid = None
