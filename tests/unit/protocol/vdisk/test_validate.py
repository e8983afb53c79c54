"""Every refusal of a request, with its status; and how far a range reaches."""

from __future__ import annotations

import pytest

from protocol.vdisk.attributes import DiskAttributes
from protocol.vdisk.operations import SLICE_NONE, Operation, operations_mask
from protocol.vdisk.validate import clip, validate

ENOTSUP, EINVAL, EIO = 48, 22, 5
DISK = DiskAttributes(size_blocks=100, max_xfer_blocks=128)
READ_ONLY = DiskAttributes(size_blocks=100, max_xfer_blocks=128, operations=operations_mask((1, 2), True))
WHOLE = SLICE_NONE

ACCEPTED = [
    (Operation.BREAD, WHOLE, 0, 512),
    (Operation.BREAD, WHOLE, 99, 1),  # images take any number of bytes
    (Operation.BREAD, WHOLE, 2**64 - 1, 2**64 - 1),  # the end is not a refusal
    (Operation.BWRITE, WHOLE, 0, 1 << 30),
    (Operation.FLUSH, 0, 0, 0),
    (Operation.FLUSH, 0xAA, 77, 0),  # slice and address mean nothing here
    (Operation.GET_DISKGEOM, 3, 0, 24),
    (Operation.GET_CAPACITY, 0, 0, 16),
]

REFUSED = [
    (Operation.BREAD, WHOLE, 0, 0, EINVAL),
    (Operation.BWRITE, WHOLE, 0, 0, EINVAL),
    *((Operation.BREAD, slice_, 0, 512, EIO) for slice_ in range(8)),
    *((Operation.BWRITE, slice_, 0, 512, EIO) for slice_ in range(8)),
    *((Operation.BREAD, slice_, 0, 512, EINVAL) for slice_ in (8, 9, 127, 254)),
    (Operation.BREAD, 0, 0, 0, EINVAL),
    (Operation.BREAD, 8, 0, 0, EINVAL),
    (Operation.FLUSH, 0, 0, 8, EINVAL),
    (Operation.GET_DISKGEOM, 0, 0, 22, EINVAL),
    (Operation.GET_DISKGEOM, 0, 0, 32, EINVAL),
    (Operation.GET_CAPACITY, 0, 0, 0, EINVAL),
    (Operation.GET_CAPACITY, 0, 0, 24, EINVAL),
    *((operation, 0, 0, 336, ENOTSUP) for operation in Operation if operation not in (1, 2, 3, 8, 0x11)),
    *((operation, WHOLE, 0, 512, ENOTSUP) for operation in (0, 0x12, 0x55, 0x80, 0xFF)),
    (0, 0, 0, 0, ENOTSUP),
]


@pytest.mark.parametrize("request_", ACCEPTED)
def test_accepted(request_: tuple[int, int, int, int]) -> None:
    assert validate(*request_, DISK) == 0


@pytest.mark.parametrize("request_", REFUSED)
def test_refused(request_: tuple[int, int, int, int, int]) -> None:
    *fields, status = request_
    operation, slice_, addr, nbytes = fields
    assert validate(operation, slice_, addr, nbytes, DISK) == status


@pytest.mark.parametrize(("operation", "nbytes"), [(Operation.BWRITE, 512), (Operation.FLUSH, 0)])
def test_a_read_only_disk_does_not_offer_writing(operation: Operation, nbytes: int) -> None:
    assert validate(operation, WHOLE, 0, nbytes, READ_ONLY) == ENOTSUP
    assert validate(Operation.BREAD, WHOLE, 0, 512, READ_ONLY) == 0


def test_capacity_is_no_operation_of_1_0() -> None:
    assert validate(Operation.GET_CAPACITY, 0, 0, 16, DISK.for_version((1, 0))) == ENOTSUP
    assert validate(Operation.GET_CAPACITY, 0, 0, 16, DISK.for_version((1, 1))) == 0


@pytest.mark.parametrize(
    ("addr", "nbytes", "exists"),
    [
        (0, 512, 512),
        (0, 100 * 512, 100 * 512),
        (0, 100 * 512 + 1, 100 * 512),
        (99, 512, 512),
        (99, 513, 512),
        (99, 100, 100),
        (98, 4 * 512, 2 * 512),
        (100, 512, 0),
        (101, 512, 0),
        (2**64 - 1, 2**64 - 1, 0),
        (0, 2**64 - 1, 100 * 512),
    ],
)
def test_a_range_is_cut_at_the_end(addr: int, nbytes: int, exists: int) -> None:
    assert clip(addr, nbytes, DISK) == exists


def test_blocks_of_4096() -> None:
    disk = DiskAttributes(size_blocks=10, max_xfer_blocks=16, block_size=4096)
    assert clip(9, 8192, disk) == 4096
    assert clip(10, 4096, disk) == 0
