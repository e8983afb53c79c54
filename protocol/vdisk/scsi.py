"""SCSICMD: a header and four areas whose places move with the lengths in the header.

The areas lie where the lengths *as sent by the client* put them, each rounded up to 8 bytes: command (cdb),
sense, data in, data out. The server overwrites ``sense_len``, ``datain_len`` and ``dataout_len`` with what
really went, and the areas stay: so both sides find them once, before anything is written.
Source: Solaris sys/vdsk_common.h, vd_scsi_t and VD_SCSI_DATA_*; vds.c, vd_scsicmd; vdc.c, vdc_scsi_alloc_req.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from protocol import wire
from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.wire import Int8ub, Int16ub, Int64ub

__all__ = [
    "MAX_SCSI_DATA",
    "SCSI_NBYTES_MIN",
    "ScsiAreas",
    "ScsiCommand",
    "ScsiLayout",
    "ScsiOption",
    "ScsiTask",
    "build_scsi",
    "parse_scsi",
    "scsi_areas",
]

MAX_SCSI_DATA: Final = 2 << 20
"""Bytes of all areas together: the longest transfer of 1 MiB, command and sense, with room to spare."""

SCSI_NBYTES_MIN: Final = 56
"""``nbytes`` at least: the header and a command of up to 8 bytes. Source: Solaris vds.c, the ioctl table."""


class ScsiTask(IntEnum):
    """``task_attribute``. Source: Solaris sys/vdsk_common.h, VD_SCSI_TASK_*."""

    NONE = 0
    SIMPLE = 1
    ORDERED = 2
    HQUEUE = 3  # head of queue
    ACA = 4  # auto contingent allegiance


class ScsiOption(IntFlag):
    """``options``. Source: Solaris sys/vdsk_common.h, VD_SCSI_OPT_*."""

    CRN = 1  # ``crn`` counts
    NORETRY = 2  # a failed command is not tried again


@wire.structure("vd_scsi", size=48)
class ScsiCommand:
    """SCSICMD; ``data`` are the four areas (:func:`scsi_areas`). Source: sys/vdsk_common.h, vd_scsi_t."""

    cmd_status: int = wire.field(Int8ub, doc="server: SCSI status", default=0)
    sense_status: int = wire.field(Int8ub, doc="server: SCSI status of fetching the sense", default=0)
    task_attribute: int = wire.field(Int8ub, known=ScsiTask, doc="how it is queued", default=0)
    task_priority: int = wire.field(Int8ub, doc="priority", default=0)
    crn: int = wire.field(Int8ub, doc="command reference number", default=0)
    reserved = wire.reserved(1)
    timeout: int = wire.field(Int16ub, doc="seconds; 0 = none", default=0)
    options: int = wire.field(Int64ub, known=ScsiOption, doc="bits", default=0)
    cdb_len: int = wire.field(Int64ub, doc="bytes of the command")
    sense_len: int = wire.field(Int64ub, doc="bytes of sense; server: returned", default=0)
    datain_len: int = wire.field(Int64ub, doc="bytes to the client; server: transferred", default=0)
    dataout_len: int = wire.field(Int64ub, doc="bytes from the client; server: transferred", default=0)
    data: bytes = wire.bytes_tail(
        *("cdb_len", "sense_len", "datain_len", "dataout_len"),
        limit=MAX_SCSI_DATA,
        rounded=8,
        doc="command, sense, data in, data out",
    )


ScsiLayout: Final = wire.layout(ScsiCommand)


class ScsiAreas(NamedTuple):
    """Where each area is in the buffer, with the length that the client gave it."""

    cdb: range
    sense: range
    datain: range
    dataout: range


def scsi_areas(buffer: wire.Buffer) -> ScsiAreas:
    """Return where the areas of a request are; ask before the lengths are overwritten, and keep the answer.

    Raises: PacketError (the areas do not fit ``buffer``, or data go both ways): status EINVAL.
    Source: Solaris vds.c, vd_scsicmd.
    """
    if len(buffer) < ScsiLayout.size:
        raise _refused(f"{len(buffer)} bytes, must be {ScsiLayout.size} or more")
    lengths = ScsiLayout.codec.unpack_from(buffer)[-4:]
    at = ScsiLayout.size
    areas = []
    for length in lengths:
        areas.append(range(at, at + length))
        at += _rounded(length)
        if at > len(buffer):
            raise _refused(f"areas of {sum(lengths)} bytes in a buffer of {len(buffer)}")
    found = ScsiAreas(*areas)
    if found.datain and found.dataout:
        raise _refused("data in and data out at once")
    return found


def parse_scsi(buffer: wire.Buffer) -> ScsiCommand:
    """Return the command in a buffer; what stands behind its areas is padding.

    Raises: PacketError (the areas do not fit): status EINVAL.
    """
    return ScsiLayout.parse(buffer, trailing=True)


def build_scsi(
    cdb: bytes, *, sense_len: int = 0, datain_len: int = 0, dataout: bytes = b"", **header: int
) -> bytes:
    """Return the buffer of a command, areas that the server fills zero; ``header`` as in ScsiCommand.

    Raises: LocalProtocolError (a value that does not fit, areas too long).
    Source: Solaris vdc.c, vdc_scsi_alloc_req.
    """
    lengths = (len(cdb), sense_len, datain_len, len(dataout))
    if min(lengths) < 0 or sum(lengths) > MAX_SCSI_DATA:
        raise LocalProtocolError(Layer.VDISK, f"vd_scsi: areas of {lengths}, at most {MAX_SCSI_DATA} in all")
    parts = (cdb, b"", b"", dataout)
    data = b"".join(part.ljust(_rounded(length), b"\0") for part, length in zip(parts, lengths, strict=True))
    names = ("cdb_len", "sense_len", "datain_len", "dataout_len")
    command = ScsiCommand(**dict(zip(names, lengths, strict=True)), **header, data=data)
    return ScsiLayout.build(command).ljust(SCSI_NBYTES_MIN, b"\0")


def _rounded(length: int) -> int:
    return -(-length // 8) * 8


def _refused(why: str) -> PacketError:
    return PacketError(Layer.VDISK, Reaction.RESET, f"vd_scsi: {why}")
