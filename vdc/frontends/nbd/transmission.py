"""The second phase of an NBD connection: requests taken apart, checked, handed to the disk, answered.

No socket here: the connection gives :meth:`Transmission.receive_data` what arrived, reads a long write's data
straight into :attr:`Transmission.payload`, and sends what is put into the outbox. Requests run side by side
and are answered in the order in which the disk finishes them; a request is a callback, not a task.

Check, execute, complete stand apart: a handler checks and submits, what the disk calls back answers.

Source: NetworkBlockDevice ``doc/proto.md``, "Transmission phase", "Ordering of messages and writes", "Request
    types".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from vdc.blockdisk import BlockDisk, Done

from .outbox import Outbox
from .wire import (
    CHUNK,
    ERROR_BODY,
    MAX_PAYLOAD,
    READ_CHUNK,
    REQUEST,
    SIMPLE_REPLY,
    ChunkType,
    Command,
    CommandFlag,
    Export,
    Magic,
    to_nbd,
)

__all__ = ["ProtocolViolation", "Transmission"]

MAX_REQUESTS: Final = 256
"""Requests of one connection at the disk: twice the depth of the deepest client (the kernel's: 128)."""
MAX_BYTES: Final = 2 * MAX_PAYLOAD
"""Data of one connection in memory, asked for or queued to be sent. One request is always let in."""
MAX_SKIP: Final = 2 * MAX_PAYLOAD
"""A write longer than allowed is read past and refused; beyond this the connection ends."""
ZERO_STEP: Final = 1 << 20
ZERO_DEPTH: Final = 4
"""Zeroes are written in pieces of this many bytes, so many at a time: one request must not fill the ring."""

_ZEROES: Final = memoryview(bytes(ZERO_STEP))
_REQUEST_SIZE: Final = REQUEST.size
_REQUEST_MAGIC: Final = int(Magic.REQUEST)
_CHUNK_MAGIC: Final = int(Magic.CHUNK)
_SIMPLE_MAGIC: Final = int(Magic.SIMPLE_REPLY)
_DATA: Final = int(ChunkType.OFFSET_DATA)
_CHUNK_DONE: Final = 1
_READ: Final = int(Command.READ)
_WRITE: Final = int(Command.WRITE)
_DISC: Final = int(Command.DISC)
_FUA: Final = int(CommandFlag.FUA)
_NO_HOLE: Final = int(CommandFlag.NO_HOLE)
_DF: Final = int(CommandFlag.DF)
# Plain numbers, since looking up a member of an enum and masking with it cost more than parsing a request.

_pack_chunk, _pack_simple = READ_CHUNK.pack, SIMPLE_REPLY.pack

_Handler = Callable[[int, int, int, int], None]


class ProtocolViolation(Exception):
    """The client sent what cannot be answered: its connection ends."""


class Transmission:
    """The requests of one connection.

    Whatever is answered goes through ``outbox``, which tells the connection once a turn of the loop.
    """

    def __init__(self, disk: BlockDisk, export: Export, structured: bool, outbox: Outbox) -> None:
        self.running = 0
        self.is_disconnecting = False
        """The client said that it will send no more."""
        self.payload: memoryview | None = None
        """What is missing of a write's data: fill it from the socket, then call :meth:`payload_received`."""
        self._disk = disk
        self._size = export.size
        self._unaligned = export.block_size - 1
        self._read_only = export.read_only
        self._structured = structured
        self._outbox = outbox
        self._charged = 0
        self._skip = 0
        self._write: tuple[int, int, int, bytearray] | None = None
        self._bad_read_flags = ~(_FUA | _DF if structured else _FUA)
        self._handlers: dict[int, tuple[int, _Handler]] = {
            int(Command.FLUSH): (_FUA, self._flush),
            int(Command.WRITE_ZEROES): (_FUA | _NO_HOLE, self._write_zeroes),
        }

    @property
    def is_full(self) -> bool:
        """No further request is taken now; :meth:`receive_data` leaves it where it is."""
        return (
            self.running >= MAX_REQUESTS
            or self._charged + self._outbox.nbytes >= MAX_BYTES
            or self._outbox.is_full
        )

    def receive_data(self, buffer: memoryview, start: int, end: int) -> int:
        """Take whole requests from ``buffer[start:end]``; returns where the rest begins.

        The beginning of a write's data is taken too: ``payload`` is then what is still missing.
        Raises: ProtocolViolation.
        """
        unpack = REQUEST.unpack_from
        while not self.is_disconnecting and self.payload is None:
            if self._skip:
                step = min(self._skip, end - start)
                self._skip -= step
                start += step
            if end - start < _REQUEST_SIZE or self.is_full:
                break
            magic, flags, command, cookie, offset, length = unpack(buffer, start)
            if magic != _REQUEST_MAGIC:
                raise ProtocolViolation(f"request magic {magic:#010x}")
            start += _REQUEST_SIZE
            if command == _READ:
                self._read(flags, cookie, offset, length)
            elif command == _WRITE:
                start = self._begin_write(flags, cookie, offset, length, buffer, start, end)
            elif command == _DISC:
                self.is_disconnecting = True
            else:
                known, handler = self._handlers.get(command, (0, self._unknown))
                if flags & ~known:
                    handler = self._unknown
                handler(flags, cookie, offset, length)
        return start

    def payload_received(self) -> int:
        """``payload`` is full: the write it belongs to is submitted, and its length returned."""
        self.payload = None
        if self._write is None:
            return 0
        flags, cookie, offset, data = self._write
        self._write = None
        self._submit_write(flags, cookie, offset, data)
        return len(data)

    # Handlers: check, then submit -----------------------------------------------------------------

    def _read(self, flags: int, cookie: int, offset: int, length: int) -> None:
        if (
            flags & self._bad_read_flags
            or not 0 < length <= MAX_PAYLOAD
            or offset + length > self._size
            or (offset | length) & self._unaligned
        ):
            self._refuse(cookie, errno.EINVAL)
            return
        self.running += 1
        self._charged += length
        done = partial(self._read_done, cookie, offset, length)
        try:
            self._disk.submit_read(offset, length, done)
        except (OSError, ValueError) as fault:
            done(None, _as_error(fault))

    def _begin_write(
        self, flags: int, cookie: int, offset: int, length: int, buffer: memoryview, start: int, end: int
    ) -> int:
        error = self._write_error(flags & ~_FUA, offset, length)
        if length > MAX_PAYLOAD:
            error = errno.EINVAL
            if length > MAX_SKIP:
                raise ProtocolViolation(f"a write of {length} bytes")
        if error:
            self._skip = length
            self._refuse(cookie, error)
            return start
        self._charged += length
        have = end - start
        if have >= length:
            self._submit_write(flags, cookie, offset, bytes(buffer[start : start + length]))
            return start + length
        # The data goes straight to where it stays until the disk has answered. It is private memory: what is
        # shared with the server is scarce, and a client that stalls here would keep it from others.
        data = bytearray(length)
        data[:have] = buffer[start:end]
        self._write = flags, cookie, offset, data
        self.payload = memoryview(data)[have:]
        return end

    def _submit_write(self, flags: int, cookie: int, offset: int, data: bytes | bytearray) -> None:
        self.running += 1
        done = partial(self._done_then_flush if flags & _FUA else self._done, cookie, len(data))
        _write(self._disk, offset, data, done)

    def _flush(self, _flags: int, cookie: int, offset: int, length: int) -> None:
        if offset or length:
            self._refuse(cookie, errno.EINVAL)
            return
        self.running += 1
        self._disk.submit_flush(partial(self._done, cookie, 0))

    def _write_zeroes(self, flags: int, cookie: int, offset: int, length: int) -> None:
        error = self._write_error(0, offset, length)
        if error:
            self._refuse(cookie, error)
            return
        self.running += 1
        done = partial(self._done_then_flush if flags & _FUA else self._done, cookie, 0)
        _Zeroing(self._disk, offset, length, done).go_on()

    def _unknown(self, _flags: int, cookie: int, _offset: int, _length: int) -> None:
        """A command or a flag that was not advertised."""
        self._refuse(cookie, errno.EINVAL)

    def _write_error(self, bad_flags: int, offset: int, length: int) -> int:
        if self._read_only:
            return errno.EPERM
        if bad_flags or not length or (offset | length) & self._unaligned:
            return errno.EINVAL
        return errno.ENOSPC if offset + length > self._size else 0

    # Completions: what the disk calls back --------------------------------------------------------

    def _read_done(
        self,
        cookie: int,
        offset: int,
        length: int,
        data: bytes | bytearray | memoryview | None,
        error: OSError | None,
    ) -> None:
        self.running -= 1
        self._charged -= length
        if error is not None or data is None or len(data) != length:  # never less than was asked for
            self._refuse(cookie, to_nbd(error.errno) if error is not None else errno.EIO)
        else:
            if self._structured:
                header = _pack_chunk(_CHUNK_MAGIC, _CHUNK_DONE, _DATA, cookie, 8 + length, offset)
            else:
                header = _pack_simple(_SIMPLE_MAGIC, 0, cookie)
            if type(data) is memoryview:  # it ends with this call
                data = bytes(data)
            self._outbox.put_data(header, data)

    def _done(self, cookie: int, charged: int, _nothing: None, error: OSError | None) -> None:
        self.running -= 1
        self._charged -= charged
        if error is None:
            self._outbox.put(SIMPLE_REPLY.pack(_SIMPLE_MAGIC, 0, cookie))
        else:
            self._refuse(cookie, to_nbd(error.errno))

    def _done_then_flush(self, cookie: int, charged: int, _nothing: None, error: OSError | None) -> None:
        """Forced unit access: the write is answered when a flush that came after it is done."""
        if error is None:
            self._disk.submit_flush(partial(self._done, cookie, charged))
        else:
            self._done(cookie, charged, None, error)

    def _refuse(self, cookie: int, error: int) -> None:
        """Answer with an NBD error; a client that knows structured replies gets a sentence with it."""
        if not self._structured:
            self._outbox.put(SIMPLE_REPLY.pack(_SIMPLE_MAGIC, error, cookie))
            return
        text = os.strerror(error).encode()
        body = ERROR_BODY.pack(error, len(text)) + text
        self._outbox.put(CHUNK.pack(_CHUNK_MAGIC, _CHUNK_DONE, ChunkType.ERROR, cookie, len(body)) + body)


def _write(disk: BlockDisk, offset: int, data: bytes | bytearray | memoryview, done: Done) -> None:
    try:
        disk.submit_write(offset, data, done)
    except (OSError, ValueError) as fault:
        done(None, _as_error(fault))


def _as_error(fault: OSError | ValueError) -> OSError:
    """What the disk refused at once: it shrank, or became read-only, since the client asked what it is."""
    return fault if isinstance(fault, OSError) else OSError(errno.EIO, str(fault))


class _Zeroing:
    """One WRITE_ZEROES: writes of a shared zero buffer, a few at a time; the first error ends it."""

    __slots__ = ("_disk", "_done", "_end", "_error", "_offset", "_running", "_submitting")

    def __init__(self, disk: BlockDisk, offset: int, length: int, done: Done) -> None:
        self._disk = disk
        self._offset = offset
        self._end = offset + length
        self._done = done
        self._running = 0
        self._error: OSError | None = None
        self._submitting = False

    def go_on(self) -> None:
        """Submit what may run now; answers when nothing is left."""
        if self._submitting:  # the disk answered at once: the loop below goes on by itself
            return
        self._submitting = True
        while self._running < ZERO_DEPTH and self._offset < self._end and self._error is None:
            step = min(ZERO_STEP, self._end - self._offset)
            self._running += 1
            self._offset += step
            _write(self._disk, self._offset - step, _ZEROES[:step], self._written)
        self._submitting = False
        if not self._running:
            self._done(None, self._error)

    def _written(self, _nothing: None, error: OSError | None) -> None:
        self._running -= 1
        self._error = self._error or error
        self.go_on()
