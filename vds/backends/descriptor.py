"""What files and block devices have in common: positioned, vectored I/O on a descriptor.

Reads that hit the page cache are done without a thread: where the file system answers RWF_NOWAIT the kernel
itself says when a read would block; on tmpfs, which refuses the flag, every page is in memory anyway. With
O_DIRECT every request waits for the medium, so nothing is tried without a thread.

Source: Linux preadv2(2), RWF_NOWAIT; open(2), O_DIRECT; proc(5), mountinfo.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Final, TypeAlias

from hypervisor.filelock import lock
from vds.backends.base import Backend, Spec

__all__ = ["DescriptorBackend", "lock_for", "open_path"]

IOV_MAX: Final = os.sysconf("SC_IOV_MAX")
"""Buffers that one call takes."""
MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})

Transfer: TypeAlias = Callable[[int, Sequence[memoryview], int], int]
TryRead: TypeAlias = Callable[[Sequence[memoryview], int], int]

log = logging.getLogger("vds")


def open_path(spec: Spec) -> int:
    """Return a descriptor of the file or device at ``spec.target``. Raises: OSError."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDONLY if spec.read_only else os.O_RDWR)
    try:
        return os.open(spec.target, flags | (os.O_DIRECT if spec.direct else 0))
    except OSError as error:
        if spec.direct and error.errno == errno.EINVAL:
            raise OSError(
                errno.EINVAL, "this file system cannot bypass its cache: leave 'direct' out", spec.target
            ) from error
        if not spec.read_only and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OSError(
                error.errno,
                f"{error.strerror} to open it for writing; with 'ro' it is only read",
                spec.target,
            ) from error
        raise


def lock_for(spec: Spec, fd: int) -> None:
    """Lock ``fd`` as ``spec`` wants it. Raises: OSError (EBUSY: in use, and by whom)."""
    try:
        locked = lock(fd, spec.target, exclusive=not spec.read_only and not spec.share)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        sentence = f"{error.strerror}; with 'share' on both sides writers may share"
        raise OSError(errno.EBUSY, sentence, spec.target) from error
    if not locked:
        log.warning("%s: this file system has no locks: nothing keeps a second server away", spec.target)


class DescriptorBackend(Backend):
    """Bytes behind a descriptor, which it owns. Subclasses know what it is and how large."""

    def __init__(self, fd: int, spec: Spec, *, size: int, block_size: int, instance: bytes) -> None:
        """Raises: OSError (EINVAL: ``direct`` does not work with blocks of this size)."""
        self._fd = fd
        self.size = size
        self.block_size = block_size
        self.read_only = spec.read_only
        self.instance = instance
        self.direct = spec.direct
        self.quick_writes = not spec.direct
        if spec.direct:
            self._try_direct(spec)
        self._try = self._probe()

    def _try_direct(self, spec: Spec) -> None:
        unit = spec.block_size or self.block_size
        with (
            closing(mmap.mmap(-1, max(unit, mmap.PAGESIZE))) as page,
            memoryview(page) as whole,
            whole[:unit] as block,
        ):
            try:
                os.preadv(self._fd, [block], 0)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                sentence = (
                    f"cannot do 'direct' in blocks of {unit}: give 'blocksize=4096' or leave 'direct' out"
                )
                raise OSError(errno.EINVAL, sentence, spec.target) from error

    def _probe(self) -> TryRead:
        """Choose how :meth:`try_preadv` works, once."""
        if self.direct:
            return _would_block
        try:
            os.preadv(self._fd, [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            pass
        except OSError:
            return _reader(self._fd, 0) if _in_memory(self._fd) else _would_block
        return _reader(self._fd, os.RWF_NOWAIT)

    def try_preadv(self, buffers: Sequence[memoryview], offset: int) -> int:
        """Read what is in memory."""
        return self._try(buffers, offset)

    def preadv(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Fill ``buffers``; EIO if the file has become shorter than it was."""
        self._transfer(os.preadv, buffers, offset)

    def pwritev(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Write ``buffers``, however many calls that takes."""
        self._transfer(os.pwritev, buffers, offset)

    def flush(self) -> None:
        """Data, and what of the metadata is needed to find it, to the medium. Source: Linux fdatasync(2)."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the descriptor, and with it drop the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _transfer(self, call: Transfer, buffers: Sequence[memoryview], offset: int) -> None:
        nbytes = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        try:
            done = call(self._fd, buffers if len(buffers) <= IOV_MAX else buffers[:IOV_MAX], offset)
        except OSError as error:
            if not self.direct or error.errno != errno.EINVAL:
                raise
            self._bounce(call, buffers, offset, nbytes)
            return
        if done != nbytes:
            self._go_on(call, buffers, offset, done, nbytes)

    def _go_on(
        self, call: Transfer, buffers: Sequence[memoryview], offset: int, done: int, nbytes: int
    ) -> None:
        """The rest of a transfer that the kernel cut short."""
        step = done
        while done < nbytes:
            if not step:
                raise OSError(errno.EIO, f"the backend ends before byte {offset + nbytes}")
            step = call(self._fd, _rest(buffers, done), offset + done)
            done += step

    def _bounce(self, call: Transfer, buffers: Sequence[memoryview], offset: int, nbytes: int) -> None:
        """Through memory that is aligned as O_DIRECT wants it."""
        with closing(mmap.mmap(-1, nbytes)) as pages, memoryview(pages) as whole:
            if call is os.pwritev:
                _copy(whole, buffers, to_buffers=False)
            done = call(self._fd, [whole], offset)
            if done != nbytes:
                raise OSError(errno.EIO, f"the backend ends before byte {offset + nbytes}")
            if call is os.preadv:
                _copy(whole, buffers, to_buffers=True)


def _would_block(buffers: Sequence[memoryview], offset: int) -> int:
    return -1


def _reader(fd: int, flags: int) -> TryRead:
    """Return a function that reads with ``flags``; a closure, since this is the data path's most frequent
    call.
    """
    if not flags:
        return partial(os.preadv, fd)
    preadv = os.preadv

    def read(buffers: Sequence[memoryview], offset: int) -> int:
        return preadv(fd, buffers, offset, flags)

    return read


def _in_memory(fd: int) -> bool:
    """Tell whether the file system of ``fd`` keeps its files in memory."""
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            mount, _, source = line.partition(" - ")
            if mount.split()[2] == number:
                return source.split()[0] in MEMORY_FILE_SYSTEMS
    return False


def _rest(buffers: Sequence[memoryview], done: int) -> list[memoryview]:
    """Return what is left of ``buffers`` after ``done`` bytes, as many as one call takes."""
    rest = []
    for buffer in buffers:
        if done < len(buffer):
            rest.append(buffer[done:])
            done = 0
        else:
            done -= len(buffer)
        if len(rest) == IOV_MAX:
            break
    return rest


def _copy(whole: memoryview, buffers: Sequence[memoryview], *, to_buffers: bool) -> None:
    at = 0
    for buffer in buffers:
        end = at + len(buffer)
        if to_buffers:
            buffer[:] = whole[at:end]
        else:
            whole[at:end] = buffer
        at = end
