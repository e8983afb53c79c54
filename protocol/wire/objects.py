"""Values as plain objects, the form in which tools show and take them: numbers, hex strings, lists, mappings.

Here a number without a meaning is refused even where a peer may send it (see ``known`` of
:func:`~protocol.wire.field`): whoever types or reads a structure wants to hear of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntFlag
from typing import Any, TypeVar

from protocol.errors import LocalProtocolError

from .kinds import Kind
from .layouts import FieldInfo, Layout

__all__ = ["from_object", "meaning", "to_object"]

T = TypeVar("T")


def meaning(row: FieldInfo, number: int) -> str | None:
    """Return the name of ``number`` in the field ``row``; None if it has no meaning there.

    Bits are joined by ``|``; 0 is ``""`` where it says that nothing is set.
    """
    if row.enum is None or (row.zero and not number):
        return ""
    if issubclass(row.enum, IntFlag):
        return _names(row.enum, number)
    return next((member.name for member in row.enum if member == number), None)


def _names(flags: type[IntFlag], number: int) -> str | None:
    rest = number
    found: list[str] = []
    for member in flags:
        if number & member:
            found.append(str(member.name))
            rest &= ~int(member)  # a flag complements to its own bits only
    return None if rest else "|".join(found)


def to_object(layout: Layout[T], value: T) -> dict[str, object]:
    """Return ``value`` as a mapping of field names: arrays as lists, bytes as hex, reserved fields left out.

    Raises: PacketError (a number that has no meaning in its field).
    """
    return {
        row.name: _shown(layout, row, getattr(value, row.name))
        for row in layout.fields
        if row.kind is not Kind.RESERVED
    }


def _shown(layout: Layout[Any], row: FieldInfo, value: Any) -> object:
    if row.kind is Kind.BYTES:
        return value.hex()
    if row.element is not None:
        return [to_object(row.element, item) for item in value]
    if row.kind is Kind.ARRAY:
        return list(value)
    if meaning(row, value) is None:
        raise layout.error(_meaningless(row, value))
    return int(value)


def from_object(layout: Layout[T], found: object) -> T:
    """Return the value that :func:`to_object` shows as ``found``; every field is named, no other is.

    Raises: LocalProtocolError (not such a mapping; a field missing or unknown; a value of the wrong type or
        without a meaning). Whether it fits its field is :meth:`Layout.build`'s to say.
    """
    rows = {row.name: row for row in layout.fields if row.kind is not Kind.RESERVED}
    if not isinstance(found, Mapping):
        raise _wrong(layout, f"a mapping of fields, not {type(found).__name__}")
    missing, extra = rows.keys() - found.keys(), found.keys() - rows.keys()
    if missing or extra:
        named = [f"no {name}" for name in rows if name in missing] + [
            f"unknown {name}" for name in sorted(map(str, extra))
        ]
        raise _wrong(layout, ", ".join(named))
    return layout.value_type(**{name: _taken(layout, row, found[name]) for name, row in rows.items()})


def _taken(layout: Layout[Any], row: FieldInfo, value: object) -> object:
    if row.kind is Kind.BYTES:
        return _octets(layout, row, value)
    if row.kind is Kind.ARRAY:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise _wrong(layout, f"{row.name} is a list, not {value!r}")
        if row.element is not None:
            element = row.element
            return tuple(from_object(element, item) for item in value)
        return tuple(_number(layout, row, item) for item in value)
    number = _number(layout, row, value)
    if meaning(row, number) is None:
        raise _wrong(layout, _meaningless(row, number))
    return number


def _meaningless(row: FieldInfo, number: int) -> str:
    known = ", ".join(f"{member.name} {int(member)}" for member in row.enum or ())
    return f"{row.name} is {number}, known are {known}"


def _octets(layout: Layout[Any], row: FieldInfo, value: object) -> bytes:
    try:
        return bytes.fromhex(value if isinstance(value, str) else "not hex")
    except ValueError as error:
        raise _wrong(layout, f"{row.name} is a string of hex digits, not {value!r}") from error


def _number(layout: Layout[Any], row: FieldInfo, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(layout, f"{row.name} is a whole number, not {value!r}")
    return value


def _wrong(layout: Layout[Any], why: str) -> LocalProtocolError:
    return LocalProtocolError(layout.layer, f"{layout.name}: {why}")
