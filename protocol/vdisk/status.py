"""Status numbers on the wire: Solaris errno values, which above 34 are not those of this host.

Source: Solaris sys/errno.h; sys/vdsk_common.h, vd_dring_payload.status.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

__all__ = ["WireErrno", "from_wire", "to_wire"]


class WireErrno(IntEnum):
    """What ``status`` may hold. Source: Solaris sys/errno.h; vds.c for who uses which."""

    OK = 0
    EPERM = 1
    ENOENT = 2  # no device id
    EIO = 5  # backend I/O error; slice I/O without a label
    ENXIO = 6
    EBADF = 9
    EAGAIN = 11
    EACCES = 13  # reservation conflict
    EBUSY = 16
    ENODEV = 19
    EINVAL = 22  # slice or length that cannot be
    ENOTTY = 25
    ENOSPC = 28
    EROFS = 30  # write to a read-only backend
    ECANCELED = 47
    ENOTSUP = 48  # operation not offered
    ENODATA = 61
    EOVERFLOW = 79


_FROM_WIRE: Final[Mapping[int, int]] = {code: getattr(errno, code.name) if code else 0 for code in WireErrno}
_TO_WIRE: Final = {_FROM_WIRE[code]: code for code in WireErrno}


def to_wire(linux_errno: int) -> WireErrno:
    """Return the wire's number for an errno of this host; one that the wire does not know becomes EIO."""
    return _TO_WIRE.get(linux_errno, WireErrno.EIO)


def from_wire(status: int) -> int:
    """Return this host's errno for a status of the wire; 0 stays 0, an unknown number becomes EIO.

    OpenBSD and Linux servers would send their own numbers; below 35 they are the same.
    """
    return _FROM_WIRE.get(status, errno.EIO)
