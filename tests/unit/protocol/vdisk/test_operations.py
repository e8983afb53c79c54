"""Operation numbers and masks, as the specification's table has them."""

from __future__ import annotations

import pytest

from protocol.vdisk.operations import (
    MASK_READ,
    MASK_SCSI,
    MASK_WRITE,
    Operation,
    mask_of,
    operations_known,
    operations_mask,
)

# Source: Solaris sys/vdsk_common.h, VD_OP_*.
BITS = {
    "BREAD": 0x00002,
    "BWRITE": 0x00004,
    "FLUSH": 0x00008,
    "GET_WCE": 0x00010,
    "SET_WCE": 0x00020,
    "GET_VTOC": 0x00040,
    "SET_VTOC": 0x00080,
    "GET_DISKGEOM": 0x00100,
    "SET_DISKGEOM": 0x00200,
    "SCSICMD": 0x00400,
    "GET_DEVID": 0x00800,
    "GET_EFI": 0x01000,
    "SET_EFI": 0x02000,
    "RESET": 0x04000,
    "GET_ACCESS": 0x08000,
    "SET_ACCESS": 0x10000,
    "GET_CAPACITY": 0x20000,
}


def test_each_operation_has_its_bit() -> None:
    assert {operation.name: mask_of((operation,)) for operation in Operation} == BITS


def test_classes_are_those_of_the_header() -> None:
    assert (MASK_READ, MASK_WRITE, MASK_SCSI) == (0x1952, 0x22AC, 0x1C400)


def test_what_each_version_knows() -> None:
    assert operations_known((1, 0)) == 0x3BFE
    assert operations_known((1, 1)) == operations_known((1, 2)) == 0x3FFFE


@pytest.mark.parametrize(
    ("version", "read_only", "mask"),
    [
        ((1, 2), False, 0x2010E),
        ((1, 1), False, 0x2010E),
        ((1, 2), True, 0x20102),
        ((1, 1), True, 0x20102),
        ((1, 0), False, 0x10E),
        ((1, 0), True, 0x102),
    ],
)
def test_what_is_offered(version: tuple[int, int], read_only: bool, mask: int) -> None:
    assert operations_mask(version, read_only) == mask
