"""What a field may hold: construct's declarations of integers, bytes and arrays, with types."""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol, TypeAlias, TypeVar, cast

import construct as _c

__all__ = [
    "Array",
    "Buffer",
    "Bytes",
    "FieldType",
    "Int8sb",
    "Int8ub",
    "Int8ul",
    "Int16sb",
    "Int16ub",
    "Int16ul",
    "Int32sb",
    "Int32ub",
    "Int32ul",
    "Int64sb",
    "Int64ub",
    "Int64ul",
    "Kind",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
T_co = TypeVar("T_co", covariant=True)


class FieldType(Protocol[T_co]):
    """A construct declaration of one field whose parsed value is a ``T_co``."""

    def parse(self, data: bytes) -> T_co:
        """Parse one value; used by construct, not by us."""

    def sizeof(self) -> int:
        """Size in bytes."""


Int8ub: Final[FieldType[int]] = _c.Int8ub
Int16ub: Final[FieldType[int]] = _c.Int16ub
Int32ub: Final[FieldType[int]] = _c.Int32ub
Int64ub: Final[FieldType[int]] = _c.Int64ub
Int8sb: Final[FieldType[int]] = _c.Int8sb
Int16sb: Final[FieldType[int]] = _c.Int16sb
Int32sb: Final[FieldType[int]] = _c.Int32sb
Int64sb: Final[FieldType[int]] = _c.Int64sb
Int8ul: Final[FieldType[int]] = _c.Int8ul  # little-endian: what GPT labels are made of
Int16ul: Final[FieldType[int]] = _c.Int16ul
Int32ul: Final[FieldType[int]] = _c.Int32ul
Int64ul: Final[FieldType[int]] = _c.Int64ul


def Bytes(length: int) -> FieldType[bytes]:  # named as in construct, whose declaration it is
    """Exactly ``length`` opaque bytes."""
    return cast("FieldType[bytes]", _c.Bytes(length))


def Array(count: int, element: FieldType[int]) -> FieldType[tuple[int, ...]]:  # named as in construct
    """Exactly ``count`` integers; an array of structures is :func:`~protocol.wire.array`."""
    return cast("FieldType[tuple[int, ...]]", _c.Array(count, element))


class Kind(Enum):
    """What a field holds, as the layout tables of the documentation name it."""

    INT = "int"
    BYTES = "bytes"
    ARRAY = "array"
    RESERVED = "reserved"
