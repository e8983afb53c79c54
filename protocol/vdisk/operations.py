"""Operations, masks, disk and media types, slice numbers; first module of the vDisk layer.

Source: Solaris sys/vdsk_common.h (VD_OP_*, VD_DISK_TYPE_*, VD_MEDIA_*, VD_SLICE_NONE).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

__all__ = [
    "BLOCK_IO",
    "MASK_READ",
    "MASK_SCSI",
    "MASK_WRITE",
    "SLICES",
    "SLICE_NONE",
    "DiskType",
    "LabelType",
    "MediaType",
    "Operation",
    "mask_of",
    "operations_known",
    "operations_mask",
]

SLICE_NONE: Final = 0xFF
"""``slice`` of I/O at absolute addresses, the whole disk. Source: Solaris vdsk_common.h, VD_SLICE_NONE."""

SLICES: Final = 8
"""Slices 0 to 7 of a label. Source: Solaris sys/vtoc.h, V_NUMPAR."""


class Operation(IntEnum):
    """What a request asks for. Source: Solaris sys/vdsk_common.h, VD_OP_*."""

    BREAD = 0x01  # read blocks
    BWRITE = 0x02  # write blocks
    FLUSH = 0x03  # make acknowledged writes stable
    GET_WCE = 0x04  # write cache enabled?
    SET_WCE = 0x05
    GET_VTOC = 0x06  # VTOC label
    SET_VTOC = 0x07
    GET_DISKGEOM = 0x08  # geometry
    SET_DISKGEOM = 0x09
    SCSICMD = 0x0A  # 1.1: a SCSI command
    GET_DEVID = 0x0B  # device id
    GET_EFI = 0x0C  # GPT, raw
    SET_EFI = 0x0D
    RESET = 0x0E  # 1.1
    GET_ACCESS = 0x0F  # 1.1: reservation
    SET_ACCESS = 0x10  # 1.1
    GET_CAPACITY = 0x11  # 1.1: block size and size


class DiskType(IntEnum):
    """``vdisk_type``. Source: Solaris sys/vdsk_common.h, VD_DISK_TYPE_*."""

    UNKNOWN = 0  # what a client sends
    SLICE = 1  # one slice, no label
    DISK = 2  # a whole disk; vds says so for every backend


class MediaType(IntEnum):
    """``vdisk_mtype``, since 1.1. Source: Solaris sys/vdsk_common.h, VD_MEDIA_*."""

    FIXED = 1
    CD = 2
    DVD = 3


class LabelType(IntEnum):
    """What label a disk has. Source: Solaris sys/vdsk_common.h, VD_DISK_LABEL_*."""

    UNKNOWN = 0  # none, or none that is valid
    VTOC = 1
    EFI = 2


BLOCK_IO: Final[frozenset[int]] = frozenset({Operation.BREAD, Operation.BWRITE})
"""Operations whose addr, nbytes and slice name blocks."""


def mask_of(operations: Iterable[int]) -> int:
    """Return the mask that offers ``operations``: bit n is operation n.

    Source: Solaris sys/vdsk_common.h, VD_OP_SUPPORTED.
    """
    mask = 0
    for operation in operations:
        mask |= 1 << operation
    return mask


MASK_READ: Final = mask_of(
    (
        Operation.BREAD,
        Operation.GET_WCE,
        Operation.GET_VTOC,
        Operation.GET_DISKGEOM,
        Operation.GET_DEVID,
        Operation.GET_EFI,
    )
)
"""Operations that change nothing. Source: Solaris sys/vdsk_common.h, VD_OP_MASK_READ."""

MASK_WRITE: Final = mask_of(
    (
        Operation.BWRITE,
        Operation.FLUSH,
        Operation.SET_WCE,
        Operation.SET_VTOC,
        Operation.SET_DISKGEOM,
        Operation.SET_EFI,
    )
)
"""Operations a read-only disk does not offer. Source: Solaris sys/vdsk_common.h, VD_OP_MASK_WRITE."""

MASK_SCSI: Final = mask_of((Operation.SCSICMD, Operation.RESET, Operation.GET_ACCESS, Operation.SET_ACCESS))
"""Operations of a SCSI disk. Source: Solaris sys/vdsk_common.h, VD_OP_MASK_SCSI."""

_SINCE_1_1: Final = MASK_SCSI | mask_of((Operation.GET_CAPACITY,))
_EXECUTED: Final = mask_of(
    (Operation.BREAD, Operation.BWRITE, Operation.FLUSH, Operation.GET_DISKGEOM, Operation.GET_CAPACITY)
)


def operations_known(version: tuple[int, int]) -> int:
    """Return the mask of every operation that ``version`` has. Source: FWARC 2010/054."""
    mask = mask_of(Operation)
    return mask if version >= (1, 1) else mask & ~_SINCE_1_1


def operations_mask(version: tuple[int, int], read_only: bool) -> int:
    """Return the operations that a server of ours offers: those it executes and ``version`` knows.

    vds offers the write operations at 1.0 even on a read-only disk; ours never does, so that a client learns
    before its first write. Source: Solaris vds.c, vd_set_exported_operations.
    """
    mask = _EXECUTED & operations_known(version)
    return mask & ~MASK_WRITE if read_only else mask
