"""Every structure of the wire by the name that the drivers' headers give it: its table, and its plain form.

Structures of our own (records, extensions, captures) are in :data:`protocol.wire.STRUCTURES`, but not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from protocol import wire
from protocol.ldc import cookie, packet
from protocol.vdisk import attributes, descriptor, payloads, scsi
from protocol.vdisk.labels import devid, gpt, vtoc
from protocol.vio import messages

__all__ = ["STANDARD", "decode", "encode", "heading", "rows", "table"]

_MODULES: Final = (packet, cookie, messages, attributes, descriptor, payloads, scsi, vtoc, devid, gpt)

STANDARD: Final[Mapping[str, wire.Layout[Any]]] = MappingProxyType(
    {
        layout.name: layout
        for module in _MODULES
        for layout in vars(module).values()
        if isinstance(layout, wire.Layout) and wire.is_standard(layout.name)
    }
)
"""The structures of the drivers' headers, by name, lowest layer first."""


def decode(name: str, data: bytes) -> dict[str, object]:
    """Return the fields of ``data``, exactly one structure ``name``; see :func:`protocol.wire.to_object`.

    Raises: KeyError (no such structure); PacketError (wrong length, count beyond its bound, a number without
        a meaning).
    """
    layout = STANDARD[name]
    return wire.to_object(layout, layout.parse(data))


def encode(name: str, found: object) -> bytes:
    """Return the bytes of a structure from its fields, all of them; the reverse of :func:`decode`.

    Raises: KeyError (no such structure); LocalProtocolError (fields missing or unknown, a value that does not
        fit, a count that is wrong, a number without a meaning).
    """
    layout = STANDARD[name]
    return layout.build(wire.from_object(layout, found))


def heading(layout: wire.Layout[Any]) -> str:
    """Return name, size and byte order of a layout in a line."""
    tail = layout.fields[-1]
    more = f", and {tail.size} for {_counted(tail)}" if tail.counted_by else ""
    order = "little" if layout.codec.format.startswith("<") else "big"
    return f"{layout.name}: {layout.size} bytes{more}, {order}-endian"


def rows(layout: wire.Layout[Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (offset, size, field, meaning) of each field; the size of a variable tail is one element's."""
    for row in layout.fields:
        yield str(row.offset), str(row.size), row.name, "; ".join(filter(None, _meanings(row)))


def _meanings(row: wire.FieldInfo) -> Iterator[str]:
    yield row.doc
    if row.counted_by:
        yield f"one for {_counted(row)}, at most {row.limit}"
    elif row.element is not None:
        yield f"{row.size // row.element.size} of {row.element.size} bytes"
    if row.element is not None:
        yield "in each " + ", ".join(f"{inner.name} at {inner.offset}" for inner in row.element.fields)
    if row.enum is not None:
        yield ", ".join(f"{member.name} {_number(member)}" for member in row.enum)


def _counted(row: wire.FieldInfo) -> str:
    rounded = f", each rounded up to {row.rounded}" if row.rounded > 1 else ""
    return f"each of {' + '.join(row.counted_by)}{rounded}"


def _number(number: int) -> str:
    return f"{number:d}" if number < 10 else f"{number:#x}"


def table(layout: wire.Layout[Any]) -> str:
    """Return a layout, one of our own too, as a table in Markdown, aligned."""
    lines = [("Offset", "Size", "Field", "Meaning"), *rows(layout)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    rule = (f"{'-' * (widths[0] - 1)}:", f"{'-' * (widths[1] - 1)}:", "-" * widths[2], "---")
    printed = [
        f"| {at:>{widths[0]}} | {size:>{widths[1]}} | {field:<{widths[2]}} | {meaning} |"
        for at, size, field, meaning in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(printed)
