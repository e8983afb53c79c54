"""Messages and the packets that carry them, joined by the START and STOP bits of ``env``.

A message is cut into pieces of 56 bytes, all full but the last; the first carries START, the last STOP, a
single one both. Every piece has a sequence number of its own.

Source: Solaris ldc.c, ldc_write (i_ldc_write_packet) and i_ldc_read_packet.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from protocol.ldc.packet import (
    ENV_LENGTH_MASK,
    ENV_START,
    ENV_STOP,
    UNRELIABLE_PAYLOAD,
    PacketStype,
    PacketType,
    UnreliablePacketLayout,
)

__all__ = ["MAX_MESSAGE_SIZE", "QUEUE_PACKETS", "Collector", "Piece", "count_packets", "split_message"]

QUEUE_ENTRIES: Final = 512  # what Solaris configures for a vDisk channel (LDC_QUEUE_ENTRIES_MIN)
QUEUE_PACKETS: Final = QUEUE_ENTRIES - 1  # a queue is full with one entry unused
MAX_MESSAGE_SIZE: Final = (
    QUEUE_PACKETS * UNRELIABLE_PAYLOAD
)  # a message must fit whole into the sender's queue

_DATA: Final = int(PacketType.DATA)
_INFO: Final = int(PacketStype.INFO)
_WHOLE: Final = ENV_START | ENV_STOP
_SEQID_MASK: Final = 0xFFFF_FFFF
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
        return [_pack(_DATA, _INFO, 0, _WHOLE | size, seqid, message)]
    packets = []
    for offset in range(0, size, UNRELIABLE_PAYLOAD):
        piece = message[offset : offset + UNRELIABLE_PAYLOAD]
        env = len(piece)
        if offset == 0:
            env |= ENV_START
        if offset + UNRELIABLE_PAYLOAD >= size:
            env |= ENV_STOP
        packets.append(_pack(_DATA, _INFO, 0, env, seqid, piece))
        seqid = (seqid + 1) & _SEQID_MASK
    return packets


class Piece(Enum):
    """What became of a piece that was given to a :class:`Collector`, when it did not end a message."""

    KEPT = "kept"  # more is to come
    STRAY = "stray"  # no message was begun: the packet counts as not received
    OVERFLOW = "overflow"  # the message is too long and forgotten; the rest of it will be stray


class Collector:
    """Puts the pieces of one message at a time together; holds at most ``limit`` bytes."""

    def __init__(self, limit: int = MAX_MESSAGE_SIZE) -> None:
        self._limit: Final = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._first_seqid = -1

    @property
    def first_seqid(self) -> int | None:
        """Sequence number of the first packet of the message being collected, if there is one."""
        return self._first_seqid if self._pieces else None

    def add(self, env: int, seqid: int, payload: bytes) -> bytes | Piece:
        """Take the next packet in sequence and return the whole message if this ends it.

        Source: Solaris ldc.c, i_ldc_read_packet.
        """
        if env & _WHOLE == _WHOLE and env & ENV_LENGTH_MASK <= UNRELIABLE_PAYLOAD:  # the usual case
            self.forget()
            return payload[: env & ENV_LENGTH_MASK]
        if env & ENV_START:
            self.forget()  # START in the middle of a message: begin again with this packet
            self._first_seqid = seqid
        elif not self._pieces:
            return Piece.STRAY
        length = env & ENV_LENGTH_MASK
        if length > UNRELIABLE_PAYLOAD or self._size + length > self._limit:
            self.forget()
            return Piece.OVERFLOW
        self._pieces.append(payload[:length])
        self._size += length
        if not env & ENV_STOP:
            return Piece.KEPT
        message = b"".join(self._pieces)
        self.forget()
        return message

    def forget(self) -> None:
        """Drop what has been collected."""
        self._pieces.clear()
        self._size = 0
