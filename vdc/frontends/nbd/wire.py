"""NBD's numbers and structures: what both phases of the protocol are written with. No I/O.

Source: NetworkBlockDevice ``doc/proto.md``, sections "Values", "Structured reply types", "Error values".
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "CHUNK",
    "ERROR_BODY",
    "EXPORT_NAME_REPLY",
    "GREETING",
    "INFO_BLOCK_SIZE",
    "INFO_EXPORT",
    "MAX_PAYLOAD",
    "OPTION",
    "OPTION_REPLY",
    "READ_CHUNK",
    "REQUEST",
    "SIMPLE_REPLY",
    "ChunkType",
    "ClientFlag",
    "Command",
    "CommandFlag",
    "Export",
    "ExportFlag",
    "Info",
    "Magic",
    "Option",
    "Reply",
    "to_nbd",
]

GREETING: Final = struct.Struct(">QQH")  # NBDMAGIC, IHAVEOPT, handshake flags
OPTION: Final = struct.Struct(">QII")  # IHAVEOPT, option, length of the data that follows
OPTION_REPLY: Final = struct.Struct(">QIII")  # magic, option, reply type, length
EXPORT_NAME_REPLY: Final = struct.Struct(">QH")  # size, transmission flags; 124 zeroes may follow
INFO_EXPORT: Final = struct.Struct(">HQH")  # info type, size, transmission flags
INFO_BLOCK_SIZE: Final = struct.Struct(">HIII")  # info type, minimum, preferred, maximum payload
REQUEST: Final = struct.Struct(">IHHQQI")  # magic, command flags, command, cookie, offset, length
SIMPLE_REPLY: Final = struct.Struct(">IIQ")  # magic, error, cookie
CHUNK: Final = struct.Struct(">IHHQI")  # magic, flags, type, cookie, length
READ_CHUNK: Final = struct.Struct(">IHHQIQ")  # the same, and the offset that opens a chunk of data
ERROR_BODY: Final = struct.Struct(">IH")  # error, length of the sentence that follows

MAX_PAYLOAD: Final = 32 << 20
"""Largest read or write in bytes: what clients assume unless told otherwise."""

PREFERRED_BLOCK: Final = 4096


class Magic(IntEnum):
    """What each structure begins with."""

    NBD = 0x4E42444D41474943  # "NBDMAGIC"
    OPTION = 0x49484156454F5054  # "IHAVEOPT"
    OPTION_REPLY = 0x0003E889045565A9
    REQUEST = 0x25609513
    SIMPLE_REPLY = 0x67446698
    CHUNK = 0x668E33EF


class ClientFlag(IntFlag):
    """Handshake flags: the server offers them, the client answers with those it takes."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1  # leave out the 124 zeroes after EXPORT_NAME


class ExportFlag(IntFlag):
    """Transmission flags: what an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8


class Option(IntEnum):
    """What a client asks before transmission; any other number is answered ERR_UNSUP."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Reply(IntEnum):
    """Answers to options; errors have bit 31 set and may carry a sentence."""

    ACK = 1
    SERVER = 2
    INFO = 3
    ERR_UNSUP = 1 << 31 | 1
    ERR_INVALID = 1 << 31 | 3
    ERR_UNKNOWN = 1 << 31 | 6
    ERR_TOO_BIG = 1 << 31 | 9


class Info(IntEnum):
    """What GO and INFO tell of an export."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class Command(IntEnum):
    """Requests that are executed, and DISC; others (TRIM, CACHE) are not advertised and answered EINVAL."""

    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    WRITE_ZEROES = 6


class CommandFlag(IntFlag):
    """Modifiers of a request."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2


class ChunkType(IntEnum):
    """Kinds of structured reply."""

    OFFSET_DATA = 1
    ERROR = 1 << 15 | 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export as clients see it. ``size`` and ``block_size`` are bytes."""

    name: str
    description: str
    size: int
    block_size: int
    read_only: bool

    @property
    def flags(self) -> ExportFlag:
        """Transmission flags. A flush covers the writes of every connection, since all share one disk."""
        flags = ExportFlag.HAS_FLAGS | ExportFlag.SEND_FLUSH | ExportFlag.SEND_FUA
        flags |= ExportFlag.SEND_DF | ExportFlag.CAN_MULTI_CONN
        return flags | (ExportFlag.READ_ONLY if self.read_only else ExportFlag.SEND_WRITE_ZEROES)

    @property
    def preferred_block(self) -> int:
        """The request size below which a client gains nothing by being smaller."""
        return max(PREFERRED_BLOCK, self.block_size)


_SAME = (
    errno.EPERM,
    errno.EIO,
    errno.ENOMEM,
    errno.EINVAL,
    errno.ENOSPC,
    errno.EOVERFLOW,
    errno.ENOTSUP,
    errno.ESHUTDOWN,
)
_ERRORS: Final = {code: code for code in _SAME} | {
    errno.EACCES: errno.EPERM,
    errno.EROFS: errno.EPERM,
    errno.EDQUOT: errno.ENOSPC,
    errno.EFBIG: errno.ENOSPC,
}


def to_nbd(code: int | None) -> int:
    """The NBD error for a Linux errno; NBD defines eight, anything else is EIO."""
    return _ERRORS.get(code or 0, errno.EIO)
