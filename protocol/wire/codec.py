"""The fast way to run a declaration: a ``struct.Struct`` found by walking it, for the data path."""

from __future__ import annotations

import struct as _struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import construct as _c

__all__ = ["Codec"]


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
