"""A block device as a disk: loop devices, partitions, whole disks, logical volumes.

Source: Linux include/uapi/linux/fs.h, BLK*; block/ioctl.c.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import struct
from typing import ClassVar, Final

from vds.backends.base import Spec
from vds.backends.descriptor import DescriptorBackend, lock_for, open_path

__all__ = ["DeviceBackend"]

BLKROGET: Final = 0x125E
"""Read-only? int."""
BLKSSZGET: Final = 0x1268
"""Logical block size, int."""
BLKGETSIZE64: Final = 0x80081272
"""Size in bytes, u64."""
BLKGETDISKSEQ: Final = 0x80081280
"""Which attachment of a device number this is, u64: a loop device set up anew has another. Linux 5.15."""

_INT: Final = struct.Struct("i")
_U64: Final = struct.Struct("Q")


class DeviceBackend(DescriptorBackend):
    """The block device at a path, with its own logical block size."""

    kind: ClassVar[str] = "device"

    def __init__(self, spec: Spec) -> None:
        """Open and lock ``spec.target``. Raises: OSError with a sentence and the path."""
        fd = open_path(spec)
        try:
            status = os.fstat(fd)
            if not stat.S_ISBLK(status.st_mode):
                raise OSError(errno.ENOTBLK, "not a block device", spec.target)
            block_size = _ask(fd, BLKSSZGET, _INT)
            size = _ask(fd, BLKGETSIZE64, _U64)
            if not size or size < block_size:
                raise OSError(errno.ENOMEDIUM, "the device is empty", spec.target)
            if not spec.read_only and _ask(fd, BLKROGET, _INT):
                raise OSError(errno.EROFS, "the device is read-only: give 'ro'", spec.target)
            lock_for(spec, fd)
            size -= size % block_size
            super().__init__(fd, spec, size=size, block_size=block_size, instance=_instance(fd, status))
        except OSError:
            os.close(fd)
            raise


def _ask(fd: int, request: int, answer: struct.Struct) -> int:
    value: int
    (value,) = answer.unpack(fcntl.ioctl(fd, request, bytes(answer.size)))
    return value


def _instance(fd: int, status: os.stat_result) -> bytes:
    try:
        sequence = _ask(fd, BLKGETDISKSEQ, _U64)
    except OSError:
        sequence = 0
    identity = struct.pack("=QQ", status.st_rdev, sequence)
    return hashlib.blake2b(identity, digest_size=16, person=b"vds device").digest()
