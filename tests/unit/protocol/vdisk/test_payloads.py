"""Payloads of the control operations: octets, buffers, and the geometry that an unlabelled image makes up."""

from __future__ import annotations

import pytest

from protocol.errors import PacketError
from protocol.vdisk import payloads as p
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


def test_device_id_is_cut_to_the_buffer_and_its_length_tells() -> None:
    """Source: Solaris vds.c, vd_get_devid; vdc.c, vdc_setup_devid asks with 144 bytes first."""
    whole = p.DeviceId(type=p.DeviceIdType.FAB, length=140, id=bytes(range(140)))
    assert p.DEVID_NBYTES == 144
    answer = p.build_device_id(whole, 144)
    assert answer[:8] == bytes.fromhex("0000 0003 0000008c")
    assert len(answer) == 144
    assert p.parse_device_id(answer) == (3, 140, bytes(range(133)))
    again = p.device_id_nbytes(140)
    assert again == 152
    assert p.parse_device_id(p.build_device_id(whole, again)) == (3, 140, bytes(range(140)))


@pytest.mark.parametrize("nbytes", [12, 16, 24])
def test_device_id_in_a_small_buffer(nbytes: int) -> None:
    answer = p.build_device_id(p.DeviceId(type=1, length=64, id=b"x" * 64), nbytes)
    assert len(answer) == nbytes
    assert p.parse_device_id(answer) == (1, 64, b"x" * (nbytes - 11))


@pytest.mark.parametrize(
    ("data", "reason"), [(bytes(11), "must be 12 or more"), (bytes(4) + b"\xff" * 8, "at most 4096")]
)
def test_device_id_that_cannot_be(data: bytes, reason: str) -> None:
    with pytest.raises(PacketError, match=reason):
        p.parse_device_id(data)


@pytest.mark.parametrize(
    ("length", "nbytes"), [(0, 24), (1, 24), (512, 536), (513, 536), (514, 544), (16384, 16408)]
)
def test_efi_buffer_is_rounded_up(length: int, nbytes: int) -> None:
    """23 and the length, rounded up to 8. Source: Solaris vdc.c, vd_process_efi_ioctl."""
    buffer = p.build_efi(1, bytes(length))
    assert len(buffer) == nbytes
    assert p.parse_efi(buffer) == p.Efi(lba=1, length=length, data=bytes(length))


def test_efi_data_beyond_the_buffer_are_refused() -> None:
    with pytest.raises(PacketError, match="24 bytes, must be 25"):
        p.parse_efi((1).to_bytes(8, "big") + (9).to_bytes(8, "big") + bytes(8))


def test_lengths_of_the_control_operations() -> None:
    assert (p.WCE_NBYTES, p.VTOC_NBYTES, p.EFI_NBYTES_MIN, p.ACCESS_NBYTES) == (8, 336, 24, 8)
    assert [p.padded(nbytes) for nbytes in (0, 1, 8, 22)] == [0, 8, 8, 24]
