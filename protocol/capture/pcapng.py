"""The blocks of a pcapng file: their layouts in both byte orders, and how ours are built.

What is written is little-endian, with times in nanoseconds. Source: pcapng, draft-ietf-opsawg-pcapng-03,
sections 3 and 4; link types: tcpdump.org, LINKTYPE_USER0.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, Literal, NamedTuple, TypeVar

from protocol import wire
from protocol.errors import Layer

__all__ = [
    "BIG",
    "LINKTYPE",
    "LITTLE",
    "MAX_BLOCK_SIZE",
    "MICROSECONDS",
    "MIN_BLOCK_SIZE",
    "BlockType",
    "ByteOrder",
    "Direction",
    "OptionCode",
    "build_frame",
    "build_interface",
    "build_section",
]

LINKTYPE: Final = 147
"""LINKTYPE_USER0, the first that is reserved for private use: the reader says what it means."""

MAX_BLOCK_SIZE: Final = 16 * 1024 * 1024
"""Longest block that is read; ours have at most 17 KiB, other programs put names and keys into theirs."""

MIN_BLOCK_SIZE: Final = 12
"""Type, length, and the length again."""

MAX_TEXT: Final = 4096
"""Bytes of a text that is written; the length of an option has 16 bits."""

MAGIC: Final = 0x1A2B3C4D
NANOSECONDS: Final = 9
MICROSECONDS: Final = 6
"""Resolution of an interface that does not tell. Source: pcapng, 4.2, if_tsresol."""
_NO_LENGTH: Final = 2**64 - 1  # -1, of a section: not told

_T = TypeVar("_T")


class BlockType(IntEnum):
    """The blocks that matter here; all others are skipped. Source: pcapng, 4."""

    INTERFACE = 1
    PACKET = 6  # Enhanced Packet Block
    SECTION = 0x0A0D0D0A  # the same in both byte orders


class OptionCode(IntEnum):
    """The options that matter here, each in its own block. Source: pcapng, 3.5, 4.1, 4.2, 4.3."""

    END = 0  # any block: no more options
    COMMENT = 1  # any block
    SHB_USERAPPL = 4  # section: the program that wrote it
    IF_NAME = 2
    IF_DESCRIPTION = 3
    IF_TSRESOL = 9  # one byte: times count units of 10**-n seconds, with bit 7 set 2**-n
    IF_TSOFFSET = 14  # 8 bytes, signed: seconds to add to each time
    EPB_FLAGS = 2  # 4 bytes; bits 0-1 are the direction


class Direction(IntEnum):
    """Which way a packet went, seen from the end that captures; for a note, the way of its information.

    Source: pcapng, 4.3.1, bits 0-1 of the flags.
    """

    UNKNOWN = 0  # other programs' files; ours always tell
    INBOUND = 1
    OUTBOUND = 2


class BlockHeader(NamedTuple):
    """What every block begins with; ``length`` counts all of it, and is repeated at its end."""

    type: int
    length: int


class SectionBody(NamedTuple):
    """Section Header Block. Source: pcapng, 4.1."""

    magic: int
    major: int
    minor: int
    section_length: int


class InterfaceBody(NamedTuple):
    """Interface Description Block. Source: pcapng, 4.2."""

    linktype: int
    snaplen: int


class PacketBody(NamedTuple):
    """Enhanced Packet Block; the frame follows, padded to a multiple of 4. Source: pcapng, 4.3."""

    interface: int
    time_high: int
    time_low: int
    captured: int
    original: int


class OptionHeader(NamedTuple):
    """What every option begins with; its value is padded to a multiple of 4. Source: pcapng, 3.5."""

    code: int
    length: int


class ByteOrder:
    """The fixed parts of the blocks in one byte order; ``magic`` is how a section tells it."""

    def __init__(
        self,
        name: Literal["little", "big"],
        u16: wire.FieldType[int],
        u32: wire.FieldType[int],
        u64: wire.FieldType[int],
    ) -> None:
        def describe(part: str, value: Callable[..., _T], size: int, **fields: object) -> wire.Layout[_T]:
            return wire.describe(f"pcapng_{part}_{name}", value, fields, size=size, layer=Layer.HYPERVISOR)

        field = wire.field
        self.name: Final = name
        self.magic: Final = MAGIC.to_bytes(4, name)
        self.word: Final = wire.Codec([u32])
        self.block: Final = describe(
            "block",
            BlockHeader,
            8,
            type=field(u32, doc="1 interface, 6 packet, 0x0a0d0d0a section"),
            length=field(u32, doc="bytes of the whole block, a multiple of 4; again as its last 4 bytes"),
        )
        self.section: Final = describe(
            "section",
            SectionBody,
            16,
            magic=field(u32, doc="0x1a2b3c4d in the byte order of the section"),
            major=field(u16, doc="1"),
            minor=field(u16, doc="0"),
            section_length=field(u64, doc="all ones: not told"),
        )
        self.interface: Final = describe(
            "interface",
            InterfaceBody,
            8,
            linktype=field(u16, doc="147, LINKTYPE_USER0"),
            resv=wire.reserved(2),
            snaplen=field(u32, doc="0: frames are whole"),
        )
        self.packet: Final = describe(
            "packet",
            PacketBody,
            20,
            interface=field(u32, doc="number of the interface: 0, 1, … in the order of the file"),
            time_high=field(u32, doc="nanoseconds since 1970, upper half"),
            time_low=field(u32, doc="lower half"),
            captured=field(u32, doc="bytes of the frame, which follows with zeros up to a multiple of 4"),
            original=field(u32, doc="the same"),
        )
        self.option: Final = describe(
            "option",
            OptionHeader,
            4,
            code=field(u16, doc="which option"),
            length=field(u16, doc="bytes of its value, which follows with zeros up to a multiple of 4"),
        )


LITTLE: Final = ByteOrder("little", wire.Int16ul, wire.Int32ul, wire.Int64ul)
BIG: Final = ByteOrder("big", wire.Int16ub, wire.Int32ub, wire.Int64ub)

_FRAME: Final = wire.derive(LITTLE.block, LITTLE.packet)
_option: Final = LITTLE.option.codec.pack
_word: Final = LITTLE.word.pack
_END: Final = _option(OptionCode.END, 0)
_FLAGS: Final = {
    direction: _option(OptionCode.EPB_FLAGS, 4) + _word(direction) + _END for direction in Direction
}
_FRAME_BESIDES: Final = _FRAME.size + len(_FLAGS[Direction.UNKNOWN]) + LITTLE.word.size


def build_section(application: str, comment: str) -> bytes:
    """Return what a file begins with: the section header. Texts are cut to 4096 bytes."""
    body = LITTLE.section.build(SectionBody(MAGIC, 1, 0, _NO_LENGTH))
    return _block(
        BlockType.SECTION,
        body + _text(OptionCode.COMMENT, comment) + _text(OptionCode.SHB_USERAPPL, application),
    )


def build_interface(name: str, description: str) -> bytes:
    """Return the block that announces the next interface; the first has number 0, and so on."""
    body = LITTLE.interface.build(InterfaceBody(LINKTYPE, 0))
    return _block(
        BlockType.INTERFACE,
        body
        + _text(OptionCode.IF_NAME, name)
        + _text(OptionCode.IF_DESCRIPTION, description)
        + _padded(OptionCode.IF_TSRESOL, bytes([NANOSECONDS])),
    )


def build_frame(interface: int, time_ns: int, direction: Direction, data: bytes) -> list[bytes]:
    """Return the block of one frame in parts, for ``writev``. ``time_ns`` counts from 1970."""
    size = len(data)
    padding = -size & 3
    length = _FRAME_BESIDES + size + padding
    head = _FRAME.pack(BlockType.PACKET, length, interface, time_ns >> 32, time_ns & 0xFFFFFFFF, size, size)
    return [head, data, bytes(padding) + _FLAGS[direction] + _word(length)]


def _block(kind: BlockType, body: bytes) -> bytes:
    length = MIN_BLOCK_SIZE + len(body) + len(_END)
    return LITTLE.block.build(BlockHeader(kind, length)) + body + _END + _word(length)


def _padded(code: OptionCode, value: bytes) -> bytes:
    return _option(code, len(value)) + value + bytes(-len(value) & 3)


def _text(code: OptionCode, text: str) -> bytes:
    return _padded(code, text.encode("utf-8", "replace")[:MAX_TEXT])
