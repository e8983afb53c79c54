"""Writes the Wireshark dissector, ``tools/ldoms.lua``, from the declarations of the structures.

    python -m tools.make_dissector [--check]

``tools/ldoms.template.lua`` holds what a dissector does; names, offsets, sizes, kinds, numbers and their
meanings are put in at its mark. A field that a layout gains, or a number that an enumeration learns, is shown
by Wireshark without a line of Lua. ``--check`` writes nothing and exits 1 if the file is not up to date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import IntFlag
from itertools import combinations
from pathlib import Path
from typing import Any, Final, NamedTuple

from protocol import wire
from protocol.capture.notes import How, NoteKind, NoteLayout
from protocol.ldc import cookie, fragment, packet
from protocol.vdisk import attributes, descriptor, operations
from protocol.vdisk.status import WireErrno
from protocol.vio import messages
from protocol.vio.dring import Dstate
from protocol.wire.layouts import Numbers

__all__ = ["DISSECTED", "SCRIPT", "make"]

SCRIPT: Final = Path(__file__).with_name("ldoms.lua")
TEMPLATE: Final = Path(__file__).with_name("ldoms.template.lua")
MARK: Final = "-- @declarations\n"

DISSECTED: Final[Sequence[wire.Layout[Any]]] = (
    cookie.CookieLayout,
    packet.RawPacketLayout,
    packet.UnreliablePacketLayout,
    packet.ReliablePacketLayout,
    packet.VersionPacketLayout,
    messages.TagLayout,
    messages.VersionLayout,
    attributes.AttributeLayout,
    attributes.AttributeLayoutV12,
    messages.DringRegisterLayout,
    messages.DringRegisterExtensionLayout,
    messages.DringUnregisterLayout,
    messages.RdxLayout,
    messages.RawDataLayout,
    messages.DringDataLayout,
    messages.DoorbellLayout,
    descriptor.InbandMessageLayout,
    descriptor.EntryLayout,
    NoteLayout,
)
"""What a capture can hold, a structure after those that it contains. Data buffers are in no capture, and so
neither are the structures in them (labels, device ids, SCSI)."""

MESSAGES: Final[Mapping[messages.Envelope, wire.Layout[Any]]] = {
    messages.Envelope.VER_INFO: messages.VersionLayout,
    messages.Envelope.ATTR_INFO: attributes.AttributeLayout,
    messages.Envelope.DRING_REG: messages.DringRegisterLayout,
    messages.Envelope.DRING_UNREG: messages.DringUnregisterLayout,
    messages.Envelope.RDX: messages.RdxLayout,
    messages.Envelope.PKT_DATA: messages.RawDataLayout,
    messages.Envelope.DESC_DATA: descriptor.InbandMessageLayout,
    messages.Envelope.DRING_DATA: messages.DringDataLayout,
}
"""Which structure a message is. The template chooses where an agreement decides: version, polled ring."""

NUMBERS: Final[Sequence[Numbers]] = (
    packet.PacketType,
    packet.PacketStype,
    packet.PacketCtrl,
    packet.Mode,
    cookie.PageSizeCode,
    messages.MessageType,
    messages.Subtype,
    messages.Envelope,
    messages.DeviceClass,
    messages.TransferMode,
    messages.DringOption,
    messages.ProcState,
    operations.DiskType,
    operations.MediaType,
    operations.Operation,
    Dstate,
    WireErrno,
    NoteKind,
    How,
)

CONSTANTS: Final[Mapping[str, int]] = {
    "PACKET_SIZE": packet.PACKET_SIZE,
    "UNRELIABLE_PAYLOAD": packet.UNRELIABLE_PAYLOAD,
    "RELIABLE_PAYLOAD": packet.RELIABLE_PAYLOAD,
    "MAX_MESSAGE_SIZE": fragment.MAX_MESSAGE_SIZE,
    "CTRL_MASK": packet.CTRL_MASK,
    "ENV_STOP": packet.ENV_STOP,
    "ENV_START": packet.ENV_START,
    "ENV_LENGTH_MASK": packet.ENV_LENGTH_MASK,
    "OPEN_ENDED": messages.OPEN_ENDED,
    "STATUS_UNSET": descriptor.STATUS_UNSET,
    "SLICE_NONE": operations.SLICE_NONE,
}


class Part(NamedTuple):
    """Some bits of a field, shown beneath it: a flag, or a number if ``numbers`` or ``base`` is given."""

    name: str
    mask: int
    numbers: Numbers | None = None
    base: str = ""


_ENV: Final = {
    "data": (
        Part("stop", packet.ENV_STOP),
        Part("start", packet.ENV_START),
        Part("length", packet.ENV_LENGTH_MASK, base="DEC"),
    ),
    "mode": (Part("mode", 0xFF, packet.Mode),),
}
_PARTS: Final[Mapping[str, Mapping[str, Sequence[Part]]]] = {
    "env": _ENV,  # which of both, says the packet's type
    "operations": {"always": tuple(Part(op.name.lower(), 1 << op) for op in operations.Operation)},
    "flags": {"always": (Part("ack", descriptor.ACK_FLAG),)},
}
"""Bits of the fields that no enumeration names."""

_WORDS: Final[Mapping[str, Mapping[int, str]]] = {
    "end_idx": {messages.OPEN_ENDED: "until one is not READY"},
    "slice": {operations.SLICE_NONE: "the whole disk"},
    "vdisk_size": {attributes.UNKNOWN_SIZE: "unknown"},
}
"""Single values with a meaning, in fields whose other values are just numbers."""

_NAMED: Final[Mapping[str, Mapping[int, str]]] = {
    "status": {**{code.value: code.name for code in WireErrno}, descriptor.STATUS_UNSET: "not answered yet"},
}
"""Names of numbers in fields where a peer may put others, too."""

_LEFT_AS_FOUND: Final = frozenset({"vio_dring_msg.proc_state"})
"""Fields in which any number is legal, because no disk client sets them. Source: Solaris vdc.c."""

_HEX: Final = frozenset({"env", "sid", "flags", "operations", "desc_handle", "ldc_mem_cookie.addr"})
"""Fields, with or without their structure, that are read in hexadecimal."""


def make() -> str:
    """Return what ``tools/ldoms.lua`` has to be."""
    before, after = TEMPLATE.read_text(encoding="utf-8").split(MARK)
    return f"{before}{''.join(_declarations())}{after}"


def _declarations() -> Iterator[str]:
    """Yield the Lua that stands in place of the mark."""
    for name, value in CONSTANTS.items():
        yield f"local {name} = {value}\n"
    yield "\n"
    for numbers in NUMBERS:
        yield f"numbers.{numbers.__name__} = {_numbers(numbers)}\n"
    shifts = {code.value: cookie.page_shift(code) for code in cookie.PageSizeCode}
    yield f"\nlocal PAGE_SHIFTS = {_lua(shifts)}\n"
    yield f"\nlocal MESSAGES = {_lua({int(env): layout.name for env, layout in MESSAGES.items()})}\n"
    for layout in DISSECTED:
        fields = "".join(f"    {_lua(_field(layout, row))},\n" for row in layout.fields)
        yield f"\nstructure({_lua(layout.name)}, {_lua(_title(layout))}, {layout.size}, {{\n{fields}}})\n"


def _numbers(numbers: Numbers) -> str:
    """Return an enumeration: its numbers by name, and ``names`` by number, of bits every combination."""
    names = {int(member): str(member.name) for member in numbers}
    if issubclass(numbers, IntFlag):
        names = {0: "none"}
        for count in range(1, len(numbers) + 1):
            for members in combinations(numbers, count):
                names[sum(members)] = "|".join(str(member.name) for member in members)
    by_name = {str(member.name): int(member) for member in numbers}
    return _lua({**by_name, "names": names})


def _title(layout: wire.Layout[Any]) -> str:
    """Return what a structure is: the first sentence of its docstring."""
    first = (layout.value_type.__doc__ or "").partition("\n")[0]
    sentence = re.split(r"\.(?: |$)", first)[0]
    return f"{sentence.replace('``', '')} ({layout.name})"


def _field(layout: wire.Layout[Any], row: wire.FieldInfo) -> dict[str, object]:
    """Return one field as the template takes it; what is None is left out."""
    is_array = row.element is not None
    is_flags = row.enum is not None and issubclass(row.enum, IntFlag)
    is_hex = is_flags or not {row.name, f"{layout.name}.{row.name}"}.isdisjoint(_HEX)
    return {
        "name": row.name,
        "at": row.offset,
        "size": row.size,
        "kind": "array" if is_array else _kind(layout, row),
        "base": "HEX" if is_hex else None,
        "doc": row.doc,
        "numbers": row.enum.__name__ if row.enum is not None else None,
        "zero": row.zero or None,
        "any": f"{layout.name}.{row.name}" in _LEFT_AS_FOUND or None,
        "named": _NAMED.get(row.name),
        "words": _texts(_WORDS.get(row.name)),
        "parts": _parts(row),
        "element": row.element.name if row.element is not None else None,
        "counted_by": row.counted_by[0] if row.counted_by else None,
    }


def _kind(layout: wire.Layout[Any], row: wire.FieldInfo) -> str:
    """Return Wireshark's type of a field: bytes, or integers by their size and sign."""
    if row.kind is not wire.Kind.INT:
        return str(row.kind.value)
    signed = wire.Codec([getattr(layout.struct, row.name)]).format[-1].islower()
    return f"{'' if signed else 'u'}int{row.size * 8}"


def _parts(row: wire.FieldInfo) -> dict[str, object] | None:
    """Return the bits of a field by the variant in which they are shown."""
    if row.enum is not None and issubclass(row.enum, IntFlag):
        bits: Mapping[str, Sequence[Part]] = {
            "always": tuple(Part(str(bit.name).lower(), int(bit)) for bit in row.enum)
        }
    else:
        bits = _PARTS.get(row.name, {})
    return {variant: [_part(part) for part in parts] for variant, parts in bits.items()} or None


def _texts(words: Mapping[int, str] | None) -> dict[str, str] | None:
    """Return words by the text of their number: Lua's own numbers do not hold 64 bits."""
    return {str(number): word for number, word in words.items()} if words else None


def _part(part: Part) -> dict[str, object]:
    return {
        "name": part.name,
        "mask": part.mask,
        "numbers": part.numbers.__name__ if part.numbers else None,
        "base": part.base or None,
    }


def _lua(value: object) -> str:
    """Return a value as a Lua expression; what is None in a mapping is left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        pairs = [f"{_key(key)} = {_lua(item)}" for key, item in value.items() if item is not None]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence):
        return "{" + ", ".join(map(_lua, value)) + "}"
    raise TypeError(f"{value!r} has no form in Lua")


def _key(key: object) -> str:
    """Return a table's key: a name as it is, all else in brackets."""
    return key if isinstance(key, str) and key.isidentifier() else f"[{_lua(key)}]"


def main(arguments: Sequence[str]) -> int:
    """Write the dissector, or check it; returns the exit status."""
    made = make()
    if list(arguments) == ["--check"]:
        return int(not SCRIPT.exists() or SCRIPT.read_text(encoding="utf-8") != made)
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    SCRIPT.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
