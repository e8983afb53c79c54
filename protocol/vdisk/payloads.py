"""What control operations carry in their buffer, in the order of the operations; SCSI is in :mod:`.scsi`.

A buffer is as long as the structure rounded up to 8 bytes (:func:`padded`), and its length must match the
operation exactly. Source: Solaris sys/vdsk_common.h; vds.c, the ioctl table and vd_get_params.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from protocol import wire
from protocol.errors import Layer, PacketError, Reaction
from protocol.wire import Bytes, Int16ub, Int32sb, Int32ub, Int64ub

__all__ = [
    "ACCESS_NBYTES",
    "CAPACITY_NBYTES",
    "DEVID_DEFAULT_LENGTH",
    "DEVID_NBYTES",
    "EFI_NBYTES_MIN",
    "GEOMETRY_NBYTES",
    "MAX_DEVID",
    "MAX_EFI_DATA",
    "PARTITIONS",
    "VTOC_NBYTES",
    "WCE_NBYTES",
    "Access",
    "AccessLayout",
    "AccessState",
    "AccessWish",
    "Capacity",
    "CapacityLayout",
    "DeviceId",
    "DeviceIdLayout",
    "DeviceIdType",
    "Efi",
    "EfiLayout",
    "Geometry",
    "GeometryLayout",
    "Partition",
    "PartitionFlag",
    "PartitionLayout",
    "PartitionTag",
    "Vtoc",
    "VtocLayout",
    "WriteCache",
    "WriteCacheEnabled",
    "WriteCacheLayout",
    "build_device_id",
    "build_efi",
    "build_geometry",
    "default_geometry",
    "device_id_nbytes",
    "padded",
    "parse_device_id",
    "parse_efi",
    "parse_geometry",
]

ALIGNMENT: Final = 8
"""Buffers are multiples of it. Source: Solaris vdc.c, VD_IOCTL and P2ROUNDUP."""


def padded(nbytes: int) -> int:
    """Return ``nbytes`` rounded up to what a buffer may have."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


# -- write cache -------------------------------------------------------------------------------------------


class WriteCacheEnabled(IntEnum):
    """``enabled`` of GET_WCE and SET_WCE. Source: Solaris vds.c, DKIOCGETWCE."""

    OFF = 0  # an acknowledged write is stable
    ON = 1  # FLUSH makes it so


@wire.structure("vd_wce", size=8)
class WriteCache:
    """GET_WCE and SET_WCE: is the disk's volatile write cache on? Source: Solaris vds.c, vd_ioctl; vdc.c."""

    enabled: int = wire.field(Int32sb, known=WriteCacheEnabled, doc="volatile write cache")
    pad = wire.reserved(4)


# -- VTOC --------------------------------------------------------------------------------------------------

PARTITIONS: Final = 8
"""Partitions of a VTOC. Source: Solaris sys/vtoc.h, V_NUMPAR."""


class PartitionTag(IntEnum):
    """``id_tag``: what a partition is for; other numbers are carried as they are. Source: sys/vtoc.h, V_*."""

    UNASSIGNED = 0
    BOOT = 1
    ROOT = 2
    SWAP = 3
    USR = 4
    BACKUP = 5  # the whole disk, by convention partition 2
    STAND = 6
    VAR = 7
    HOME = 8
    ALTSCTR = 9  # alternate sectors
    CACHE = 10
    RESERVED = 11  # device id and such
    SYSTEM = 12
    BIOS_BOOT = 24


class PartitionFlag(IntFlag):
    """``perm``: how a partition may be used. Source: Solaris sys/vtoc.h, V_UNMNT and V_RONLY."""

    UNMNT = 0x01  # not to be mounted
    RONLY = 0x10  # read only


@wire.structure("vd_partition", size=24)
class Partition:
    """One partition of a :class:`Vtoc`. Source: Solaris sys/vdsk_common.h, vd_partition_t."""

    id_tag: int = wire.field(Int16ub, doc="what it is for", default=PartitionTag.UNASSIGNED)
    perm: int = wire.field(Int16ub, doc="bits: not to be mounted 0x01, read only 0x10", default=0)
    reserved = wire.reserved(4)
    start: int = wire.field(Int64ub, doc="first block", default=0)
    nblocks: int = wire.field(Int64ub, doc="blocks; 0 = empty", default=0)


PartitionLayout: Final = wire.layout(Partition)


@wire.structure("vd_vtoc", size=336)
class Vtoc:
    """GET_VTOC and SET_VTOC: the label of a disk with eight partitions, sanity and version left out.

    Drawings up to FWARC 2010/054 have the ASCII label at 16, which OpenBSD follows; Solaris has it at 12.
    Source: Solaris sys/vdsk_common.h, vd_vtoc_t; Hypervisor API 3.0, chapter 29.
    """

    volume_name: bytes = wire.field(Bytes(8), doc="characters, zero filled", default=bytes(8))
    sector_size: int = wire.field(Int16ub, doc="bytes, 512")
    num_partitions: int = wire.field(Int16ub, doc="8")
    ascii_label: bytes = wire.field(Bytes(128), doc="characters, zero filled")
    pad = wire.reserved(4)
    partition: tuple[Partition, ...] = wire.array(PARTITIONS, PartitionLayout, doc="partitions 0 to 7")


# -- geometry ----------------------------------------------------------------------------------------------


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


# -- device id ---------------------------------------------------------------------------------------------

MAX_DEVID: Final = 4096
"""Bytes of a device id that anybody announces at most; SCSI pages stop at 252, fabricated ids at 14."""

_DEVID_FIXED: Final = 11  # bytes of vd_devid_t without the declared one of ``id``, as both drivers count
DEVID_DEFAULT_LENGTH: Final = 128
"""Bytes of an id that a client has room for at first. Source: sys/vdsk_common.h, VD_DEVID_DEFAULT_LEN."""


class DeviceIdType(IntEnum):
    """``type`` of a device id. Source: Solaris sys/ddi_impldefs.h, DEVID_*."""

    NONE = 0
    SCSI3_WWN = 1
    SCSI_SERIAL = 2
    FAB = 3  # fabricated: host, time and a generation
    ENCAP = 4
    ATA_SERIAL = 5
    SCSI3_VPD_T10 = 6
    SCSI3_VPD_EUI = 7
    SCSI3_VPD_NAA = 8


@wire.structure("vd_devid", size=8)
class DeviceId:
    """GET_DEVID: the id of a disk, all of it. In a buffer that is too short it is cut, and ``length`` tells.

    Source: Solaris sys/vdsk_common.h, vd_devid_t; vds.c, vd_get_devid.
    """

    reserved = wire.reserved(2)
    type: int = wire.field(Int16ub, known=DeviceIdType, doc="what kind of id")
    length: int = wire.field(Int32ub, doc="bytes of the complete id")
    id: bytes = wire.bytes_tail("length", limit=MAX_DEVID, doc="the id")


# -- EFI ---------------------------------------------------------------------------------------------------

MAX_EFI_DATA: Final = 1 << 20
"""Bytes that one GET_EFI or SET_EFI carries at most: the longest transfer; 128 entries take 16 KiB."""

_EFI_FIXED: Final = 23  # bytes of vd_efi_t without the declared one of ``data``, as vdc counts


@wire.structure("vd_efi", size=16)
class Efi:
    """GET_EFI and SET_EFI: raw bytes of a GPT at an absolute block; they are little-endian, as on disk.

    Source: Solaris sys/vdsk_common.h, vd_efi_t; vds.c, vd_get_efi_in and vd_set_efi_in.
    """

    lba: int = wire.field(Int64ub, doc="absolute block: 1 = header, else entries")
    length: int = wire.field(Int64ub, doc="bytes of data")
    data: bytes = wire.bytes_tail("length", limit=MAX_EFI_DATA, doc="raw GPT bytes")


# -- access ------------------------------------------------------------------------------------------------


class AccessState(IntEnum):
    """What GET_ACCESS answers. Source: Solaris sys/vdsk_common.h, VD_ACCESS_*."""

    DENIED = 0  # another host has reserved the disk
    ALLOWED = 1


class AccessWish(IntFlag):
    """What SET_ACCESS asks for; PREEMPT and PRESERVE only with EXCLUSIVE. Source: VD_ACCESS_SET_*."""

    CLEAR = 0  # release
    EXCLUSIVE = 1  # reserve
    PREEMPT = 2  # from another host, too
    PRESERVE = 4  # again after a reset


@wire.structure("vd_access", size=8)
class Access:
    """GET_ACCESS and SET_ACCESS. Source: Solaris vds.c, vd_get_access and vd_set_access; vdc.c."""

    flags: int = wire.field(Int64ub, known=AccessWish, doc="GET: 1 = allowed; SET: the bits wanted")


# -- capacity ----------------------------------------------------------------------------------------------


@wire.structure("vd_capacity", size=16)
class Capacity:
    """GET_CAPACITY. Source: Solaris sys/vdsk_common.h, vd_capacity_t."""

    vdisk_block_size: int = wire.field(Int32ub, doc="bytes")
    reserved = wire.reserved(4)
    vdisk_size: int = wire.field(Int64ub, doc="blocks; all ones = unknown")


WriteCacheLayout: Final = wire.layout(WriteCache)
VtocLayout: Final = wire.layout(Vtoc)
GeometryLayout: Final = wire.layout(Geometry)
DeviceIdLayout: Final = wire.layout(DeviceId)
EfiLayout: Final = wire.layout(Efi)
AccessLayout: Final = wire.layout(Access)
CapacityLayout: Final = wire.layout(Capacity)

WCE_NBYTES: Final = WriteCacheLayout.size
"""``nbytes`` of GET_WCE and SET_WCE."""
VTOC_NBYTES: Final = VtocLayout.size
"""``nbytes`` of GET_VTOC and SET_VTOC."""
GEOMETRY_NBYTES: Final = padded(GeometryLayout.size)
"""``nbytes`` of GET_DISKGEOM and SET_DISKGEOM."""
DEVID_NBYTES: Final = padded(_DEVID_FIXED + DEVID_DEFAULT_LENGTH)
"""``nbytes`` of the first GET_DEVID of a client: 144. Source: Solaris vdc.c, vdc_setup_devid."""
EFI_NBYTES_MIN: Final = padded(_EFI_FIXED + 1)
"""``nbytes`` of GET_EFI and SET_EFI at least: 24. Source: Solaris vds.c, the ioctl table."""
ACCESS_NBYTES: Final = AccessLayout.size
"""``nbytes`` of GET_ACCESS and SET_ACCESS."""
CAPACITY_NBYTES: Final = CapacityLayout.size
"""``nbytes`` of GET_CAPACITY. Source: Solaris vds.c, vd_get_capacity."""

_SECTOR: Final = 512  # a label counts sectors of 512 bytes, whatever the block size
_RPM: Final = 7200
_TRACKS: Final = ((8 << 30, 96, 768), (2 << 20, 1, 600), (0, 1, 200))  # from this size on: heads, sectors
_MAX_CYLINDERS: Final = 0xFFFF  # 16-bit field; above 2.4 TB the geometry covers only a part of the disk


def build_geometry(geometry: Geometry) -> bytes:
    """Return the 24-byte buffer of a geometry request."""
    return GeometryLayout.build(geometry).ljust(GEOMETRY_NBYTES, b"\0")


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


def device_id_nbytes(length: int) -> int:
    """Return the ``nbytes`` with which a client asks for an id of ``length`` bytes, to have all of it.

    Source: Solaris vdc.c, vdc_setup_devid.
    """
    return padded(_DEVID_FIXED + length)


def build_device_id(device_id: DeviceId, nbytes: int) -> bytes:
    """Return the buffer that answers GET_DEVID in ``nbytes``, 12 or more, the id cut to what fits.

    Source: Solaris vds.c, vd_get_devid.
    """
    whole = DeviceIdLayout.build(device_id)
    cut = whole[: DeviceIdLayout.size + max(0, nbytes - _DEVID_FIXED)]
    return cut.ljust(nbytes, b"\0")[:nbytes]


def parse_device_id(data: wire.Buffer) -> tuple[int, int, bytes]:
    """Return (type, length, id) of a server's answer; the id is shorter than ``length`` if it was cut.

    Raises: PacketError (no room for a byte of an id; an id longer than any is).
    Source: Solaris vdc.c, vdc_setup_devid, which asks again with :func:`device_id_nbytes`.
    """
    if len(data) <= _DEVID_FIXED:
        raise PacketError(Layer.VDISK, Reaction.RESET, f"vd_devid: {len(data)} bytes, must be 12 or more")
    kind, length = DeviceIdLayout.codec.unpack_from(data)
    if length > MAX_DEVID:
        raise PacketError(
            Layer.VDISK, Reaction.RESET, f"vd_devid: length is {length}, at most {MAX_DEVID} allowed"
        )
    start = DeviceIdLayout.size
    return kind, length, bytes(data[start : start + min(length, len(data) - _DEVID_FIXED)])


def build_efi(lba: int, data: bytes) -> bytes:
    """Return the buffer of a SET_EFI of ``data`` at block ``lba``, or of the GET_EFI for as many bytes."""
    built = EfiLayout.build(Efi(lba=lba, length=len(data), data=data))
    return built.ljust(padded(_EFI_FIXED + len(data)), b"\0")


def parse_efi(data: wire.Buffer) -> Efi:
    """Return what a buffer of GET_EFI or SET_EFI holds; what stands behind ``length`` bytes is padding.

    Raises: PacketError (``length`` goes beyond the buffer or any limit): status EINVAL.
    Source: Solaris vds.c, vd_get_efi_in.
    """
    return EfiLayout.parse(data, trailing=True)
