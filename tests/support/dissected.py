"""What a dissector has to show of a frame, found out by ``protocol`` alone; and what tshark has shown of it.

Both come as a list of (structure, its fields in the plain form of :func:`protocol.wire.to_object`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from protocol import wire
from protocol.capture import Direction, NoteLayout
from protocol.ldc.fragment import Collector
from protocol.ldc.packet import (
    PACKET_SIZE,
    PacketCtrl,
    PacketStype,
    PacketType,
    UnreliablePacketLayout,
    VersionPacketLayout,
)
from protocol.vdisk.attributes import layout_of
from protocol.vdisk.descriptor import EntryLayout, InbandMessageLayout
from protocol.vio.messages import (
    DoorbellLayout,
    DringDataLayout,
    DringRegisterLayout,
    DringUnregisterLayout,
    Envelope,
    RawDataLayout,
    RdxLayout,
    Subtype,
    TagLayout,
    VersionLayout,
)

__all__ = ["Shown", "expected", "plain", "read_back"]

Shown: TypeAlias = list[tuple[str, dict[str, object]]]
Frame: TypeAlias = tuple[int, Direction, bytes]

_ALWAYS: Mapping[int, wire.Layout[Any]] = {
    Envelope.VER_INFO: VersionLayout,
    Envelope.DRING_REG: DringRegisterLayout,
    Envelope.DRING_UNREG: DringUnregisterLayout,
    Envelope.RDX: RdxLayout,
    Envelope.PKT_DATA: RawDataLayout,
    Envelope.DESC_DATA: InbandMessageLayout,
}


def plain(layout: wire.Layout[Any], data: bytes) -> tuple[str, dict[str, object]]:
    """Return the structure that ``data`` begins with, whatever its numbers mean."""
    return layout.name, _object(layout, layout.parse(data, trailing=True))


def _object(layout: wire.Layout[Any], value: Any) -> dict[str, object]:  # noqa: ANN401  # any structure
    shown: dict[str, object] = {}
    for row in layout.fields:
        if row.kind is wire.Kind.RESERVED:
            continue
        held = getattr(value, row.name)
        if row.element is not None:
            shown[row.name] = [_object(row.element, item) for item in held]
        else:
            shown[row.name] = held.hex() if row.kind is wire.Kind.BYTES else int(held)
    return shown


def expected(frames: Sequence[Frame], minor: int, *, polled: bool) -> Iterator[Shown]:
    """Yield what each frame is, on channels where version 1.``minor`` is agreed, and a polled ring or not."""
    collectors: dict[tuple[int, Direction], Collector] = {}
    for interface, direction, data in frames:
        if len(data) != PACKET_SIZE:
            yield _note(data)
            continue
        packet = UnreliablePacketLayout.parse(data)
        is_version = packet.type == PacketType.CTRL and packet.ctrl == PacketCtrl.VER
        found = [plain(VersionPacketLayout if is_version else UnreliablePacketLayout, data)]
        if packet.type == PacketType.DATA and packet.stype == PacketStype.INFO:
            collector = collectors.setdefault((interface, direction), Collector())
            message = collector.add(packet.env, packet.seqid, packet.payload)
            if isinstance(message, bytes):
                found.append(plain(_layout_of(message, minor, polled), message))
        yield found


def _note(data: bytes) -> Shown:
    entry = data[NoteLayout.size :]
    return [plain(NoteLayout, data), *([plain(EntryLayout, entry)] if entry else [])]


def _layout_of(message: bytes, minor: int, polled: bool) -> wire.Layout[Any]:
    tag = TagLayout.parse(message, trailing=True)
    if tag.subtype_env == Envelope.ATTR_INFO:
        return layout_of((1, minor))
    if tag.subtype_env == Envelope.DRING_DATA:
        return DoorbellLayout if polled and tag.subtype != Subtype.NACK else DringDataLayout
    return _ALWAYS[tag.subtype_env]


def read_back(layers: Mapping[str, Any]) -> Shown:
    """Return the structures that tshark has shown of a frame; each must have all its fields."""
    return [
        (name, _fields(wire.STRUCTURES[name], fields))
        for name, fields in layers.items()
        if name in wire.STRUCTURES
    ]


def _fields(layout: wire.Layout[Any], fields: Mapping[str, Any]) -> dict[str, object]:
    shown: dict[str, object] = {}
    for row in layout.fields:
        name = f"{layout.name}.{row.name}"
        if row.element is not None:
            items = _listed(fields.get(name, []))
            shown[row.name] = [_fields(row.element, item) for item in items]
        elif row.kind is wire.Kind.INT:
            shown[row.name] = int(fields[name], 0)
        else:
            octets = bytes.fromhex(fields[name].replace(":", ""))
            assert len(octets) == row.size, f"{name} has {len(octets)} bytes"
            if row.kind is not wire.Kind.RESERVED:
                shown[row.name] = octets.hex()
    return shown


def _listed(found: Any) -> list[Any]:  # noqa: ANN401  # of JSON
    return found if isinstance(found, list) else [found]
