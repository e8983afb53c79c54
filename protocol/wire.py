"""One definition of each wire structure, two ways to run it; the second module of the stack.

A structure is declared once, as a class whose fields carry construct types. From that declaration come

* the value: a frozen dataclass (or a NamedTuple, see :func:`describe`), reserved fields left out;
* the :class:`Layout`: exact-size ``parse`` and ``build`` through construct, with every enumerated field
  checked and every count bounded before its array is read. It costs 10-30 us and serves control messages;
* the :class:`Codec`: a ``struct.Struct`` found by walking the construct declaration. It costs 0.1-0.6 us,
  checks nothing and serves the data path. Nobody writes its format by hand.

Peer bytes either parse or raise :class:`~protocol.errors.PacketError`. construct carries no types: this
module is the only one that touches it, everything handed out here is typed.

    @wire.structure("vio_ver_msg", size=56)
    class VersionMessage:
        msgtype: MessageType = wire.field(wire.Int8ub, enum=MessageType, doc="VIO_TYPE_CTRL")
        ...
        resv1 = wire.reserved(43)  # no annotation: not part of the value

    VersionMessageLayout = wire.layout(VersionMessage)
"""

from __future__ import annotations

import dataclasses
import struct as _struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, IntEnum
from typing import (
    Any,
    Final,
    Generic,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    overload,
)

import construct as _c

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction

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
    "derive",
    "describe",
    "field",
    "layout",
    "reserved",
    "structure",
    "tail",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
_UNSET: Final = object()  # no default: dataclasses' own sentinel would mean the same to _Spec itself
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
E = TypeVar("E", bound=IntEnum)


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
    """Exactly ``count`` integers; an array of structures is :func:`array`."""
    return cast("FieldType[tuple[int, ...]]", _c.Array(count, element))


class Kind(Enum):
    """What a field holds, as the layout tables of the documentation name it."""

    INT = "int"
    BYTES = "bytes"
    ARRAY = "array"
    RESERVED = "reserved"


class FieldInfo(NamedTuple):
    """One row of a structure's layout table.

    ``size`` is in bytes; in a variable tail it is that of one element, and ``counted_by`` names the field
    that counts them.
    """

    name: str
    offset: int
    size: int
    kind: Kind
    doc: str
    enum: type[IntEnum] | None = None
    counted_by: str | None = None


def _same(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    """What a declaration says about one field.

    ``decode`` turns construct's value into ours, ``encode`` turns it back.
    """

    kind: Kind
    construct: Any
    doc: str = ""
    default: Any = _UNSET
    enum: type[IntEnum] | None = None
    decode: Callable[[Any], Any] = _same
    encode: Callable[[Any], Any] = _same
    count: str = ""  # tail: the field holding the number of elements
    limit: int = 0  # tail: the most elements a peer may announce
    element_size: int = 0


def _walk(declaration: Any, name: str) -> Iterator[tuple[str, str, str | None]]:
    """Yield (byte order, struct code, value name or None) for each fixed-size part of a declaration."""
    if isinstance(declaration, _c.Renamed):
        yield from _walk(declaration.subcon, declaration.name)
    elif isinstance(declaration, _c.FormatField):
        yield declaration.fmtstr[0], declaration.fmtstr[1:], name
    elif isinstance(declaration, _c.Bytes):
        yield "", f"{declaration.length}s", name
    elif isinstance(declaration, _c.Padded):
        yield "", f"{declaration.length}x", None
    elif isinstance(declaration, _c.Array):
        for index in range(declaration.count):
            yield from _walk(declaration.subcon, f"{name}[{index}]")
    elif isinstance(declaration, _c.Struct):
        for part in declaration.subcons:
            for order, code, inner in _walk(part, name):
                yield order, code, inner if not name or inner is None else f"{name}.{inner}"
    else:
        raise TypeError(f"{name or declaration}: {type(declaration).__name__} has no fixed struct code")


class Codec:
    """A ``struct.Struct`` derived from construct declarations; for the data path.

    ``fields`` names the values in the order of the tuples; an array of structures gives ``name[0].field``.
    Reserved bytes are written as zero and skipped on reading. ``unpack_from`` checks nothing: the caller has
    made sure that ``size`` bytes are there, and looks at every value it uses.
    """

    __slots__ = (
        "_struct",
        "fields",
        "format",
        "iter_unpack",
        "pack",
        "pack_into",
        "size",
        "unpack",
        "unpack_from",
    )

    def __init__(self, declarations: Sequence[Any]) -> None:
        parts = [part for declaration in declarations for part in _walk(declaration, "")]
        orders = {order for order, code, _ in parts if order and code.lower() != "b"}
        if len(orders) > 1:
            raise TypeError("big-endian and little-endian fields in one codec")
        self.format: Final = (orders.pop() if orders else ">") + "".join(code for _, code, _ in parts)
        self.fields: Final = tuple(name for _, _, name in parts if name is not None)
        self._struct: Final = _struct.Struct(self.format)
        self.size: Final = self._struct.size
        self.pack: Final = self._struct.pack
        self.pack_into: Final = self._struct.pack_into
        self.unpack: Final = self._struct.unpack
        self.unpack_from: Final = self._struct.unpack_from
        self.iter_unpack: Final = self._struct.iter_unpack


_LAYERS: Final[Mapping[str, Layer]] = {
    "hv": Layer.HYPERVISOR,
    "ldc": Layer.LDC,
    "vio": Layer.VIO,
    "vd": Layer.VDISK,
    "dk": Layer.VDISK,
    "efi": Layer.VDISK,
}
_REACTIONS: Final[Mapping[Layer, Reaction]] = {
    Layer.HYPERVISOR: Reaction.CLOSE,  # no LDC peer could have sent it
    Layer.LDC: Reaction.CLOSE,
    Layer.VIO: Reaction.RESET,
    Layer.VDISK: Reaction.RESET,
}


class Layout(Generic[T]):
    """One structure on the wire: ``parse`` bytes into a ``T``, ``build`` bytes from one.

    ``size`` is exact; with a variable tail it is the size before the tail. ``struct`` is the construct
    declaration, ``codec`` the fast one over the fixed part, ``fields`` the layout table.
    """

    def __init__(
        self,
        name: str,
        value_type: Callable[..., T],
        specs: Mapping[str, _Spec],
        size: int,
        layer: Layer | None = None,
    ) -> None:
        self.name: Final = name
        self.layer: Final = layer or _LAYERS[name.split("_")[0]]
        self.value_type: Final = value_type
        fixed = {key: spec for key, spec in specs.items() if not spec.count}
        self._specs: Final = {key: spec for key, spec in specs.items() if spec.kind is not Kind.RESERVED}
        self._tail: Final = next(((key, spec) for key, spec in specs.items() if spec.count), None)
        if self._tail is not None and list(specs)[-1] != self._tail[0]:
            raise TypeError(f"{name}: {self._tail[0]} is variable and not the last field")
        self.struct: Final[Any] = _c.Struct(*(_c.Renamed(spec.construct, key) for key, spec in specs.items()))
        self.header: Final[Any] = _c.Struct(*(_c.Renamed(spec.construct, key) for key, spec in fixed.items()))
        self.codec: Final = Codec([self.header])
        self.size: Final = self.codec.size
        if self.size != size:
            raise TypeError(f"{name} is {self.size} bytes, declared as {size}")
        self.fields: Final = tuple(_rows(specs))
        if name in STRUCTURES:
            raise TypeError(f"{name} is declared twice")
        STRUCTURES[name] = self

    def parse(self, data: Buffer, *, trailing: bool = False) -> T:
        """Return the value of ``data``, exactly one structure; ``trailing`` lets more bytes follow.

        Raises: PacketError (wrong size, number unknown to an enumerated field, count above its limit).
        """
        size = self._expected_size(data)
        if len(data) < size or (len(data) > size and not trailing):
            raise self._error(f"{len(data)} bytes, must be {size}")
        try:
            return self._from_container(self.struct.parse(bytes(data[:size])))
        except (_c.ConstructError, _struct.error, ValueError) as error:
            raise self._error(str(error)) from error

    def build(self, value: T) -> bytes:
        """Return the bytes of ``value``, reserved fields zero.

        Raises: LocalProtocolError (a value that does not fit its field, a count that is not its array's
            length, or above its limit).
        """
        if self._tail is not None:
            key, spec = self._tail
            if not len(getattr(value, key)) == getattr(value, spec.count) <= spec.limit:
                raise LocalProtocolError(self.layer, f"{self.name}: {spec.count} does not count {key}")
        try:
            return cast(bytes, self.struct.build(self._to_container(value)))
        except (_c.ConstructError, _struct.error, ValueError, TypeError) as error:
            raise LocalProtocolError(self.layer, f"{self.name}: {error}") from error

    def _from_container(self, container: Mapping[str, Any]) -> T:
        """Return our value for what construct has parsed."""
        found = {key: spec.decode(container[key]) for key, spec in self._specs.items()}
        return self.value_type(**found)

    def _to_container(self, value: T) -> dict[str, Any]:
        """Return what construct builds from for our value."""
        return {key: spec.encode(getattr(value, key)) for key, spec in self._specs.items()}

    def _expected_size(self, data: Buffer) -> int:
        """Return how long ``data`` has to be, by its own count where there is a variable tail."""
        if self._tail is None or len(data) < self.size:
            return self.size
        _, spec = self._tail
        count: int = self.codec.unpack_from(data)[self.codec.fields.index(spec.count)]
        if count > spec.limit:
            raise self._error(f"{spec.count} is {count}, at most {spec.limit} allowed")
        return self.size + count * spec.element_size

    def _error(self, why: str) -> PacketError:
        return PacketError(self.layer, _REACTIONS[self.layer], f"{self.name}: {why}")


STRUCTURES: Final[dict[str, Layout[Any]]] = {}  # every structure by the name that the layout tables give it
_LAYOUTS: Final[dict[object, Layout[Any]]] = {}


def _rows(specs: Mapping[str, _Spec]) -> Iterator[FieldInfo]:
    """Yield the layout table of a structure."""
    offset = 0
    for name, spec in specs.items():
        size = spec.element_size or spec.construct.sizeof()
        yield FieldInfo(name, offset, size, spec.kind, spec.doc, spec.enum, spec.count or None)
        offset += size


def _kind(declaration: Any) -> Kind:
    table = ((_c.Bytes, Kind.BYTES), (_c.Array, Kind.ARRAY))
    return next((kind for type_, kind in table if isinstance(declaration, type_)), Kind.INT)


@overload
def field(kind: FieldType[T], *, doc: str = "", default: T = ...) -> T: ...
@overload
def field(kind: FieldType[int], *, enum: type[E], doc: str = "", default: E = ...) -> E: ...
def field(
    kind: FieldType[Any], *, enum: type[IntEnum] | None = None, doc: str = "", default: Any = _UNSET
) -> Any:
    """Declare one field of a :func:`structure`; with ``enum``, a number it does not know is refused."""
    found = _kind(kind)
    decode = enum or (tuple if found is Kind.ARRAY else _same)
    encode = enum or _same
    return _Spec(
        kind=found, construct=kind, doc=doc, default=default, enum=enum, decode=decode, encode=encode
    )


def reserved(size: int, *, doc: str = "reserved, zero") -> object:
    """Declare ``size`` bytes that are written as zero, ignored on receipt and left out of the value.

    Assign it without an annotation, so that it is no field of the dataclass: ``resv1 = wire.reserved(2)``.
    """
    return _Spec(kind=Kind.RESERVED, construct=_c.Padding(size), doc=doc)


def array(count: int, element: Layout[T], *, doc: str = "") -> tuple[T, ...]:
    """Declare exactly ``count`` structures in a row; an array of integers is ``field(Array(n, Int32ub))``."""
    return cast("tuple[T, ...]", _structures(_c.Array(count, element.struct), element, doc=doc))


def tail(element: Layout[T], *, count: str, limit: int, doc: str = "") -> tuple[T, ...]:
    """Declare the last field: as many structures as the field ``count`` says, at most ``limit``."""
    declaration = _c.Array(_c.this[count], element.struct)
    return cast(
        "tuple[T, ...]",
        _structures(declaration, element, doc=doc, count=count, limit=limit, element_size=element.size),
    )


def _structures(declaration: Any, element: Layout[Any], **more: Any) -> _Spec:
    def decode(containers: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        return tuple(element._from_container(container) for container in containers)

    def encode(values: Sequence[Any]) -> list[dict[str, Any]]:
        return [element._to_container(value) for value in values]

    return _Spec(kind=Kind.ARRAY, construct=declaration, decode=decode, encode=encode, **more)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, array, tail))
def structure(name: str, *, size: int, layer: Layer | None = None) -> Callable[[type[T]], type[T]]:
    """Make a class of field declarations a frozen, slotted, keyword-only dataclass, and register its layout.

    ``name`` and ``size`` are those of the layout tables; the size is checked here, that is at import. The
    layer, for errors, follows from the name unless given. The layout is :func:`layout` of the class.
    """

    def decorate(cls: type[T]) -> type[T]:
        specs = {key: value for key, value in vars(cls).items() if isinstance(value, _Spec)}
        for key, spec in specs.items():
            if spec.default is _UNSET:
                delattr(cls, key)
            else:
                setattr(cls, key, spec.default)
        made = dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(cls)
        _LAYOUTS[made] = Layout(name, made, specs, size, layer)
        return made

    return decorate


def layout(cls: type[T]) -> Layout[T]:
    """Return the layout of a class made by :func:`structure`."""
    return _LAYOUTS[cls]


def describe(
    name: str,
    value_type: Callable[..., T],
    fields: Mapping[str, object],
    *,
    size: int,
    layer: Layer | None = None,
) -> Layout[T]:
    """Register and return the layout of a value that is no dataclass: a NamedTuple on the data path.

    ``fields`` maps the value's names to declarations as in :func:`structure`, in wire order.
    """
    return Layout(name, value_type, cast("Mapping[str, _Spec]", fields), size, layer)


def derive(*layouts: Layout[Any]) -> Codec:
    """Return the codec of several structures in a row, variable tails left out."""
    return Codec([entry.header for entry in layouts])
