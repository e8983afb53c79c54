"""A request against the disk it is for: every refusal and its status, as a table; pure, executes nothing.

What is refused here is answered with an ACK and a status, and the session lives on; faults of the ring and of
memory cookies never get this far. Labels do not exist yet: a slice is refused by one row of the table, which
a label's own look-up replaces.
Source: Solaris vds.c, vd_do_process_task, vd_start_bio, vd_ioctl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeAlias

from .operations import BLOCK_IO, SLICE_NONE, SLICES, Operation
from .payloads import (
    ACCESS_NBYTES,
    CAPACITY_NBYTES,
    EFI_NBYTES_MIN,
    GEOMETRY_NBYTES,
    VTOC_NBYTES,
    WCE_NBYTES,
)
from .scsi import SCSI_NBYTES_MIN
from .status import WireErrno

__all__ = ["CONTROL_NBYTES", "CONTROL_NBYTES_MIN", "Export", "Rule", "clip", "validate"]


class Export(Protocol):
    """What the rules ask of a disk; :class:`~protocol.vdisk.attributes.DiskAttributes` is one."""

    @property
    def operations(self) -> int:
        """The mask the client was told."""

    @property
    def block_size(self) -> int:
        """Bytes of a block."""

    @property
    def size_blocks(self) -> int:
        """Blocks of the disk."""


CONTROL_NBYTES: Final[Mapping[int, int]] = {
    Operation.FLUSH: 0,
    Operation.GET_WCE: WCE_NBYTES,
    Operation.SET_WCE: WCE_NBYTES,
    Operation.GET_VTOC: VTOC_NBYTES,
    Operation.SET_VTOC: VTOC_NBYTES,
    Operation.GET_DISKGEOM: GEOMETRY_NBYTES,
    Operation.SET_DISKGEOM: GEOMETRY_NBYTES,
    Operation.RESET: 0,
    Operation.GET_ACCESS: ACCESS_NBYTES,
    Operation.SET_ACCESS: ACCESS_NBYTES,
    Operation.GET_CAPACITY: CAPACITY_NBYTES,
}
"""``nbytes`` that a control operation must have. Source: Solaris vds.c, the ioctl table."""

CONTROL_NBYTES_MIN: Final[Mapping[int, int]] = {
    Operation.SCSICMD: SCSI_NBYTES_MIN,
    Operation.GET_EFI: EFI_NBYTES_MIN,
    Operation.SET_EFI: EFI_NBYTES_MIN,
}
"""``nbytes`` that a control operation has at least. Source: Solaris vds.c, the ioctl table."""

Check: TypeAlias = Callable[[int, int, int, Export], bool]  # operation, slice, nbytes, export


class Rule(NamedTuple):
    """One reason to refuse: ``applies`` says whether, ``status`` is the answer."""

    status: WireErrno
    reason: str
    applies: Check


def _not_offered(operation: int, slice: int, nbytes: int, export: Export) -> bool:
    return not export.operations >> operation & 1


def _wrong_length(operation: int, slice: int, nbytes: int, export: Export) -> bool:
    if operation in CONTROL_NBYTES:
        return nbytes != CONTROL_NBYTES[operation]
    return nbytes < CONTROL_NBYTES_MIN.get(operation, 0)


def _no_such_slice(operation: int, slice: int, nbytes: int, export: Export) -> bool:
    return operation in BLOCK_IO and slice != SLICE_NONE and slice >= SLICES


def _nothing_asked(operation: int, slice: int, nbytes: int, export: Export) -> bool:
    return operation in BLOCK_IO and nbytes == 0


def _unlabelled(operation: int, slice: int, nbytes: int, export: Export) -> bool:
    return operation in BLOCK_IO and slice != SLICE_NONE


RULES: Final = (  # in this order; the first that applies decides
    Rule(WireErrno.ENOTSUP, "operation not offered, or unknown", _not_offered),
    Rule(WireErrno.EINVAL, "length is not that of the operation", _wrong_length),
    Rule(WireErrno.EINVAL, "no such slice", _no_such_slice),
    Rule(WireErrno.EINVAL, "I/O of no bytes", _nothing_asked),
    Rule(WireErrno.EIO, "slice of a disk without a label", _unlabelled),
)


def validate(operation: int, slice: int, addr: int, nbytes: int, export: Export) -> int:
    """Return the status that refuses the request, or 0: then execute it, I/O as far as :func:`clip` says.

    ``addr`` is in blocks and refuses nothing: a range beyond the end is cut short. The slice of anything but
    block I/O is ignored.
    """
    if operation in BLOCK_IO and slice == SLICE_NONE and nbytes and export.operations >> operation & 1:
        return 0  # the data path: what no rule applies to
    return next((int(rule.status) for rule in RULES if rule.applies(operation, slice, nbytes, export)), 0)


def clip(addr: int, nbytes: int, export: Export) -> int:
    """Return how many bytes of the range exist: ``nbytes``, fewer if it crosses the end, 0 beyond it.

    Both cases are status 0. Source: Solaris vds.c, vd_dskimg_rw.
    """
    return max(0, min(nbytes, (export.size_blocks - addr) * export.block_size))
