"""LDC packets: their layouts in the three transport modes, and the numbers in their header.

Every packet is 64 bytes. The type is a bit mask, so is the subtype; the control number is in the low four
bits of its byte. vDisk always uses unreliable mode.

Source: Solaris sys/ldc_impl.h, ldc_msg_t; FWARC 2006/571, "Packet formats".
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from protocol import wire

__all__ = [
    "CTRL_MASK",
    "ENV_LENGTH_MASK",
    "ENV_START",
    "ENV_STOP",
    "PACKET_SIZE",
    "RAW_PAYLOAD",
    "RELIABLE_PAYLOAD",
    "SEQID_MASK",
    "UNRELIABLE_PAYLOAD",
    "Mode",
    "PacketCtrl",
    "PacketStype",
    "PacketType",
    "RawPacket",
    "RawPacketLayout",
    "ReliablePacket",
    "ReliablePacketLayout",
    "UnreliablePacket",
    "UnreliablePacketLayout",
    "VersionPacket",
    "VersionPacketLayout",
]

PACKET_SIZE: Final = 64
RAW_PAYLOAD: Final = 64
UNRELIABLE_PAYLOAD: Final = 56
RELIABLE_PAYLOAD: Final = 48

CTRL_MASK: Final = 0x0F  # the control number within its byte
SEQID_MASK: Final = 0xFFFF_FFFF  # sequence numbers count modulo 2**32
ENV_STOP: Final = 0x80  # last packet of a message
ENV_START: Final = 0x40  # first packet of a message
ENV_LENGTH_MASK: Final = 0x3F  # payload bytes in this packet


class PacketType(IntFlag):
    """What a packet is for (byte 0)."""

    CTRL = 0x01  # handshake
    DATA = 0x02  # part of a message, or its acknowledgement
    ERR = 0x10  # defined and never sent


class PacketStype(IntFlag):
    """What a packet says about it (byte 1)."""

    INFO = 0x01
    ACK = 0x02
    NACK = 0x04


class PacketCtrl(IntEnum):
    """The step of the handshake a control packet belongs to (byte 2); 0 in data packets."""

    VER = 1  # version
    RTS = 2  # ready to send
    RTR = 3  # ready to receive
    RDX = 4  # ready for data exchange


class Mode(IntEnum):
    """Transport mode, in ``env`` of RTS and RTR."""

    RAW = 0  # no header, no handshake
    UNRELIABLE = 1  # the mode of vDisk: sequence checked, nothing is sent again
    RELIABLE = 3  # acknowledged byte stream; Linux calls it STREAM


@wire.structure("ldc_packet_raw", size=PACKET_SIZE)
class RawPacket:
    """A packet in raw mode. Source: sys/ldc_impl.h, ldc_msg_t."""

    payload: bytes = wire.field(wire.Bytes(RAW_PAYLOAD), doc="64 opaque bytes")


@wire.structure("ldc_packet_unreliable", size=PACKET_SIZE)
class UnreliablePacket:
    """A packet in unreliable mode. Source: sys/ldc_impl.h, ldc_msg_t."""

    type: int = wire.field(wire.Int8ub, doc="PacketType bits")
    stype: int = wire.field(wire.Int8ub, doc="PacketStype bits")
    ctrl: int = wire.field(wire.Int8ub, doc="PacketCtrl in the low 4 bits; 0 in data packets")
    env: int = wire.field(wire.Int8ub, doc="data: STOP 0x80, START 0x40, length; RTS and RTR: mode")
    seqid: int = wire.field(wire.Int32ub, doc="sequence number, one per packet")
    payload: bytes = wire.field(wire.Bytes(UNRELIABLE_PAYLOAD), doc="piece of a message")


@wire.structure("ldc_packet_reliable", size=PACKET_SIZE)
class ReliablePacket:
    """A packet in reliable mode. Source: sys/ldc_impl.h, ldc_msg_t."""

    type: int = wire.field(wire.Int8ub, doc="PacketType bits")
    stype: int = wire.field(wire.Int8ub, doc="PacketStype bits")
    ctrl: int = wire.field(wire.Int8ub, doc="PacketCtrl in the low 4 bits; 0 in data packets")
    env: int = wire.field(wire.Int8ub, doc="data: STOP 0x80, START 0x40, length; RTS and RTR: mode")
    seqid: int = wire.field(wire.Int32ub, doc="sequence number, one per packet")
    reserved = wire.reserved(4)
    ackid: int = wire.field(wire.Int32ub, doc="last sequence number received")
    payload: bytes = wire.field(wire.Bytes(RELIABLE_PAYLOAD), doc="piece of the stream")


@wire.structure("ldc_packet_ver", size=PACKET_SIZE)
class VersionPacket:
    """A version packet, the same in every mode but raw. Source: sys/ldc_impl.h, LDC_PAYLOAD_VER_OFF."""

    type: int = wire.field(wire.Int8ub, doc="PacketType.CTRL")
    stype: int = wire.field(wire.Int8ub, doc="PacketStype bits")
    ctrl: int = wire.field(wire.Int8ub, doc="PacketCtrl.VER")
    env: int = wire.field(wire.Int8ub, doc="zero")
    seqid: int = wire.field(wire.Int32ub, doc="zero, ignored on receipt")
    major: int = wire.field(wire.Int16ub, doc="major version")
    minor: int = wire.field(wire.Int16ub, doc="minor version")
    zero = wire.reserved(52)


RawPacketLayout: Final = wire.layout(RawPacket)
UnreliablePacketLayout: Final = wire.layout(UnreliablePacket)
ReliablePacketLayout: Final = wire.layout(ReliablePacket)
VersionPacketLayout: Final = wire.layout(VersionPacket)
