"""One definition of each wire structure, two ways to run it; the second module of the stack.

A structure is declared once, as a class whose fields carry construct types. From that declaration come

* the value: a frozen dataclass (or a NamedTuple, see :func:`describe`), reserved fields left out;
* the :class:`Layout`: exact-size ``parse`` and ``build`` through construct, with every enumerated field
  checked and every count bounded before its array is read. It costs 10-30 us and serves control messages;
* the :class:`Codec`: a ``struct.Struct`` found by walking the construct declaration. It costs 0.1-0.6 us,
  checks nothing and serves the data path. Nobody writes its format by hand;
* the table of offsets, sizes and meanings (``fields``), from which documentation, tools and the dissector are
  made, and the plain form of a value (:func:`to_object`, :func:`from_object`).

Peer bytes either parse or raise :class:`~protocol.errors.PacketError`. construct carries no types: this
package is the only one that touches it, everything handed out here is typed.

    @wire.structure("vio_ver_msg", size=56)
    class VersionMessage:
        msgtype: int = wire.field(wire.Int8ub, known=MessageType, doc="what kind of message")
        ...
        resv1 = wire.reserved(43)  # no annotation: not part of the value

    VersionMessageLayout = wire.layout(VersionMessage)
"""

from .codec import Codec
from .declare import array, bytes_tail, derive, describe, field, layout, reserved, structure, tail
from .kinds import (
    Array,
    Buffer,
    Bytes,
    FieldType,
    Int8sb,
    Int8ub,
    Int8ul,
    Int16sb,
    Int16ub,
    Int16ul,
    Int32sb,
    Int32ub,
    Int32ul,
    Int64sb,
    Int64ub,
    Int64ul,
    Kind,
)
from .layouts import STRUCTURES, FieldInfo, Layout, is_standard
from .objects import from_object, meaning, to_object

__all__ = [
    "STRUCTURES",
    "Array",
    "Buffer",
    "Bytes",
    "Codec",
    "FieldInfo",
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
    "Layout",
    "array",
    "bytes_tail",
    "derive",
    "describe",
    "field",
    "from_object",
    "is_standard",
    "layout",
    "meaning",
    "reserved",
    "structure",
    "tail",
    "to_object",
]
