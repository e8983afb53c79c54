"""Hypervisor records: what two endpoints say to each other besides LDC packets.

One datagram carries either one LDC packet, which is exactly 64 bytes long, or one record, which never is. A
record stands for a hypervisor call that the other endpoint notices (queue configuration, map table
registration, memory copy) or belongs to the rendezvous. Each begins with the same 8 bytes: type, flags and
its own length; a record that would be 64 bytes long is followed by 8 zero bytes that its length does not
count.

``docs/transport.md`` is the public description; a test holds its tables equal to these layouts.

Source: the calls are those of the Hypervisor API 3.0, chapter 22, and FWARC 2008/424; the bytes are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple, TypeAlias

from protocol import wire
from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.ldc.hypervisor import CopyDirection
from protocol.ldc.packet import PACKET_SIZE

__all__ = [
    "COPY_LIMIT",
    "COPY_PIECE",
    "RECORD_LIMIT",
    "Copy",
    "CopyDirection",
    "CopyDone",
    "MapTableRecord",
    "Push",
    "PushFlags",
    "QueueRecord",
    "Record",
    "RecordType",
    "build_record",
    "padded",
    "parse_header",
    "parse_record",
]

RECORD_LIMIT: Final = 64 * 1024
"""Longest datagram in either direction: what a receiver has to have room for."""

COPY_PIECE: Final = 56 * 1024
"""Most bytes that our importer asks for in one COPY: the whole pages that fit into a record with its header.
Measured: 1 MiB in pieces of 56, 32 and 16 KiB took 0.58, 0.86 and 1.6 ms."""

_PADDING: Final = bytes(8)


class RecordType(IntEnum):
    """The first field of every record."""

    HELLO = 1  # client to server: what it wants; the first datagram of a connection
    ANSWER = 2  # server to client: go ahead, or refused
    QUEUE_CONFIGURED = 3  # either way: the sender (re)configured its receive queue (RX_QCONF)
    MAP_TABLE = 4  # exporter to importer: its map table (SET_MAP_TABLE)
    COPY = 5  # importer to exporter: COPY
    COPY_DONE = 6  # exporter to importer: result of a COPY
    PUSH = 7  # either way, extension INLINE: memory contents and packets that belong together


class PushFlags(IntFlag):
    """Flags of a PUSH record."""

    MORE = 0x0001  # the next record continues this one; only the last carries packets


_MORE: Final = int(PushFlags.MORE)  # a plain int: an IntFlag costs a microsecond


@wire.structure("hv_record", size=8)
class _Header:
    """What all records begin with."""

    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="record type")
    flags: int = wire.field(wire.Int16ub, doc="zero except in PUSH", default=0)
    length: int = wire.field(wire.Int32ub, doc="bytes of the record, padding left out")


class QueueRecord(NamedTuple):
    """The sender (re)configured its receive queue; 0 entries: it unconfigured it and takes no packets."""

    nentries: int


class MapTableRecord(NamedTuple):
    """The sender's map table: real address of slot 0 and number of slots; 0 slots: unbound."""

    base: int
    nentries: int


class Copy(NamedTuple):
    """One COPY call: ``length`` bytes at cookie address ``addr``; ``data`` goes with OUT, none with IN."""

    id: int
    direction: int
    addr: int
    length: int
    data: wire.Buffer = b""


class CopyDone(NamedTuple):
    """What became of a COPY: a hypervisor status and how many bytes were copied; ``data`` comes with IN."""

    id: int
    status: int
    length: int
    data: wire.Buffer = b""


class Push(NamedTuple):
    """Contents for the receiver's view of memory, and packets that belong to them.

    ``pieces`` are (cookie address, bytes), to be applied in order. ``more``: the next record continues this
    one.
    """

    pieces: Sequence[tuple[int, wire.Buffer]]
    packets: Sequence[bytes] = ()
    more: bool = False


Record: TypeAlias = QueueRecord | MapTableRecord | Copy | CopyDone | Push


@wire.structure("hv_queue_configured", size=16)
class _Queue:
    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="3", default=RecordType.QUEUE_CONFIGURED)
    flags: int = wire.field(wire.Int16ub, doc="0", default=0)
    length: int = wire.field(wire.Int32ub, doc="16", default=16)
    nentries: int = wire.field(wire.Int32ub, doc="packets the queue has room for: a power of two, or 0")
    resv = wire.reserved(4)


@wire.structure("hv_map_table", size=24)
class _MapTable:
    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="4", default=RecordType.MAP_TABLE)
    flags: int = wire.field(wire.Int16ub, doc="0", default=0)
    length: int = wire.field(wire.Int32ub, doc="24", default=24)
    nentries: int = wire.field(wire.Int32ub, doc="slots of 16 bytes: a power of two, or 0 to unbind")
    resv = wire.reserved(4)
    base: int = wire.field(wire.Int64ub, doc="real address of slot 0")


@wire.structure("hv_copy", size=32)
class _Copy:
    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="5", default=RecordType.COPY)
    flags: int = wire.field(wire.Int16ub, doc="0", default=0)
    length: int = wire.field(wire.Int32ub, doc="32, with OUT + nbytes")
    id: int = wire.field(wire.Int32ub, doc="chosen by the importer, returned in COPY_DONE")
    direction: int = wire.field(wire.Int32ub, doc="IN 0, OUT 1")
    addr: int = wire.field(wire.Int64ub, doc="cookie address, a multiple of 8")
    nbytes: int = wire.field(wire.Int32ub, doc="bytes to copy, a multiple of 8")
    resv = wire.reserved(4)


@wire.structure("hv_copy_done", size=24)
class _CopyDone:
    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="6", default=RecordType.COPY_DONE)
    flags: int = wire.field(wire.Int16ub, doc="0", default=0)
    length: int = wire.field(wire.Int32ub, doc="24, after IN + nbytes")
    id: int = wire.field(wire.Int32ub, doc="that of the COPY")
    status: int = wire.field(wire.Int32ub, doc="hypervisor status, 0 = EOK")
    nbytes: int = wire.field(wire.Int32ub, doc="bytes copied, a multiple of 8; may be fewer than asked for")
    resv = wire.reserved(4)


@wire.structure("hv_push", size=16)
class _Push:
    type: RecordType = wire.field(wire.Int16ub, enum=RecordType, doc="7", default=RecordType.PUSH)
    flags: int = wire.field(wire.Int16ub, doc="MORE 1")
    length: int = wire.field(wire.Int32ub, doc="16 + 16 * npieces + sum of nbytes + 64 * npackets")
    npieces: int = wire.field(wire.Int32ub, doc="entries of the table that follows")
    npackets: int = wire.field(wire.Int32ub, doc="LDC packets after the last piece's bytes")


@wire.structure("hv_push_piece", size=16)
class _Piece:
    addr: int = wire.field(wire.Int64ub, doc="cookie address, a multiple of 8")
    nbytes: int = wire.field(wire.Int32ub, doc="a multiple of 8, at least 8")
    resv = wire.reserved(4)


HEADER: Final = wire.layout(_Header).codec
QUEUE: Final = wire.layout(_Queue).codec
MAP_TABLE: Final = wire.layout(_MapTable).codec
COPY: Final = wire.layout(_Copy).codec
COPY_DONE: Final = wire.layout(_CopyDone).codec
PUSH: Final = wire.layout(_Push).codec
PIECE: Final = wire.layout(_Piece).codec

COPY_LIMIT: Final = RECORD_LIMIT - COPY.size
"""Most bytes a COPY can move: what fits into its record and into its answer."""


def refuse(reason: str) -> PacketError:
    """Return the error for a record that no well-behaved peer sends; it closes the channel."""
    return PacketError(Layer.HYPERVISOR, Reaction.CLOSE, reason)


def parse_header(data: wire.Buffer) -> tuple[int, int]:
    """Return (type, flags) of a datagram that is no packet, its length checked against its own account.

    Raises: PacketError (shorter than a header; length does not match). The type may be unknown.
    """
    if len(data) < HEADER.size:
        raise refuse(f"a datagram of {len(data)} bytes is neither a packet nor a record")
    kind, flags, length = HEADER.unpack_from(data)
    if len(data) != length and not (length == PACKET_SIZE and len(data) == length + len(_PADDING)):
        raise refuse(f"record of type {kind} says {length} bytes and has {len(data)}")
    return kind, flags


def parse_record(data: wire.Buffer) -> Record:
    """Return the record that a datagram of any length but 64 carries; its data are views of ``data``.

    Raises: PacketError (unknown type, a rendezvous record out of place, wrong length, count out of bounds).
    """
    kind, flags = parse_header(data)
    parse = _PARSERS.get(kind)
    if parse is None:
        raise refuse(f"record of type {kind} is not known here")
    return parse(memoryview(data), flags)


def _sized(data: memoryview, codec: wire.Codec) -> tuple[int, ...]:
    """Return the values after the header of a record of exactly the codec's size."""
    values = _begun(data, codec)
    if values[-1] != codec.size:
        raise refuse(f"record of {values[-1]} bytes, must be {codec.size}")
    return values[:-1]


def _begun(data: memoryview, codec: wire.Codec) -> tuple[int, ...]:
    """Return the values after the header of a record of at least the codec's size, and its length."""
    if len(data) < codec.size:
        raise refuse(f"record of {len(data)} bytes, must be {codec.size} or more")
    _, _, length, *values = codec.unpack_from(data)
    return (*values, length)


def _parse_queue(data: memoryview, flags: int) -> QueueRecord:
    (nentries,) = _sized(data, QUEUE)
    return QueueRecord(_power_of_two(nentries, "queue"))


def _parse_map_table(data: memoryview, flags: int) -> MapTableRecord:
    nentries, base = _sized(data, MAP_TABLE)
    return MapTableRecord(base, _power_of_two(nentries, "map table"))


def _power_of_two(nentries: int, what: str) -> int:
    """Return the number of entries if the hypervisor would take it. Source: Hypervisor API 3.0, 22.3."""
    if nentries == 1 or nentries & (nentries - 1):
        raise refuse(f"{what} of {nentries} entries: must be a power of two from 2 up, or 0")
    return nentries


def _parse_copy(data: memoryview, flags: int) -> Copy:
    ident, direction, addr, nbytes, length = _begun(data, COPY)
    expected = nbytes if direction == CopyDirection.OUT else 0
    if length != COPY.size + expected:
        raise refuse(
            f"COPY of {nbytes} bytes in direction {direction} has {length - COPY.size} bytes of data"
        )
    return Copy(ident, direction, addr, nbytes, data[COPY.size : length])


def _parse_copy_done(data: memoryview, flags: int) -> CopyDone:
    ident, status, nbytes, length = _begun(data, COPY_DONE)
    if length not in (COPY_DONE.size, COPY_DONE.size + nbytes):
        raise refuse(f"COPY_DONE of {nbytes} bytes has {length - COPY_DONE.size} bytes of data")
    return CopyDone(ident, status, nbytes, data[COPY_DONE.size : length])


def _parse_push(data: memoryview, flags: int) -> Push:
    npieces, npackets, length = _begun(data, PUSH)
    offset = PUSH.size + PIECE.size * npieces
    tail = length - PACKET_SIZE * npackets
    if not offset <= tail:
        raise refuse(f"PUSH of {length} bytes has no room for {npieces} pieces and {npackets} packets")
    pieces: list[tuple[int, memoryview]] = []
    for addr, nbytes in PIECE.iter_unpack(data[PUSH.size : offset]):
        if not nbytes or (addr | nbytes) & 7:
            raise refuse(f"PUSH of {nbytes} bytes at {addr:#x}: must be multiples of 8")
        end = offset + nbytes
        pieces.append((addr, data[offset:end]))
        offset = end
    if offset != tail:
        raise refuse("PUSH is not as long as its pieces and packets")
    more = bool(flags & _MORE)
    if more and npackets:
        raise refuse("PUSH to be continued carries packets")
    packets = [bytes(data[at : at + PACKET_SIZE]) for at in range(tail, length, PACKET_SIZE)]
    return Push(pieces, packets, more)


_PARSERS: Final[dict[int, Callable[[memoryview, int], Record]]] = {
    RecordType.QUEUE_CONFIGURED: _parse_queue,
    RecordType.MAP_TABLE: _parse_map_table,
    RecordType.COPY: _parse_copy,
    RecordType.COPY_DONE: _parse_copy_done,
    RecordType.PUSH: _parse_push,
}


def build_record(record: Record) -> list[wire.Buffer]:
    """Return the datagram of ``record`` in parts, data not copied; for ``sendmsg``.

    Raises: LocalProtocolError (longer than ``RECORD_LIMIT``).
    """
    return padded(_BUILDERS[type(record)](record))


def padded(parts: list[wire.Buffer]) -> list[wire.Buffer]:
    """Return the parts of a record, and behind them what keeps it from looking like a packet.

    Raises: LocalProtocolError (longer than ``RECORD_LIMIT``).
    """
    length = sum(map(len, parts))
    if length > RECORD_LIMIT:
        raise LocalProtocolError(
            Layer.HYPERVISOR, f"record of {length} bytes, at most {RECORD_LIMIT} allowed"
        )
    if length == PACKET_SIZE:
        parts.append(_PADDING)
    return parts


def _build_queue(record: QueueRecord) -> list[wire.Buffer]:
    return [QUEUE.pack(RecordType.QUEUE_CONFIGURED, 0, QUEUE.size, record.nentries)]


def _build_map_table(record: MapTableRecord) -> list[wire.Buffer]:
    return [MAP_TABLE.pack(RecordType.MAP_TABLE, 0, MAP_TABLE.size, record.nentries, record.base)]


def _build_copy(record: Copy) -> list[wire.Buffer]:
    ident, direction, addr, nbytes, data = record
    length = COPY.size + len(data)
    return [COPY.pack(RecordType.COPY, 0, length, ident, direction, addr, nbytes), data]


def _build_copy_done(record: CopyDone) -> list[wire.Buffer]:
    ident, status, nbytes, data = record
    return [COPY_DONE.pack(RecordType.COPY_DONE, 0, COPY_DONE.size + len(data), ident, status, nbytes), data]


def _build_push(record: Push) -> list[wire.Buffer]:
    pieces, packets, more = record
    data = [piece for _, piece in pieces]
    length = PUSH.size + PIECE.size * len(pieces) + sum(map(len, data)) + PACKET_SIZE * len(packets)
    flags = _MORE if more else 0
    table = [PIECE.pack(addr, len(piece)) for addr, piece in pieces]
    header = PUSH.pack(RecordType.PUSH, flags, length, len(pieces), len(packets))
    return [b"".join((header, *table)), *data, *packets]


_BUILDERS: Final[dict[type[Record], Callable[..., list[wire.Buffer]]]] = {
    QueueRecord: _build_queue,
    MapTableRecord: _build_map_table,
    Copy: _build_copy,
    CopyDone: _build_copy_done,
    Push: _build_push,
}
