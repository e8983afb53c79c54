"""A capture file of this process: opened once, written to frame by frame, given up rather than waited for.

Every frame is one system call, so that what happened before a kill is in the file. What cannot be written is
not worth a request: the first error ends the capture, is logged, and nothing else notices.

Source: the bytes are those of :mod:`protocol.capture`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from time import time_ns
from types import TracebackType
from typing import Final

from protocol.capture import (
    Direction,
    How,
    Note,
    NoteKind,
    build_frame,
    build_interface,
    build_note,
    build_section,
)
from protocol.errors import ConfigError

from .filelock import lock

__all__ = ["Capture", "Tap", "check_capture"]

COMMENT: Final = "LDC packets (frames of 64 bytes) and notes about descriptors (all others)"

_NO_READER: Final = "a FIFO that nobody reads, or a socket"


def check_capture(
    path: str | None, taken: Iterable[tuple[str, str]] = (), *, file: str | None = None
) -> None:
    """Check where a capture is to go, None nowhere; ``taken`` are paths of other things, and what these are.

    Nothing is opened. ``file`` is the configuration file that says so.

    Raises: ConfigError (an empty path; one of ``taken``, also under another name, and before it is made).
    """
    if path is None:
        return
    if not path:
        raise ConfigError(file, "capture", path, "must be the path of a file")
    for other, what in taken:
        if _is_same(path, other):
            raise ConfigError(file, "capture", path, f"this is {what}, it cannot be the capture")


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # at least one of them does not exist
        return os.path.realpath(path) == os.path.realpath(other)


class Capture:
    """The capture file at ``path``, made or overwritten; ``program`` is noted as its writer.

    A FIFO with a reader or a terminal will do as well, but is not waited for: a full pipe is an error like a
    full disk. Only this process can have the file as its capture, and no disk of ours is overwritten.

    Raises: OSError with the path (not writable, a directory, a block device, in use; a FIFO nobody reads).
    """

    def __init__(
        self, path: str | os.PathLike[str], program: str, clock: Callable[[], int] = time_ns
    ) -> None:
        self.path: Final = os.fspath(path)
        self._clock: Final = clock
        self._log: Final = logging.getLogger(program)
        self._interfaces = 0
        self._size = 0  # of the whole blocks in the file
        self._is_file = False
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
            self._prepare()
            self._write_all([build_section(_version_of(program), COMMENT)])
        except OSError as error:
            self.close()
            why = _NO_READER if error.errno == errno.ENXIO else error.strerror
            raise OSError(error.errno, f"capture: {why}", self.path) from error

    def _prepare(self) -> None:
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISBLK(mode):
            raise OSError(errno.ENOTSUP, "a block device is no place for a capture")
        self._is_file = stat.S_ISREG(mode)
        if self._is_file:
            lock(self._fd, self.path, exclusive=True)  # before anything of it is lost
            os.ftruncate(self._fd, 0)

    @property
    def is_open(self) -> bool:
        """Whether frames are still written: not closed, and no write has failed."""
        return self._fd >= 0

    def tap(self, name: str, description: str) -> Tap:
        """Add an interface, for a channel, and return what notes its frames; :class:`Tap` never raises."""
        number = self._interfaces
        self._interfaces += 1
        self._write([build_interface(name, description)])
        return Tap(self, number)

    def frame(self, interface: int, direction: Direction, data: bytes) -> None:
        """Write one frame with the time that it is now. Never raises."""
        if self._fd >= 0:
            self._write(build_frame(interface, self._clock(), direction, data))

    def _write(self, parts: Sequence[bytes]) -> None:
        if self._fd < 0:
            return
        try:
            self._write_all(parts)
        except OSError as error:
            if self._is_file:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)  # what there is stays whole
            self.close()
            self._log.error("%s: the capture ends here: %s", self.path, error.strerror)

    def _write_all(self, parts: Sequence[bytes]) -> None:
        nbytes = sum(map(len, parts))
        written = os.writev(self._fd, parts)
        while written < nbytes:  # a disk that is nearly full, a signal: the next write tells
            written += os.write(self._fd, b"".join(parts)[written:])
        self._size += nbytes

    def close(self) -> None:
        """End the capture; frames are dropped from then on. Harmless when done twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Tap:
    """What one channel says to a capture, as seen from this end. Nothing here raises."""

    __slots__ = ("_capture", "_interface")

    def __init__(self, capture: Capture, interface: int) -> None:
        self._capture = capture
        self._interface = interface

    def packet(self, direction: Direction, packet: bytes) -> None:
        """An LDC packet of 64 bytes was received, or is about to be sent."""
        self._capture.frame(self._interface, direction, packet)

    def queue(self, direction: Direction, nentries: int) -> None:
        """A receive queue was (re)configured: ours is OUTBOUND, the peer's INBOUND."""
        note = Note(NoteKind.QUEUE_CONFIGURED, How.MESSAGE, nentries, 0)
        self._capture.frame(self._interface, direction, build_note(note))

    def entry(
        self, direction: Direction, kind: NoteKind, index: int, seq_num: int | None, entry: bytes
    ) -> None:
        """Something happened to ring entry ``index``, which is ``entry`` now.

        ``seq_num`` is that of the message it belongs to, None for polling.
        """
        how = How.POLLING if seq_num is None else How.MESSAGE
        note = Note(kind, how, index, seq_num or 0, entry)
        self._capture.frame(self._interface, direction, build_note(note))


def _version_of(program: str) -> str:
    from importlib import metadata  # late: only a capture pays for it

    try:
        return f"{program} {metadata.version('ldoms-vdisk')}"
    except metadata.PackageNotFoundError:
        return program
