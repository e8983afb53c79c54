"""Values as plain objects, the form in which tools show and take them: numbers, hex strings, lists, mappings.

Here a number without a meaning is refused even where a peer may send it (see ``known`` of
:func:`~protocol.wire.field`): whoever types or reads a structure wants to hear of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntFlag
from typing import Any, Final, TypeVar

from protocol.errors import LocalProtocolError

from .kinds import Kind
from .layouts import FieldInfo, Layout

__all__ = ["from_object", "meaning", "to_object"]

T = TypeVar("T")
LONGEST: Final = 40
"""Characters of a value that stand in an error."""


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
        raise _wrong(layout, f"an object with fields, not {_shortened(found)}")
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
            raise _wrong(layout, f"{row.name} is a list, not {_shortened(value)}")
        if row.element is None:
            return tuple(_number(layout, row, item) for item in value)
        if not row.counted_by and len(value) != row.size // row.element.size:
            expected = row.size // row.element.size
            raise _wrong(layout, f"{row.name} has {len(value)} elements, must have {expected}")
        return tuple(_element(layout, row, row.element, place, item) for place, item in enumerate(value))
    number = _number(layout, row, value)
    least, most = _range(row)
    if not least <= number <= most:
        raise _wrong(layout, f"{row.name} is {_shortened(number)}, must be {least} to {most}")
    if meaning(row, number) is None:
        raise _wrong(layout, _meaningless(row, number))
    return number


def _meaningless(row: FieldInfo, number: int) -> str:
    known = ", ".join(f"{member.name} {int(member)}" for member in row.enum or ())
    return f"{row.name} is {number}, known are {known}"


def _octets(layout: Layout[Any], row: FieldInfo, value: object) -> bytes:
    try:
        octets = bytes.fromhex(value if isinstance(value, str) else "not hex")
    except ValueError as error:
        raise _wrong(layout, f"{row.name} is a string of hex digits, not {_shortened(value)}") from error
    if not row.counted_by and len(octets) != row.size:
        raise _wrong(layout, f"{row.name} has {len(octets)} bytes, must have {row.size}")
    return octets


def _number(layout: Layout[Any], row: FieldInfo, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(layout, f"{row.name} is a whole number, not {_shortened(value)}")
    return value


def _range(row: FieldInfo) -> tuple[int, int]:
    bits = 8 * row.size
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if row.signed else (0, (1 << bits) - 1)


def _element(layout: Layout[Any], row: FieldInfo, element: Layout[T], place: int, item: object) -> T:
    try:
        return from_object(element, item)
    except LocalProtocolError as error:
        raise _wrong(layout, f"{row.name}[{place}]: {error.reason}") from error


def _shortened(value: object) -> str:
    """Return a value as JSON has it, as far as a line for people has room for it."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _wrong(layout: Layout[Any], why: str) -> LocalProtocolError:
    return LocalProtocolError(layout.layer, f"{layout.name}: {why}")
