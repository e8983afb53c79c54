"""How a structure is declared: a class of fields, or fields for a value of another make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, TypeVar, cast, dataclass_transform, overload

import construct as _c

from protocol.errors import Layer

from .codec import Codec
from .kinds import FieldType, Kind
from .layouts import UNSET, FieldSpec, Layout, Numbers

__all__ = ["array", "bytes_tail", "derive", "describe", "field", "layout", "reserved", "structure", "tail"]

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)

_LAYOUTS: Final[dict[object, Layout[Any]]] = {}


def _same(value: Any) -> Any:
    return value


def _kind(declaration: Any) -> Kind:
    table = ((_c.Bytes, Kind.BYTES), (_c.Array, Kind.ARRAY))
    return next((kind for type_, kind in table if isinstance(declaration, type_)), Kind.INT)


@overload
def field(
    kind: FieldType[T],
    *,
    doc: str = "",
    default: T = ...,
    known: Numbers | None = ...,
    zero: bool = ...,
) -> T: ...
@overload
def field(kind: FieldType[int], *, enum: type[E], doc: str = "", default: E = ...) -> E: ...
def field(
    kind: FieldType[Any],
    *,
    enum: type[IntEnum] | None = None,
    known: Numbers | None = None,
    zero: bool = False,
    doc: str = "",
    default: Any = UNSET,
) -> Any:
    """Declare one field of a :func:`structure`.

    With ``enum``, a number it does not know is refused. With ``known`` every number parses, because a peer
    gets an answer to one that nobody knows, and ``known`` (``zero``: or 0) says which have a meaning; tools
    refuse the others (:func:`~protocol.wire.to_object`).
    """
    found = _kind(kind)
    return FieldSpec(
        kind=found,
        construct=kind,
        doc=doc,
        default=default,
        enum=enum or known,
        closed=enum is not None,
        zero=zero,
        decode=enum or (tuple if found is Kind.ARRAY else _same),
        encode=enum or _same,
    )


def reserved(size: int, *, doc: str = "reserved, zero") -> object:
    """Declare ``size`` bytes that are written as zero, ignored on receipt and left out of the value.

    Assign it without an annotation, so that it is no field of the dataclass: ``resv1 = wire.reserved(2)``.
    """
    return FieldSpec(kind=Kind.RESERVED, construct=_c.Padding(size), doc=doc)


def array(count: int, element: Layout[T], *, doc: str = "") -> tuple[T, ...]:
    """Declare exactly ``count`` structures in a row; an array of integers is ``field(Array(n, Int32ub))``."""
    return cast("tuple[T, ...]", _structures(_c.Array(count, element.struct), element, doc=doc))


def tail(element: Layout[T], *, count: str, limit: int, doc: str = "") -> tuple[T, ...]:
    """Declare the last field: as many structures as the field ``count`` says, at most ``limit``."""
    declaration = _c.Array(_c.this[count], element.struct)
    return cast(
        "tuple[T, ...]",
        _structures(declaration, element, doc=doc, counts=(count,), limit=limit, element_size=element.size),
    )


def bytes_tail(*counts: str, limit: int, rounded: int = 1, doc: str = "") -> bytes:
    """Declare the last field: as many bytes as the fields ``counts`` say in all, at most ``limit``.

    Each count is rounded up to a multiple of ``rounded`` first.
    """
    spec = FieldSpec(
        kind=Kind.BYTES,
        construct=_c.GreedyBytes,  # a layout parses no more bytes than the counts say
        doc=doc,
        counts=counts,
        rounded=rounded,
        limit=limit,
        element_size=1,
    )
    return cast(bytes, spec)


def _structures(declaration: Any, element: Layout[Any], **more: Any) -> FieldSpec:
    def decode(containers: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        return tuple(element.from_container(container) for container in containers)

    def encode(values: Sequence[Any]) -> list[dict[str, Any]]:
        return [element.to_container(value) for value in values]

    return FieldSpec(
        kind=Kind.ARRAY, construct=declaration, decode=decode, encode=encode, element=element, **more
    )


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(field, array, tail, bytes_tail)
)
def structure(name: str, *, size: int, layer: Layer | None = None) -> Callable[[type[T]], type[T]]:
    """Make a class of field declarations a frozen, slotted, keyword-only dataclass, and register its layout.

    ``name`` and ``size`` are those of the layout tables; the size is checked here, that is at import. The
    layer, for errors, follows from the name unless given. The layout is :func:`layout` of the class.
    """

    def decorate(cls: type[T]) -> type[T]:
        specs = {key: value for key, value in vars(cls).items() if isinstance(value, FieldSpec)}
        for key, spec in specs.items():
            if spec.default is UNSET:
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
    return Layout(name, value_type, cast("Mapping[str, FieldSpec]", fields), size, layer)


def derive(*layouts: Layout[Any]) -> Codec:
    """Return the codec of several structures in a row, variable tails left out."""
    return Codec([entry.header for entry in layouts])
