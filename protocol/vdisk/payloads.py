"""What control operations carry in their buffer: geometry and capacity; and the default geometry of an image.

Source: Solaris sys/vdsk_common.h, vd_geom_t, vd_capacity_t; vds.c, vd_get_params and vd_build_default_label.
"""

from __future__ import annotations

from typing import Final

from protocol import wire
from protocol.wire import Int16ub, Int32ub, Int64ub

__all__ = [
    "CAPACITY_NBYTES",
    "GEOMETRY_NBYTES",
    "Capacity",
    "CapacityLayout",
    "Geometry",
    "GeometryLayout",
    "build_geometry",
    "default_geometry",
    "parse_geometry",
]


@wire.structure("vd_geom", size=22)
class Geometry:
    """GET_DISKGEOM and SET_DISKGEOM. Source: Solaris sys/vdsk_common.h, vd_geom_t."""

    ncyl: int = wire.field(Int16ub, doc="data cylinders")
    acyl: int = wire.field(Int16ub, doc="alternate cylinders", default=0)
    bcyl: int = wire.field(Int16ub, doc="cylinder offset", default=0)
    nhead: int = wire.field(Int16ub, doc="heads")
    nsect: int = wire.field(Int16ub, doc="sectors per track")
    intrlv: int = wire.field(Int16ub, doc="interleave", default=0)
    apc: int = wire.field(Int16ub, doc="alternates per cylinder", default=0)
    rpm: int = wire.field(Int16ub, doc="revolutions per minute", default=0)
    pcyl: int = wire.field(Int16ub, doc="physical cylinders", default=0)
    write_reinstruct: int = wire.field(Int16ub, doc="sectors to skip, writes", default=0)
    read_reinstruct: int = wire.field(Int16ub, doc="sectors to skip, reads", default=0)


@wire.structure("vd_capacity", size=16)
class Capacity:
    """GET_CAPACITY. Source: Solaris sys/vdsk_common.h, vd_capacity_t."""

    vdisk_block_size: int = wire.field(Int32ub, doc="bytes")
    reserved = wire.reserved(4)
    vdisk_size: int = wire.field(Int64ub, doc="blocks; all ones = unknown")


GeometryLayout: Final = wire.layout(Geometry)
CapacityLayout: Final = wire.layout(Capacity)

GEOMETRY_NBYTES: Final = -(-GeometryLayout.size // 8) * 8
"""``nbytes`` of a geometry request: the structure, rounded up to 8. Source: Solaris vds.c, vd_ioctl."""

CAPACITY_NBYTES: Final = CapacityLayout.size
"""``nbytes`` of GET_CAPACITY. Source: Solaris vds.c, vd_get_capacity."""

_PAD: Final = bytes(GEOMETRY_NBYTES - GeometryLayout.size)
_SECTOR: Final = 512  # a label counts sectors of 512 bytes, whatever the block size
_RPM: Final = 7200
_TRACKS: Final = ((8 << 30, 96, 768), (2 << 20, 1, 600), (0, 1, 200))  # from this size on: heads, sectors
_MAX_CYLINDERS: Final = 0xFFFF  # 16-bit field; above 2.4 TB the geometry covers only a part of the disk


def build_geometry(geometry: Geometry) -> bytes:
    """Return the 24-byte buffer of a geometry request."""
    return GeometryLayout.build(geometry) + _PAD


def parse_geometry(data: wire.Buffer) -> Geometry:
    """Return the geometry in a buffer of 24 bytes. Raises: PacketError (fewer than 22)."""
    return GeometryLayout.parse(data, trailing=True)


def default_geometry(size: int) -> Geometry:
    """Return what an unlabelled image of ``size`` bytes answers to GET_DISKGEOM.

    Source: Solaris vds.c, vd_build_default_label.
    """
    nhead, nsect = next((nhead, nsect) for least, nhead, nsect in _TRACKS if size >= least)
    pcyl = min(max(size // (nhead * nsect * _SECTOR), 1), _MAX_CYLINDERS)
    acyl = 2 if pcyl > 2 else 0
    return Geometry(ncyl=pcyl - acyl, acyl=acyl, nhead=nhead, nsect=nsect, rpm=_RPM, pcyl=pcyl)
