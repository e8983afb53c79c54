"""The two sides of a copy: a virtual disk, or a file or block device, behind one small interface."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from hypervisor.filelock import lock
from vdc.buffers import Buffer

__all__ = ["PIECE", "CopyDisk", "DiskSide", "FileSide", "Room", "Side"]

PIECE: Final = 1 << 20
"""Bytes of one request; where the server allows less, its maximum."""
HOLE: Final = 4096
"""Zeroes are left out of a new file in units of this many bytes, a page of nearly every file system."""

_ZEROES: Final = bytes(PIECE)


class CopyDisk(Protocol):
    """What copying needs of :class:`vdc.Disk`."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def block_size(self) -> int:
        """Bytes of a logical block."""

    @property
    def max_xfer(self) -> int:
        """Bytes of the longest request, and of the longest buffer."""

    @property
    def read_only(self) -> bool:
        """Writes would be refused."""

    @property
    def instance(self) -> str:
        """The volume's identity."""

    async def buffer(self, nbytes: int) -> Buffer:
        """Memory shared with the server."""

    async def pread(self, offset: int, nbytes: int) -> bytes:
        """Read whole blocks."""

    async def preadv_into(self, offset: int, targets: memoryview | Buffer) -> None:
        """Read whole blocks into memory."""

    async def pwrite(self, offset: int, data: bytearray | memoryview | Buffer) -> None:
        """Write whole blocks."""

    async def flush(self) -> None:
        """Make what was written stable."""

    async def close(self) -> None:
        """End the disk."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for one piece; ``buffer`` is what ``owner`` can use without a copy."""

    view: memoryview
    buffer: Buffer | None = None
    owner: Side | None = None

    def given_to(self, side: Side, nbytes: int) -> memoryview | Buffer:
        """The first ``nbytes`` in the form in which ``side`` takes them best."""
        if self.buffer is not None and side is self.owner and nbytes == len(self.view):
            return self.buffer
        return self.view[:nbytes]


class Side(ABC):
    """One end of a copy. Offsets are multiples of ``piece``; only the last length may be odd."""

    name: str
    size: int
    block_size: int
    piece: int

    @abstractmethod
    async def room(self, nbytes: int) -> Buffer | None:
        """Memory that this side reads and writes without a copy, if it has such."""

    @abstractmethod
    async def read(self, offset: int, nbytes: int, room: Room) -> None:
        """Fill the first ``nbytes`` of ``room``."""

    @abstractmethod
    async def write(self, offset: int, nbytes: int, room: Room) -> None:
        """Write the first ``nbytes`` of ``room``."""

    @abstractmethod
    async def flush(self) -> None:
        """Make what was written stable."""

    @abstractmethod
    def is_same(self, other: Side) -> bool:
        """Whether writing to the one changes the other."""


class DiskSide(Side):
    """A virtual disk."""

    def __init__(self, name: str, disk: CopyDisk) -> None:
        self.name = name
        self.disk = disk
        self.size = disk.size
        self.block_size = disk.block_size
        self.piece = min(PIECE, disk.max_xfer)

    async def room(self, nbytes: int) -> Buffer | None:
        return await self.disk.buffer(nbytes) if nbytes <= self.disk.max_xfer else None

    async def read(self, offset: int, nbytes: int, room: Room) -> None:
        odd = nbytes % self.block_size
        if nbytes > odd:
            await self.disk.preadv_into(offset, room.given_to(self, nbytes - odd))
        if odd:
            last = await self.disk.pread(offset + nbytes - odd, self.block_size)
            room.view[nbytes - odd : nbytes] = last[:odd]

    async def write(self, offset: int, nbytes: int, room: Room) -> None:
        odd = nbytes % self.block_size
        if nbytes > odd:
            await self.disk.pwrite(offset, room.given_to(self, nbytes - odd))
        if odd:  # keep what follows in the last block: it is not ours
            last = bytearray(await self.disk.pread(offset + nbytes - odd, self.block_size))
            last[:odd] = room.view[nbytes - odd : nbytes]
            await self.disk.pwrite(offset + nbytes - odd, last)

    async def flush(self) -> None:
        await self.disk.flush()

    def is_same(self, other: Side) -> bool:
        return isinstance(other, DiskSide) and other.disk.instance == self.disk.instance


class FileSide(Side):
    """A regular file or block device; its system calls run in threads, since any of them may block."""

    def __init__(self, name: str, fd: int, pool: ThreadPoolExecutor) -> None:
        self.name = name
        self.piece = PIECE
        self.block_size = 1
        self.status = os.fstat(fd)
        self.size = os.lseek(fd, 0, os.SEEK_END)
        self.is_sparse = False
        """Nothing but zeroes is there yet: zeroes need not be written."""
        self._fd = fd
        self._pool = pool

    async def room(self, nbytes: int) -> Buffer | None:
        return None

    async def read(self, offset: int, nbytes: int, room: Room) -> None:
        await self._run(lambda: _read_fully(self._fd, room.view[:nbytes], offset))

    async def write(self, offset: int, nbytes: int, room: Room) -> None:
        write = _write_sparsely if self.is_sparse else _write_fully
        await self._run(lambda: write(self._fd, room.view[:nbytes], offset))

    async def flush(self) -> None:
        await self._run(lambda: os.fsync(self._fd))

    def lock(self) -> None:
        """Keep servers away until the end of the copy. Raises: OSError (EBUSY: one has it, and which)."""
        lock(self._fd, self.name, exclusive=True)

    def truncate(self, size: int) -> None:
        """Make it a file of ``size`` zeroes."""
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, size)
        self.size = size
        self.is_sparse = True

    def is_same(self, other: Side) -> bool:
        if not isinstance(other, FileSide):
            return False
        if stat.S_ISBLK(self.status.st_mode) and stat.S_ISBLK(other.status.st_mode):
            return self.status.st_rdev == other.status.st_rdev
        return os.path.samestat(self.status, other.status)

    async def _run(self, call: Callable[[], None]) -> None:
        """Run ``call`` in a thread; even when cancelled wait for its end, for it uses the caller's memory."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, call)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise


# System calls, in threads -----------------------------------------------------------------------------


def _read_fully(fd: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(fd, [view], offset)
        if not count:
            raise OSError(errno.EIO, f"ends at {offset}: it was truncated meanwhile")
        view = view[count:]
        offset += count


def _write_fully(fd: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count


def _write_sparsely(fd: int, view: memoryview, offset: int) -> None:
    """Write all but the zeroes, which are there already."""
    if _ZEROES.startswith(view):
        return
    start = 0
    for hole in range(0, len(view), HOLE):
        if _ZEROES.startswith(view[hole : hole + HOLE]):
            _write_fully(fd, view[start:hole], offset + start)
            start = hole + HOLE
    _write_fully(fd, view[start:], offset + start)
