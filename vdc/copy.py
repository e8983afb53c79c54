"""Copying between virtual disks, files and block devices: :func:`copy`.

A handful of workers each take the next piece, read it and write it, so that the server always has several
requests. The memory a piece goes through is shared with a virtual disk where there is one: between a disk and
a file the only copies are those that the kernel makes. Whatever fails, it is said at which offset, and
nothing is removed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

from protocol.errors import DiskError
from vdc.disk import open as open_disk
from vdc.sides import CopyDisk, DiskSide, FileSide, Room, Side
from vdc.uri import SCHEME

__all__ = ["DEFAULT_PARALLEL", "Advance", "CopyError", "Opener", "copy"]

DEFAULT_PARALLEL: Final = 8
"""Pieces in flight: half of the memory that a disk shares, twice what keeps two processors busy."""
THREADS: Final = 4
"""File requests that run at once."""

Advance = Callable[[int], None]
"""Told how many bytes are done, each time."""

Opener = Callable[[str], Awaitable[CopyDisk]]
"""How a disk is opened from its URI."""


class CopyError(OSError):
    """A copy that ended early: what was being done, at which ``offset``, and why (the cause is chained)."""

    def __init__(self, cause: OSError, doing: str, name: str, offset: int) -> None:
        why = os.strerror(cause.errno or 0) if isinstance(cause, DiskError) else cause.strerror
        super().__init__(cause.errno, f"{doing} {name} at offset {offset}: {why}")
        self.offset = offset

    def __str__(self) -> str:
        return str(self.strerror)


async def copy(
    source: str,
    target: str,
    *,
    parallel: int = DEFAULT_PARALLEL,
    verify: bool = False,
    opener: Opener = open_disk,
    started: Callable[[str, int], Advance] | None = None,
) -> int:
    """Copy all of ``source`` over the beginning of ``target`` and flush it; returns the bytes copied.

    Each is a vdisk URI, a regular file or a block device. A file as target is made, or emptied first, and
    holes are left where the source has zeroes; a disk or device must be large enough, and keeps what lies
    behind. ``verify`` then reads both and compares. ``started`` is called with "copy" or "verify" and the
    bytes to do before each pass.

    Raises: CopyError (a piece failed, or differs: its offset; ``target`` is left as it is, incomplete);
        OSError (before anything was written: cannot be opened, too small, read-only, in use by a server, both
        the same); ConfigError (a wrong URI).
    """
    async with AsyncExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS, "vdc-copy"))
        origin = await _open_source(source, opener, pool, stack)
        end = await _open_target(target, origin, opener, pool, stack)
        advance = started("copy", origin.size) if started else _ignore
        await _in_parallel(_copy_piece, origin, end, parallel, advance)
        try:
            await end.flush()
        except OSError as cause:
            raise CopyError(cause, "flushing", end.name, 0) from cause
        if verify:
            advance = started("verify", origin.size) if started else _ignore
            await _in_parallel(_compare_piece, origin, end, parallel, advance)
        return origin.size


_Work = Callable[[Side, Side, int, int, Room], Awaitable[None]]


async def _in_parallel(work: _Work, origin: Side, end: Side, parallel: int, advance: Advance) -> None:
    piece, block = min(origin.piece, end.piece), max(origin.block_size, end.block_size)
    piece = max(piece // block, 1) * block
    offsets = iter(range(0, origin.size, piece))
    workers = min(parallel, -(-origin.size // piece))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(_worker(work, origin, end, offsets, piece, advance))
    except ExceptionGroup as group:
        failures = [failure for failure in group.exceptions if isinstance(failure, CopyError)]
        if len(failures) < len(group.exceptions):
            raise
        lowest = min(failures, key=lambda failure: failure.offset)
        raise lowest from lowest.__cause__


async def _worker(
    work: _Work, origin: Side, end: Side, offsets: Iterator[int], piece: int, advance: Advance
) -> None:
    owner = end if isinstance(end, DiskSide) and not isinstance(origin, DiskSide) else origin
    buffer = await owner.room(piece)
    try:
        room = Room(memoryview(bytearray(piece))) if buffer is None else Room(buffer.view, buffer, owner)
        for offset in offsets:
            nbytes = min(piece, origin.size - offset)
            await work(origin, end, offset, nbytes, room)
            advance(nbytes)
    finally:
        if buffer is not None:
            buffer.release()


async def _copy_piece(origin: Side, end: Side, offset: int, nbytes: int, room: Room) -> None:
    await _read(origin, offset, nbytes, room)
    try:
        await end.write(offset, nbytes, room)
    except OSError as cause:
        raise CopyError(cause, "writing", end.name, offset) from cause


async def _compare_piece(origin: Side, end: Side, offset: int, nbytes: int, room: Room) -> None:
    # A disk reads into the memory that it lent: the workers may hold all that it has.
    lender, other = (end, origin) if room.owner is end else (origin, end)
    await _read(lender, offset, nbytes, room)
    data = bytearray(len(room.view))
    await _read(other, offset, nbytes, Room(memoryview(data)))
    if not data.startswith(room.view[:nbytes]):  # in place, and faster than comparing two views
        at = next(index for index in range(nbytes) if data[index] != room.view[index])
        difference = OSError(errno.EIO, f"differs from {origin.name}")
        raise CopyError(difference, "verifying", end.name, offset + at)


async def _read(side: Side, offset: int, nbytes: int, room: Room) -> None:
    try:
        await side.read(offset, nbytes, room)
    except OSError as cause:
        raise CopyError(cause, "reading", side.name, offset) from cause


# Opening ---------------------------------------------------------------------------------------------


async def _open_disk(name: str, opener: Opener, stack: AsyncExitStack) -> DiskSide:
    disk = await opener(name)
    stack.push_async_callback(disk.close)
    return DiskSide(name, disk)


def _open_file(name: str, flags: int, pool: ThreadPoolExecutor, stack: AsyncExitStack) -> FileSide:
    fd = os.open(name, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    stack.callback(os.close, fd)
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
        raise OSError(errno.EINVAL, "neither a regular file nor a block device", name)
    return FileSide(name, fd, pool)


async def _open_source(name: str, opener: Opener, pool: ThreadPoolExecutor, stack: AsyncExitStack) -> Side:
    if _is_uri(name):
        return await _open_disk(name, opener, stack)
    return _open_file(name, os.O_RDONLY, pool, stack)


async def _open_target(
    name: str, origin: Side, opener: Opener, pool: ThreadPoolExecutor, stack: AsyncExitStack
) -> Side:
    """Open ``name`` for writing; nothing is changed before everything was checked."""
    end: Side
    if _is_uri(name):
        end = disk = await _open_disk(name, opener, stack)
        if disk.disk.read_only:
            raise OSError(errno.EROFS, "read-only", name)
    else:
        end = _open_file(name, os.O_RDWR | _creation_flags(name), pool, stack)
    if end.is_same(origin):
        raise OSError(errno.EINVAL, "source and target are the same", name)
    if isinstance(end, FileSide):
        end.lock()
    if isinstance(end, FileSide) and stat.S_ISREG(end.status.st_mode):
        end.truncate(origin.size)
    elif end.size < origin.size:
        raise OSError(errno.ENOSPC, f"too small: it has {end.size} bytes, the source has {origin.size}", name)
    return end


def _creation_flags(name: str) -> int:
    """Make a file that is missing; a block device is opened exclusively, which fails while it is mounted."""
    try:
        kind = os.stat(name).st_mode
    except FileNotFoundError:
        return os.O_CREAT
    return os.O_EXCL if stat.S_ISBLK(kind) else 0


def _is_uri(name: str) -> bool:
    return name.startswith(f"{SCHEME}:")


def _ignore(_nbytes: int) -> None:
    """Nobody wants to know how far it is."""
