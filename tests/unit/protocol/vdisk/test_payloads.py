"""Geometry and capacity: octets, and the geometry that an unlabelled image makes up."""

from __future__ import annotations

import pytest

from protocol.errors import PacketError
from protocol.vdisk.payloads import (
    CAPACITY_NBYTES,
    GEOMETRY_NBYTES,
    Capacity,
    CapacityLayout,
    Geometry,
    build_geometry,
    default_geometry,
    parse_geometry,
)

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def test_geometry_octet_by_octet() -> None:
    geometry = Geometry(
        ncyl=1,
        acyl=2,
        bcyl=3,
        nhead=4,
        nsect=5,
        intrlv=6,
        apc=7,
        rpm=8,
        pcyl=9,
        write_reinstruct=10,
        read_reinstruct=11,
    )
    data = build_geometry(geometry)
    assert data == b"".join(n.to_bytes(2, "big") for n in range(1, 12)) + b"\0\0"
    assert len(data) == GEOMETRY_NBYTES == 24
    assert parse_geometry(data) == parse_geometry(data[:22]) == geometry
    with pytest.raises(PacketError):
        parse_geometry(data[:21])


def test_capacity_octet_by_octet() -> None:
    capacity = Capacity(vdisk_block_size=512, vdisk_size=0x1803)
    data = CapacityLayout.build(capacity)
    assert data == bytes.fromhex("00000200 00000000 0000000000001803")
    assert len(data) == CAPACITY_NBYTES == 16
    assert CapacityLayout.parse(data) == capacity


# Source: Solaris vds.c, vd_build_default_label, worked out by hand.
@pytest.mark.parametrize(
    ("size", "pcyl", "acyl", "nhead", "nsect"),
    [
        (512, 1, 0, 1, 200),
        (100 * KIB, 1, 0, 1, 200),
        (200 * KIB, 2, 0, 1, 200),
        (300 * KIB, 3, 2, 1, 200),
        (2 * MIB - 512, 20, 2, 1, 200),
        (2 * MIB, 6, 2, 1, 600),
        (3147264, 10, 2, 1, 600),
        (8 * GIB - 512, 27962, 2, 1, 600),
        (8 * GIB, 227, 2, 96, 768),
        (2 * TIB, 58254, 2, 96, 768),
        (8 * TIB, 65535, 2, 96, 768),
    ],
)
def test_default_geometry(size: int, pcyl: int, acyl: int, nhead: int, nsect: int) -> None:
    expected = Geometry(ncyl=pcyl - acyl, acyl=acyl, nhead=nhead, nsect=nsect, rpm=7200, pcyl=pcyl)
    assert default_geometry(size) == expected
    assert parse_geometry(build_geometry(expected)) == expected
