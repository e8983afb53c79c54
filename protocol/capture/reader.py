"""Bytes of a capture in, interfaces and frames out.

Read is what any program makes of a capture: both byte orders, any resolution of time, several sections,
blocks and options that are not known here (skipped), a file whose last block is not whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from protocol import wire
from protocol.errors import Layer, PacketError, Reaction
from protocol.ldc.packet import PACKET_SIZE

from .pcapng import (
    BIG,
    LINKTYPE,
    LITTLE,
    MAX_BLOCK_SIZE,
    MICROSECONDS,
    MIN_BLOCK_SIZE,
    BlockType,
    ByteOrder,
    CommonOption,
    Direction,
    InterfaceOption,
    PacketOption,
)

__all__ = ["MAX_INTERFACES", "Event", "Frame", "Interface", "Reader"]

MAX_INTERFACES: Final = 65536
"""Interfaces of a section: one for each connection, 16 times as many as vds serves at once."""

MAX_KEPT_TEXT: Final = 256
"""Characters that are kept of an interface's name and of its description, which may have 64 KiB."""

_ORDERS: Final = {order.magic: order for order in (LITTLE, BIG)}
_SECTION: Final = BlockType.SECTION.to_bytes(4, "big")
_MAGIC_AT: Final = LITTLE.block.size
_DIRECTIONS: Final = {int(direction): direction for direction in Direction}
_DIRECTION_MASK: Final = 3
_POWER_OF_TWO: Final = 0x80  # of a resolution: 2**-n, not 10**-n
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One channel at one end: its number in the section, its name, and who is at the other end.

    ``resolution`` is as the file has it: times count units of 10**-n seconds, with bit 7 set of 2**-n.
    ``offset_s`` is added to each.
    """

    number: int
    name: str
    description: str
    linktype: int
    resolution: int = MICROSECONDS
    offset_s: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether it can carry LDC packets and notes; frames of other link types are skipped."""
        return self.linktype == LINKTYPE

    def time_ns(self, units: int) -> int:
        """Return a time of this interface in nanoseconds since 1970."""
        exponent = self.resolution & ~_POWER_OF_TWO
        second = 1 << exponent if self.resolution & _POWER_OF_TWO else int(10**exponent)
        return units * _SECOND_NS // second + self.offset_s * _SECOND_NS


class Frame(NamedTuple):
    """A packet or a note. ``time_ns`` counts from 1970."""

    interface: Interface
    time_ns: int
    direction: Direction
    data: bytes

    @property
    def is_packet(self) -> bool:
        """Whether it is an LDC packet; otherwise ``data`` is for :func:`~protocol.capture.parse_note`."""
        return len(self.data) == PACKET_SIZE


Event: TypeAlias = Interface | Frame


class Reader:
    """Bytes of a capture in, in pieces of any size; interfaces and frames out, in the order of the file.

    Call :meth:`receive_data`, then :meth:`next_event` until it returns None, and so on to the end of the
    file; then look at ``is_cut_short``. At most one block is kept, and the interfaces of a section, their
    texts cut to :data:`MAX_KEPT_TEXT`.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._events: deque[Event] = deque()
        self._order: ByteOrder | None = None  # of the section; None before the first
        self._interfaces: list[Interface] = []

    @property
    def is_cut_short(self) -> bool:
        """Whether what was received does not end with a whole block, or is nothing at all.

        At the end of the file it says that the file is not complete: its writer was killed, or still writes.
        """
        return bool(self._data) or self._order is None

    def receive_data(self, data: wire.Buffer) -> None:
        """Take the next bytes of the file; call :meth:`next_event` next."""
        self._data += data

    def next_event(self) -> Event | None:
        """Return the next interface or frame, or None: more bytes are needed, or the file is at its end.

        Raises: PacketError (no pcapng, or a block that contradicts itself, each time it is called again).
        """
        while not self._events and (block := self._next_block()) is not None:
            self._read(block)
            del self._data[: len(block)]
        return self._events.popleft() if self._events else None

    def _next_block(self) -> bytes | None:
        """Return the next block, or None if not all of it is there."""
        start = bytes(self._data[:MIN_BLOCK_SIZE])
        if self._order is None and not _SECTION.startswith(start[:4]):
            raise _malformed("not a pcapng file")
        if len(start) < MIN_BLOCK_SIZE:
            return None
        _, length = self._order_of(start).block.codec.unpack_from(start)
        if not MIN_BLOCK_SIZE <= length <= MAX_BLOCK_SIZE or length & 3:
            raise _malformed(f"a block of {length} bytes")
        return bytes(self._data[:length]) if length <= len(self._data) else None

    def _order_of(self, block: bytes) -> ByteOrder:
        """Return a block's byte order: a section header has its own, the rest that of the section."""
        if block.startswith(_SECTION) or self._order is None:
            order = _ORDERS.get(block[_MAGIC_AT:MIN_BLOCK_SIZE])
            if order is None:
                raise _malformed("a section in an unknown byte order")
            return order
        return self._order

    def _read(self, block: bytes) -> None:
        order = self._order_of(block)
        kind, length = order.block.codec.unpack_from(block)
        end = length - order.word.size
        (again,) = order.word.unpack_from(block, end)
        if again != length:
            raise _malformed(f"a block of {length} bytes that ends as one of {again}")
        read = _READ.get(kind)
        if read is not None:
            read(self, order, block[order.block.size : end])

    def _section(self, order: ByteOrder, body: bytes) -> None:
        section = order.section.parse(body, trailing=True)
        if section.major != 1:
            raise _malformed(f"pcapng version {section.major}.{section.minor}")
        self._order = order
        self._interfaces = []

    def _interface(self, order: ByteOrder, body: bytes) -> None:
        if len(self._interfaces) >= MAX_INTERFACES:
            raise _malformed(f"more than {MAX_INTERFACES} interfaces in a section")
        head = order.interface.parse(body, trailing=True)
        options = _Options(order, body[order.interface.size :])
        interface = Interface(
            number=len(self._interfaces),
            name=options.text(InterfaceOption.NAME),
            description=options.text(InterfaceOption.DESCRIPTION),
            linktype=head.linktype,
            resolution=options.number(InterfaceOption.TSRESOL, 1, MICROSECONDS),
            offset_s=options.number(InterfaceOption.TSOFFSET, 8, 0, signed=True),
        )
        self._interfaces.append(interface)
        self._events.append(interface)

    def _packet(self, order: ByteOrder, body: bytes) -> None:
        head = order.packet.parse(body, trailing=True)
        if head.interface >= len(self._interfaces):
            raise _malformed(f"a frame of interface {head.interface}, there are {len(self._interfaces)}")
        interface = self._interfaces[head.interface]
        end = order.packet.size + head.captured
        if end > len(body):
            raise _malformed(f"a frame of {head.captured} bytes in a block with {len(body)}")
        if not interface.is_ours:
            return
        if head.captured != head.original:  # what it is follows from its length
            raise _malformed(f"only {head.captured} bytes of a frame of {head.original}")
        options = _Options(order, body[end + (-end & 3) :])
        flags = options.number(PacketOption.FLAGS, 4, Direction.UNKNOWN) & _DIRECTION_MASK
        direction = _DIRECTIONS.get(flags)
        if direction is None:
            raise _malformed("a frame that is inbound and outbound")
        time_ns = interface.time_ns(head.time_high << 32 | head.time_low)
        self._events.append(Frame(interface, time_ns, direction, body[order.packet.size : end]))


_READ: Final[Mapping[int, Callable[[Reader, ByteOrder, bytes], None]]] = {
    BlockType.SECTION: Reader._section,
    BlockType.INTERFACE: Reader._interface,
    BlockType.PACKET: Reader._packet,
}


class _Options:
    """The options at the end of a block, by code; of one that comes again the last. Raises: PacketError."""

    def __init__(self, order: ByteOrder, data: bytes) -> None:
        self._order = order
        self._values = dict(_split(order, data))

    def number(self, code: IntEnum, size: int, default: int, *, signed: bool = False) -> int:
        """Return an option of exactly ``size`` bytes, or ``default`` where it is missing."""
        value = self._values.get(code)
        if value is None:
            return default
        if len(value) != size:
            raise _malformed(f"option {code.name} of {len(value)} bytes, must be {size}")
        return int.from_bytes(value, self._order.name, signed=signed)

    def text(self, code: IntEnum) -> str:
        """Return the beginning of a text, empty where it is missing."""
        return self._values.get(code, b"").decode("utf-8", "replace")[:MAX_KEPT_TEXT]


def _split(order: ByteOrder, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (code, value) of each option; they end with the block, or with an option that says so."""
    header = order.option.codec
    at = 0
    while at < len(data):  # a multiple of 4 in total: there is room for a header
        code, length = header.unpack_from(data, at)
        if code == CommonOption.END:
            return
        start = at + header.size
        end = start + length
        if end > len(data):
            raise _malformed(f"an option of {length} bytes where {len(data) - start} are left")
        yield code, data[start:end]
        at = end + (-length & 3)


def _malformed(reason: str) -> PacketError:
    return PacketError(Layer.HYPERVISOR, Reaction.CLOSE, reason)
