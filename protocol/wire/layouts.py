"""The exact way to run a declaration: bytes to a value and back through construct, everything checked."""

from __future__ import annotations

import dataclasses
import struct as _struct
from collections.abc import Callable, Iterator, Mapping
from enum import IntEnum, IntFlag
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

import construct as _c

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction

from .codec import Codec
from .kinds import Buffer, Kind

__all__ = ["STRUCTURES", "FieldInfo", "FieldSpec", "Layout", "Numbers", "is_standard"]

T = TypeVar("T")
Numbers: TypeAlias = type[IntEnum] | type[IntFlag]
UNSET: Final = object()  # no default: dataclasses' own sentinel would mean the same to FieldSpec itself


class FieldInfo(NamedTuple):
    """One row of a structure's layout table.

    ``size`` is in bytes; in a variable tail it is that of one element, and ``counted_by`` are the fields that
    count them, each rounded up to a multiple of ``rounded``, at most
    ``limit`` in all. ``enum`` names the numbers that a field may
    hold: the only ones that parse if ``closed``, else those that are known (and 0 too, if ``zero``: nobody
    has set it). ``element`` is the layout of an array's structures.
    """

    name: str
    offset: int
    size: int
    kind: Kind
    doc: str
    enum: Numbers | None = None
    counted_by: tuple[str, ...] = ()
    rounded: int = 1
    limit: int = 0
    closed: bool = False
    zero: bool = False
    element: Layout[Any] | None = None
    signed: bool = False


def _same(value: Any) -> Any:
    return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """What a declaration says about one field; :mod:`protocol.wire.declare` makes them.

    ``decode`` turns construct's value into ours, ``encode`` turns it back. The rest is that of
    :class:`FieldInfo`; of a variable tail ``counts`` are the fields that count it, each rounded up to a
    multiple of ``rounded``, ``limit`` is the most elements that may be announced.
    """

    kind: Kind
    construct: Any
    doc: str = ""
    default: Any = UNSET
    enum: Numbers | None = None
    closed: bool = False
    zero: bool = False
    decode: Callable[[Any], Any] = _same
    encode: Callable[[Any], Any] = _same
    counts: tuple[str, ...] = ()
    rounded: int = 1
    limit: int = 0
    element: Layout[Any] | None = None
    element_size: int = 0

    @property
    def counting(self) -> str:
        """What counts a variable tail, in words."""
        return " + ".join(self.counts)

    def counted(self, values: Mapping[str, int]) -> int:
        """Return how many elements the counting fields announce."""
        return sum(-(-values[name] // self.rounded) * self.rounded for name in self.counts)


_LAYERS: Final[Mapping[str, Layer]] = {
    "hv": Layer.HYPERVISOR,
    "ldc": Layer.LDC,
    "vio": Layer.VIO,
    "vd": Layer.VDISK,
    "dk": Layer.VDISK,
    "efi": Layer.VDISK,
    "impl": Layer.VDISK,
    "devid": Layer.VDISK,
}
_REACTIONS: Final[Mapping[Layer, Reaction]] = {
    Layer.HYPERVISOR: Reaction.CLOSE,  # no LDC peer could have sent it
    Layer.LDC: Reaction.CLOSE,
    Layer.VIO: Reaction.RESET,
    Layer.VDISK: Reaction.RESET,
}


def is_standard(name: str) -> bool:
    """Say whether a structure of this name stands in the drivers' headers; all others are our own."""
    layer = _LAYERS.get(name.split("_")[0])
    return layer is not None and layer is not Layer.HYPERVISOR


class Layout(Generic[T]):
    """One structure on the wire: ``parse`` bytes into a ``T``, ``build`` bytes from one.

    ``size`` is exact; with a variable tail it is the size before the tail. ``struct`` is the construct
    declaration, ``codec`` the fast one over the fixed part, ``fields`` the layout table.
    """

    def __init__(
        self,
        name: str,
        value_type: Callable[..., T],
        specs: Mapping[str, FieldSpec],
        size: int,
        layer: Layer | None = None,
    ) -> None:
        self.name: Final = name
        self.layer: Final = layer or _LAYERS[name.split("_")[0]]
        self.value_type: Final = value_type
        fixed = {key: spec for key, spec in specs.items() if not spec.counts}
        self._specs: Final = {key: spec for key, spec in specs.items() if spec.kind is not Kind.RESERVED}
        self._tail: Final = next(((key, spec) for key, spec in specs.items() if spec.counts), None)
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
            raise self.error(f"{len(data)} bytes, must be {size}")
        try:
            return self.from_container(self.struct.parse(bytes(data[:size])))
        except (_c.ConstructError, _struct.error, ValueError) as error:
            raise self.error(str(error)) from error

    def build(self, value: T) -> bytes:
        """Return the bytes of ``value``, reserved fields zero.

        Raises: LocalProtocolError (a value that does not fit its field, a count that is not its array's
            length, or above its limit).
        """
        try:
            self._check_tail(value)
            return cast(bytes, self.struct.build(self.to_container(value)))
        except (_c.ConstructError, _struct.error, ValueError, TypeError) as error:
            raise LocalProtocolError(self.layer, f"{self.name}: {error}") from error

    def _check_tail(self, value: T) -> None:
        if self._tail is None:
            return
        key, spec = self._tail
        announced = spec.counted({name: getattr(value, name) for name in spec.counts})
        if announced > spec.limit:
            raise ValueError(f"{spec.counting} is {announced}, at most {spec.limit} allowed")
        if len(getattr(value, key)) != announced:
            raise ValueError(f"{spec.counting} is {announced}, {key} has {len(getattr(value, key))}")

    def from_container(self, container: Mapping[str, Any]) -> T:
        """Return our value for what construct has parsed; only for a structure that contains this one."""
        found = {key: spec.decode(container[key]) for key, spec in self._specs.items()}
        return self.value_type(**found)

    def to_container(self, value: T) -> dict[str, Any]:
        """Return what construct builds from for our value; only for a structure that contains this one."""
        return {key: spec.encode(getattr(value, key)) for key, spec in self._specs.items()}

    def _expected_size(self, data: Buffer) -> int:
        """Return how long ``data`` has to be, by its own count where there is a variable tail."""
        if self._tail is None or len(data) < self.size:
            return self.size
        _, spec = self._tail
        values = dict(zip(self.codec.fields, self.codec.unpack_from(data), strict=True))
        count = spec.counted(values)
        if count > spec.limit:
            raise self.error(f"{spec.counting} is {count}, at most {spec.limit} allowed")
        return self.size + count * spec.element_size

    def error(self, why: str) -> PacketError:
        """Return the error of bytes that are no such structure."""
        return PacketError(self.layer, _REACTIONS[self.layer], f"{self.name}: {why}")


def _is_signed(declaration: Any) -> bool:
    return isinstance(declaration, _c.FormatField) and declaration.fmtstr[-1].islower()


STRUCTURES: Final[dict[str, Layout[Any]]] = {}
"""Every structure by the name that the layout tables give it; filled as modules that declare them load."""


def _rows(specs: Mapping[str, FieldSpec]) -> Iterator[FieldInfo]:
    """Yield the layout table of a structure."""
    offset = 0
    for name, spec in specs.items():
        size = spec.element_size or spec.construct.sizeof()
        yield FieldInfo(
            name,
            offset,
            size,
            spec.kind,
            spec.doc,
            spec.enum,
            spec.counts,
            spec.rounded,
            spec.limit,
            spec.closed,
            spec.zero,
            spec.element,
            _is_signed(spec.construct),
        )
        offset += size
