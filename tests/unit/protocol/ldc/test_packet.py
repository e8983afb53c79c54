"""Packet layouts: every field in its place, against bytes typed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from protocol import wire
from protocol.errors import PacketError, Reaction
from protocol.ldc.packet import (
    PACKET_SIZE,
    Mode,
    PacketCtrl,
    PacketStype,
    PacketType,
    RawPacket,
    RawPacketLayout,
    ReliablePacket,
    ReliablePacketLayout,
    UnreliablePacket,
    UnreliablePacketLayout,
    VersionPacket,
    VersionPacketLayout,
)

LAYOUTS = (RawPacketLayout, UnreliablePacketLayout, ReliablePacketLayout, VersionPacketLayout)
HEADER = {"type": 2, "stype": 1, "ctrl": 3, "env": 0xC7, "seqid": 0x01020304}
HEADER_HEX = "02 01 03 c7 01020304"


@pytest.mark.parametrize(
    ("layout", "value", "data"),
    [
        (RawPacketLayout, RawPacket(payload=bytes(range(64))), bytes(range(64))),
        (
            UnreliablePacketLayout,
            UnreliablePacket(**HEADER, payload=bytes(range(56))),
            bytes.fromhex(HEADER_HEX) + bytes(range(56)),
        ),
        (
            ReliablePacketLayout,
            ReliablePacket(**HEADER, ackid=0x0A0B0C0D, payload=bytes(range(48))),
            bytes.fromhex(HEADER_HEX + "00000000 0a0b0c0d") + bytes(range(48)),
        ),
        (
            VersionPacketLayout,
            VersionPacket(type=1, stype=4, ctrl=1, env=0, seqid=0, major=1, minor=0x102),
            bytes.fromhex("01 04 01 00 00000000 0001 0102") + bytes(52),
        ),
    ],
    ids=["raw", "unreliable", "reliable", "ver"],
)
def test_layout_matches_the_figure(layout: wire.Layout[Any], value: object, data: bytes) -> None:
    assert layout.build(value) == data
    assert layout.parse(data) == value


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("size", [0, 63, 65])
def test_packet_of_another_size_closes_the_channel(layout: wire.Layout[Any], size: int) -> None:
    assert layout.size == PACKET_SIZE == 64
    with pytest.raises(PacketError) as caught:
        layout.parse(bytes(size))
    assert caught.value.reaction is Reaction.CLOSE


def test_layouts_are_registered_by_name() -> None:
    names = ("ldc_packet_raw", "ldc_packet_unreliable", "ldc_packet_reliable", "ldc_packet_ver")
    assert tuple(wire.STRUCTURES[name] for name in names) == LAYOUTS


def test_numbers_are_those_of_the_header() -> None:
    assert [int(number) for number in PacketType] == [1, 2, 16]
    assert [int(number) for number in PacketStype] == [1, 2, 4]
    assert [int(number) for number in PacketCtrl] == [1, 2, 3, 4]
    assert [int(number) for number in Mode] == [0, 1, 3]


def test_the_control_number_of_a_data_packet_is_zero_and_that_is_no_unknown_step() -> None:
    rows = {row.name: row for row in UnreliablePacketLayout.fields}
    assert [wire.meaning(rows["ctrl"], number) for number in (0, 1, 4, 5)] == ["", "VER", "RDX", None]
    rows = {row.name: row for row in ReliablePacketLayout.fields}
    assert [wire.meaning(rows["ctrl"], number) for number in (0, 1, 4, 5)] == ["", "VER", "RDX", None]
