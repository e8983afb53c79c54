"""The first phase of an NBD connection, fixed newstyle: options in, replies out, no I/O.

A :class:`Handshake` is fed what the client sent and gives what to send back, until it is either agreed (the
next byte belongs to transmission) or over. Lengths are checked before anything is waited for: a client cannot
make the server hold more than :data:`MAX_OPTION` bytes.

Source: NetworkBlockDevice ``doc/proto.md``, "Fixed newstyle negotiation" and "Option types".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from .wire import (
    EXPORT_NAME_REPLY,
    GREETING,
    INFO_BLOCK_SIZE,
    INFO_EXPORT,
    MAX_PAYLOAD,
    OPTION,
    OPTION_REPLY,
    ClientFlag,
    Export,
    Info,
    Magic,
    Option,
    Reply,
)

__all__ = ["MAX_OPTION", "Handshake", "Phase"]

MAX_OPTION: Final = 8192
"""Bytes of option data that are looked at: a name (4096) and a generous list of queries."""
MAX_SKIP: Final = 1 << 20
"""Longer option data is not even read past: the connection ends."""
MAX_OPTIONS: Final = 256
"""A real client sends fewer than ten."""
MAX_NAME: Final = 4096

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_OFFERED: Final = ClientFlag.FIXED_NEWSTYLE | ClientFlag.NO_ZEROES


class Phase(Enum):
    """Where a handshake stands."""

    FLAGS = auto()  # waits for the client's four bytes of flags
    OPTIONS = auto()  # waits for an option
    AGREED = auto()  # transmission begins with the next byte
    OVER = auto()  # send what is left, then close


class _Refused(Exception):
    """An option is answered with an error and the handshake goes on."""

    def __init__(self, reply: Reply, reason: str) -> None:
        super().__init__(reason)
        self.reply = reply


class Handshake:
    """One client's negotiation for ``export``.

    Send :meth:`data_to_send` at once (the server speaks first) and after every :meth:`receive_data`.
    ``structured`` tells, once ``phase`` is AGREED, whether reads are answered in chunks.
    """

    def __init__(self, export: Export) -> None:
        self.phase = Phase.FLAGS
        self.structured = False
        self._export = export
        self._client = ClientFlag(0)
        self._skip = 0
        self._options = 0
        self._out = [GREETING.pack(Magic.NBD, Magic.OPTION, _OFFERED)]
        self._handlers: dict[int, Callable[[bytes], None]] = {
            Option.EXPORT_NAME: self._export_name,
            Option.ABORT: self._abort,
            Option.LIST: self._list,
            Option.INFO: self._info,
            Option.GO: self._go,
            Option.STRUCTURED_REPLY: self._structured_reply,
            Option.LIST_META_CONTEXT: self._list_meta_context,
            Option.SET_META_CONTEXT: self._set_meta_context,
        }

    def data_to_send(self) -> bytes:
        """What is to be sent now; empty when nothing is."""
        out, self._out = b"".join(self._out), []
        return out

    def receive_data(self, data: memoryview) -> int:
        """Take whole messages from ``data`` and return their length; call again with the rest and more.

        Stops by itself when ``phase`` becomes AGREED or OVER.
        """
        used = 0
        while self.phase in (Phase.FLAGS, Phase.OPTIONS):
            step = self._flags(data[used:]) if self.phase is Phase.FLAGS else self._option(data[used:])
            if not step:
                break
            used += step
        return used

    def _flags(self, data: memoryview) -> int:
        if len(data) < _U32.size:
            return 0
        flags: int = _U32.unpack_from(data)[0]
        self._client = ClientFlag(flags & _OFFERED)
        # "The server MUST close the connection if it sees a flag it does not know": we would misread what
        # follows.
        self.phase = Phase.OPTIONS if flags == self._client else Phase.OVER
        return _U32.size

    def _option(self, data: memoryview) -> int:
        if self._skip:
            step = min(self._skip, len(data))
            self._skip -= step
            return step
        if len(data) < OPTION.size:
            return 0
        magic: int
        option: int
        length: int
        magic, option, length = OPTION.unpack_from(data)
        if magic != Magic.OPTION or not self._is_acceptable(option, length):
            self.phase = Phase.OVER
            return OPTION.size
        if length > MAX_OPTION:
            self._reply(option, Reply.ERR_TOO_BIG, f"at most {MAX_OPTION} bytes of data".encode())
            self._skip = length
            return OPTION.size
        end = OPTION.size + length
        if len(data) < end:
            return 0
        self._execute(option, bytes(data[OPTION.size : end]))
        return end

    def _is_acceptable(self, option: int, length: int) -> bool:
        self._options += 1
        if self._options > MAX_OPTIONS or length > MAX_SKIP:
            return False
        if option == Option.EXPORT_NAME:  # has no error reply: closing is the only answer
            return length <= MAX_OPTION
        return ClientFlag.FIXED_NEWSTYLE in self._client

    def _execute(self, option: int, data: bytes) -> None:
        handler = self._handlers.get(option)
        try:
            if handler is None:
                raise _Refused(Reply.ERR_UNSUP, "option not supported")
            handler(data)
        except _Refused as refusal:
            self._reply(option, refusal.reply, str(refusal).encode())

    def _reply(self, option: int, reply: Reply, data: bytes = b"") -> None:
        self._out.append(OPTION_REPLY.pack(Magic.OPTION_REPLY, option, reply, len(data)) + data)

    # Options --------------------------------------------------------------------------------------

    def _export_name(self, data: bytes) -> None:
        if not self._is_ours(data):
            self.phase = Phase.OVER
            return
        reply = EXPORT_NAME_REPLY.pack(self._export.size, self._export.flags)
        self._out.append(reply if ClientFlag.NO_ZEROES in self._client else reply + bytes(124))
        self.phase = Phase.AGREED

    def _abort(self, _data: bytes) -> None:
        self._reply(Option.ABORT, Reply.ACK)
        self.phase = Phase.OVER

    def _list(self, data: bytes) -> None:
        _expect_empty(data)
        name = self._export.name.encode()
        self._reply(Option.LIST, Reply.SERVER, _U32.pack(len(name)) + name)
        self._reply(Option.LIST, Reply.ACK)

    def _info(self, data: bytes) -> None:
        self._describe(Option.INFO, data)

    def _go(self, data: bytes) -> None:
        self._describe(Option.GO, data)
        self.phase = Phase.AGREED

    def _structured_reply(self, data: bytes) -> None:
        _expect_empty(data)
        self.structured = True
        self._reply(Option.STRUCTURED_REPLY, Reply.ACK)

    def _list_meta_context(self, data: bytes) -> None:
        self._no_contexts(Option.LIST_META_CONTEXT, data)

    def _set_meta_context(self, data: bytes) -> None:
        self._no_contexts(Option.SET_META_CONTEXT, data)

    def _describe(self, option: Option, data: bytes) -> None:
        """Answer GO or INFO: name (counted), count of requests, requests of 16 bits each."""
        rest = self._named(data)
        if len(rest) < _U16.size or len(rest) != _U16.size * (1 + _U16.unpack_from(rest)[0]):
            raise _Refused(Reply.ERR_INVALID, "the count of information requests does not fit the length")
        wanted = {number for (number,) in _U16.iter_unpack(rest[_U16.size :])}
        export = self._export
        answers = {
            Info.EXPORT: INFO_EXPORT.pack(Info.EXPORT, export.size, export.flags),
            Info.NAME: _U16.pack(Info.NAME) + export.name.encode(),
            Info.DESCRIPTION: _U16.pack(Info.DESCRIPTION) + export.description.encode(),
            Info.BLOCK_SIZE: INFO_BLOCK_SIZE.pack(
                Info.BLOCK_SIZE, export.block_size, export.preferred_block, MAX_PAYLOAD
            ),
        }
        for info, answer in answers.items():
            if info is Info.EXPORT or info in wanted:  # EXPORT is never left out
                self._reply(option, Reply.INFO, answer)
        self._reply(option, Reply.ACK)

    def _no_contexts(self, option: Option, data: bytes) -> None:
        """Answer with an empty list, for we know no metadata context; the queries must be well formed."""
        if not self.structured:
            raise _Refused(Reply.ERR_INVALID, "negotiate structured replies first")
        rest = self._named(data)
        if len(rest) < _U32.size:
            raise _Refused(Reply.ERR_INVALID, "the count of queries is missing")
        (count,) = _U32.unpack_from(rest)
        rest = rest[_U32.size :]
        for _ in range(min(count, MAX_OPTION)):
            _, rest = _counted(rest)
        if rest:
            raise _Refused(Reply.ERR_INVALID, "data after the last query")
        self._reply(option, Reply.ACK)

    def _named(self, data: bytes) -> bytes:
        """The data after the export's name, which must be ours."""
        name, rest = _counted(data)
        if not self._is_ours(name):
            raise _Refused(Reply.ERR_UNKNOWN, "no such export")
        return rest

    def _is_ours(self, name: bytes) -> bool:
        """The empty name asks for the default export, and there is one only."""
        return not name or name == self._export.name.encode()


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """A string preceded by its 32-bit length, and what follows it."""
    if len(data) < _U32.size:
        raise _Refused(Reply.ERR_INVALID, "a string's length is missing")
    (length,) = _U32.unpack_from(data)
    end = _U32.size + length
    if length > MAX_NAME or end > len(data):
        raise _Refused(Reply.ERR_INVALID, "a string is longer than its option or than 4096 bytes")
    return data[_U32.size : end], data[end:]


def _expect_empty(data: bytes) -> None:
    if data:
        raise _Refused(Reply.ERR_INVALID, "this option carries no data")
