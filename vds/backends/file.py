"""A regular file as a disk: a raw image."""

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

__all__ = ["FileBackend"]

SECTOR: Final = 512
FS_IOC_GETVERSION: Final = 0x80087601
"""The generation of an inode, which tells a new file from a deleted one of the same number. Source: Linux
fs.h.
"""


class FileBackend(DescriptorBackend):
    """The image at a path. Its size is that of the moment it is opened, rounded down to 512."""

    kind: ClassVar[str] = "file"

    def __init__(self, spec: Spec) -> None:
        """Open and lock ``spec.target``. Raises: OSError with a sentence and the path."""
        fd = open_path(spec)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "neither a file nor a block device", spec.target)
            if status.st_size < SECTOR:
                sentence = f"an image has at least {SECTOR} bytes, this one has {status.st_size}"
                raise OSError(errno.EINVAL, sentence, spec.target)
            lock_for(spec, fd)
            super().__init__(
                fd,
                spec,
                size=status.st_size - status.st_size % SECTOR,
                block_size=SECTOR,
                instance=_instance(fd, status),
            )
        except OSError:
            os.close(fd)
            raise


def _instance(fd: int, status: os.stat_result) -> bytes:
    try:
        generation = bytes(fcntl.ioctl(fd, FS_IOC_GETVERSION, bytes(8)))
    except OSError:
        generation = bytes(8)  # tmpfs has none
    identity = struct.pack("=QQ", status.st_dev, status.st_ino) + generation
    return hashlib.blake2b(identity, digest_size=16, person=b"vds file").digest()
