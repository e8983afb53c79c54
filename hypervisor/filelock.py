"""Who may write a backend: one lock between all our programs, kept as long as the descriptor is open.

vds locks what it serves; ``vdc copy`` locks the file or device that it writes, so that it never overwrites
a disk in use. An open file description lock on one byte far behind any label: exclusive for a writer, shared
for a reader and for writers that said ``share``. It is advisory: it holds programs of ours apart, nothing
else. The byte is not one of those that QEMU locks (100 to 299), so its tools may look at an image that we
serve.

Source: Linux fcntl(2), "Open file description locks"; proc(5), /proc/pid/fdinfo, ``lock:`` lines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["lock"]

LOCK_BYTE: Final = 0x4C446F6D
"""The byte that is locked, ``LDom``; it need not exist."""
UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What file systems without locks say."""

_FLOCK: Final = struct.Struct("hhqqi4x")
"""``struct flock`` of a 64-bit Linux: type, whence, start, length, pid. A kernel structure, not the wire's.
"""


def lock(fd: int, path: str, *, exclusive: bool) -> bool:
    """Lock the file or device behind ``fd``, which ``path`` names in messages.

    ``exclusive`` needs a descriptor open for writing. Returns False where the file system has no locks.

    Raises: OSError (EBUSY: another program of ours has it; the sentence names it if it can be found).
    """
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, LOCK_BYTE, 1, 0))
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return False
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise OSError(errno.EBUSY, f"in use by {_holders(fd)}", path) from error
    return True


def _holders(fd: int) -> str:
    """Name the processes that hold our lock on the file behind ``fd``."""
    pids = sorted(
        {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _holds(pid, os.fstat(fd))}
    )
    if not pids:
        return "another server, whose process cannot be seen from here"
    return " and ".join(f"process {pid} ({_command(pid)})" for pid in pids)


def _holds(pid: int, status: os.stat_result) -> bool:
    """Tell whether ``pid`` has the file of ``status`` open with our lock on it."""
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(fields[-3:] == [inode, str(LOCK_BYTE), str(LOCK_BYTE)] for fields in _lock_lines(pid))


def _lock_lines(pid: int) -> Iterator[list[str]]:
    """Yield the fields of each lock that a process holds; nothing if it is gone or not ours to see."""
    try:
        entries = list(Path(f"/proc/{pid}/fdinfo").iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            lines = entry.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            continue
        yield from (line.split() for line in lines if line.startswith("lock:"))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "gone by now"
