"""The VTOC label of a SPARC disk: one big-endian sector at block 0, and backups on the last cylinder.

Source: Solaris sys/dklabel.h (_SUNOS_VTOC_8); vds.c, vd_dskimg_read_vtoc, vd_build_default_label,
vd_dskimg_set_vtoc; vdsk_common.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from protocol import wire
from protocol.errors import Layer
from protocol.vdisk.payloads import (
    PARTITIONS,
    Geometry,
    GeometryLayout,
    Partition,
    PartitionTag,
    Vtoc,
    VtocLayout,
    default_geometry,
)
from protocol.wire import Bytes, Int16ub, Int32ub

__all__ = [
    "BACKUP_SLICE",
    "LABEL_SIZE",
    "MAGIC",
    "SANITY",
    "VERSION",
    "DiskLabel",
    "DiskLabelLayout",
    "LabelMap",
    "LabelPart",
    "backup_blocks",
    "build_label",
    "check_geometry",
    "default_label",
    "devid_block",
    "geometry_of",
    "label_from",
    "read_label",
    "slice_bounds",
    "vtoc_of",
]

LABEL_SIZE: Final = 512
"""Bytes of the label, and the sector that all its numbers count."""
MAGIC: Final = 0xDABE
"""Source: Solaris sys/dklabel.h, DKL_MAGIC."""
SANITY: Final = 0x600D_DEEE
"""``v_sanity``; not looked at when a label is read. Source: Solaris sys/vtoc.h, VTOC_SANE."""
VERSION: Final = 1
"""``v_version``. Source: Solaris sys/vtoc.h, V_VERSION."""
BACKUP_SLICE: Final = 2
"""The partition that is the whole disk. Source: Solaris sys/vdsk_common.h, VD_ENTIRE_DISK_SLICE."""

_BACKUPS: Final = 5  # Source: Solaris sys/vdsk_common.h, VD_DSKIMG_NUM_BACKUP
_ALTERNATES: Final = 2  # cylinders that hold backups and the device id
_MOST: Final = 0xFFFF_FFFF  # a place has 32 bits: cylinders for its start, blocks for its length
_UNITS: Final = ((40, "T"), (30, "G"), (20, "M"), (10, "K"))  # highest that the size reaches, else K


@wire.structure("label_part", size=4, layer=Layer.VDISK)
class LabelPart:
    """Tag and flag of one partition. Source: Solaris sys/dklabel.h, struct dk_map2."""

    tag: int = wire.field(Int16ub, doc="what it is for", default=PartitionTag.UNASSIGNED)
    flag: int = wire.field(Int16ub, doc="how it may be used", default=0)


@wire.structure("label_map", size=8, layer=Layer.VDISK)
class LabelMap:
    """Place of one partition. Source: Solaris sys/dklabel.h, struct dk_map32."""

    start_cylinder: int = wire.field(Int32ub, doc="first cylinder", default=0)
    nblocks: int = wire.field(Int32ub, doc="blocks; 0 = empty", default=0)


@wire.structure("dk_label_vtoc8", size=LABEL_SIZE)
class DiskLabel:
    """The label as on disk; :func:`build_label` fills in ``cksum``. Source: sys/dklabel.h, dk_label."""

    asciilabel: bytes = wire.field(Bytes(128), doc="characters, zero filled")
    v_version: int = wire.field(Int32ub, doc="1", default=VERSION)
    v_volume: bytes = wire.field(Bytes(8), doc="volume name, zero filled", default=bytes(8))
    v_nparts: int = wire.field(Int16ub, doc="8", default=PARTITIONS)
    v_part: tuple[LabelPart, ...] = wire.array(PARTITIONS, wire.layout(LabelPart), doc="tags and flags")
    pad = wire.reserved(2)
    v_bootinfo: bytes = wire.field(Bytes(12), doc="three words for the boot program", default=bytes(12))
    v_sanity: int = wire.field(Int32ub, doc="0x600ddeee", default=SANITY)
    v_reserved = wire.reserved(40)
    v_timestamp: bytes = wire.field(Bytes(32), doc="eight times, seconds", default=bytes(32))
    write_reinstruct: int = wire.field(Int16ub, doc="sectors to skip, writes", default=0)
    read_reinstruct: int = wire.field(Int16ub, doc="sectors to skip, reads", default=0)
    pad2 = wire.reserved(152)
    rpm: int = wire.field(Int16ub, doc="revolutions per minute", default=0)
    pcyl: int = wire.field(Int16ub, doc="physical cylinders")
    apc: int = wire.field(Int16ub, doc="alternates per cylinder", default=0)
    obs1: int = wire.field(Int16ub, doc="obsolete", default=0)
    obs2: int = wire.field(Int16ub, doc="obsolete", default=0)
    intrlv: int = wire.field(Int16ub, doc="interleave", default=0)
    ncyl: int = wire.field(Int16ub, doc="data cylinders")
    acyl: int = wire.field(Int16ub, doc="alternate cylinders", default=0)
    nhead: int = wire.field(Int16ub, doc="heads")
    nsect: int = wire.field(Int16ub, doc="sectors per track")
    obs3: int = wire.field(Int16ub, doc="obsolete", default=0)
    obs4: int = wire.field(Int16ub, doc="obsolete", default=0)
    map: tuple[LabelMap, ...] = wire.array(PARTITIONS, wire.layout(LabelMap), doc="places")
    magic: int = wire.field(Int16ub, doc="0xdabe", default=MAGIC)
    cksum: int = wire.field(Int16ub, doc="XOR of the 255 words before", default=0)


DiskLabelLayout: Final = wire.layout(DiskLabel)
_CHECKSUM_AT: Final = LABEL_SIZE - 2


def _xor_words(octets: wire.Buffer) -> int:
    """Return the XOR of all big-endian 16-bit words."""
    whole = int.from_bytes(octets, "big")
    found = 0
    while whole:
        found ^= whole & 0xFFFF
        whole >>= 16
    return found


def read_label(sector: wire.Buffer) -> DiskLabel | None:
    """Return the label in block 0, 512 bytes, or None if that is none: magic, checksum or count are wrong.

    Source: Solaris vds.c, vd_dskimg_read_vtoc; the sanity word is not looked at by default.
    """
    if len(sector) != LABEL_SIZE or _xor_words(sector):
        return None
    label = DiskLabelLayout.parse(sector)
    return label if label.magic == MAGIC and label.v_nparts == PARTITIONS else None


def build_label(label: DiskLabel) -> bytes:
    """Return the sector of ``label`` with its checksum. Raises: LocalProtocolError (a value does not fit)."""
    built = DiskLabelLayout.build(label)[:_CHECKSUM_AT]
    return built + _xor_words(built).to_bytes(2, "big")


def default_label(size: int) -> DiskLabel:
    """Return the label that an unlabelled image of ``size`` bytes is said to have.

    Partition 2 is all data cylinders, as far as 32 bits count blocks (2 TiB); the others are empty.
    Source: Solaris vds.c, vd_build_default_label, where the number wraps.
    """
    geometry = default_geometry(size)
    shift, unit = next((each for each in _UNITS if size >> each[0]), _UNITS[-1])
    text = (
        f"SUN-DiskImage-{size >> shift}{unit}B cyl {geometry.ncyl} alt {geometry.acyl} "
        f"hd {geometry.nhead} sec {geometry.nsect}"
    )
    whole = LabelMap(nblocks=min(geometry.ncyl * geometry.nhead * geometry.nsect, _MOST))
    parts = [LabelPart()] * PARTITIONS
    places = [LabelMap()] * PARTITIONS
    parts[BACKUP_SLICE] = LabelPart(tag=PartitionTag.BACKUP)
    places[BACKUP_SLICE] = whole
    return _label(text.encode().ljust(128, b"\0"), bytes(8), parts, places, geometry)


def _label(
    ascii_label: bytes, volume: bytes, parts: list[LabelPart], places: list[LabelMap], geometry: Geometry
) -> DiskLabel:
    return DiskLabel(
        asciilabel=ascii_label,
        v_volume=volume,
        v_part=tuple(parts),
        map=tuple(places),
        rpm=geometry.rpm,
        pcyl=geometry.pcyl,
        apc=geometry.apc,
        intrlv=geometry.intrlv,
        ncyl=geometry.ncyl,
        acyl=geometry.acyl,
        nhead=geometry.nhead,
        nsect=geometry.nsect,
        write_reinstruct=geometry.write_reinstruct,
        read_reinstruct=geometry.read_reinstruct,
    )


def check_geometry(geometry: Geometry) -> None:
    """Refuse a geometry in which blocks have no place: what SET_DISKGEOM answers is EINVAL.

    Raises: PacketError (no heads, no sectors, or no block of a cylinder that is not an alternate).
    Source: Solaris vds.c, vd_dskimg_ioctl, DKIOCSGEOM, which does not look at the alternates.
    """
    if not _has_places(geometry):
        cylinder = geometry.nhead * geometry.nsect
        raise GeometryLayout.error(
            f"{geometry.apc} alternates in a cylinder of {cylinder} blocks"
            if cylinder
            else f"{geometry.nhead} heads of {geometry.nsect} sectors"
        )


def _has_places(geometry: Geometry) -> bool:
    """Say whether a cylinder has blocks at all, so that there is a last track with places on it."""
    return geometry.apc < geometry.nhead * geometry.nsect


def _refusals(vtoc: Vtoc, geometry: Geometry) -> Iterator[str]:
    """Yield every reason not to write ``vtoc``; ``geometry`` is one that has places."""
    if vtoc.sector_size != LABEL_SIZE:
        yield f"sector_size is {vtoc.sector_size}, must be {LABEL_SIZE}"
    if vtoc.num_partitions != PARTITIONS:
        yield f"num_partitions is {vtoc.num_partitions}, must be {PARTITIONS}"
    cylinder = geometry.nhead * geometry.nsect
    for number, part in enumerate(vtoc.partition):
        if max(part.start // cylinder, part.nblocks) > _MOST:  # Solaris cuts them to their low 32 bits
            yield f"partition {number} does not fit: {part.nblocks} blocks from {part.start}"


def label_from(vtoc: Vtoc, geometry: Geometry) -> DiskLabel:
    """Return the label that SET_VTOC writes, with the geometry remembered.

    A start that is not on a cylinder is rounded down.
    Raises: PacketError (a geometry that :func:`check_geometry` refuses; other sectors than of 512 bytes; not
        eight partitions; one whose place does not fit the label's 32 bits): status EINVAL.
    Source: Solaris vds.c, vd_dskimg_ioctl, DKIOCSEXTVTOC, and vd_vtocgeom_to_label.
    """
    check_geometry(geometry)
    refusal = next(_refusals(vtoc, geometry), None)
    if refusal is not None:
        raise VtocLayout.error(refusal)
    cylinder = geometry.nhead * geometry.nsect
    parts = [LabelPart(tag=part.id_tag, flag=part.perm) for part in vtoc.partition]
    places = [
        LabelMap(start_cylinder=part.start // cylinder, nblocks=part.nblocks) for part in vtoc.partition
    ]
    return _label(vtoc.ascii_label, vtoc.volume_name, parts, places, geometry)


def vtoc_of(label: DiskLabel) -> Vtoc:
    """Return what GET_VTOC answers. Source: Solaris vds.c, vd_label_to_vtocgeom."""
    cylinder = label.nhead * label.nsect
    return Vtoc(
        volume_name=label.v_volume,
        sector_size=LABEL_SIZE,
        num_partitions=label.v_nparts,
        ascii_label=label.asciilabel,
        partition=tuple(
            Partition(
                id_tag=part.tag,
                perm=part.flag,
                start=place.start_cylinder * cylinder,
                nblocks=place.nblocks,
            )
            for part, place in zip(label.v_part, label.map, strict=True)
        ),
    )


def geometry_of(label: DiskLabel) -> Geometry:
    """Return what GET_DISKGEOM answers. Source: Solaris vds.c, vd_label_to_vtocgeom."""
    return Geometry(
        ncyl=label.ncyl,
        acyl=label.acyl,
        nhead=label.nhead,
        nsect=label.nsect,
        intrlv=label.intrlv,
        apc=label.apc,
        rpm=label.rpm,
        pcyl=label.pcyl,
        write_reinstruct=label.write_reinstruct,
        read_reinstruct=label.read_reinstruct,
    )


def slice_bounds(label: DiskLabel, number: int) -> tuple[int, int]:
    """Return (first block, blocks) of slice ``number``, 0 to 7; 0 blocks: it is empty."""
    place = label.map[number]
    return place.start_cylinder * label.nhead * label.nsect, place.nblocks


def _last_track(geometry: Geometry, from_end: int) -> int:
    """Return the first block of the last track of the cylinder ``from_end`` cylinders before the end."""
    cylinder = geometry.ncyl + geometry.acyl - from_end
    per_cylinder = geometry.nhead * geometry.nsect - geometry.apc
    return cylinder * per_cylinder + (geometry.nhead - 1) * geometry.nsect


def backup_blocks(geometry: Geometry) -> Iterator[int]:
    """Yield where the five backup labels are: every other block of the last track, as far as it goes.

    None without alternate cylinders, or where a label's geometry has no places.
    Source: Solaris vds.c, vd_dskimg_set_vtoc.
    """
    if geometry.acyl and _has_places(geometry):
        first = _last_track(geometry, 1)
        for offset in range(1, min(2 * _BACKUPS, geometry.nsect), 2):
            yield first + offset


def devid_block(geometry: Geometry) -> int | None:
    """Return the block of the device id, or None if there is no place for it.

    Source: Solaris vds.c, vd_dskimg_get_devid_block.
    """
    if geometry.acyl < _ALTERNATES or not _has_places(geometry):
        return None
    return _last_track(geometry, 2) + 1
