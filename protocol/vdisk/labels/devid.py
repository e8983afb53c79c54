"""The device id of an image: how it is encoded, the sector that holds it, and how one is made up.

Time, host and generation of a new id are arguments. Source: Solaris sys/ddi_impldefs.h (impl_devid_t),
common/os/sunddi.c (ddi_devid_init, DEVID_FAB), sys/dklabel.h (dk_devid); vds.c, vd_dskimg_read_devid.
"""

from __future__ import annotations

from typing import Final

from protocol import wire
from protocol.errors import PacketError
from protocol.vdisk.payloads import DeviceIdType
from protocol.wire import Bytes, Int8ub, Int16ub, Int32sb, Int32ub

__all__ = [
    "DEVID_MAGIC",
    "DEVID_REVISION",
    "DRIVER_HINT",
    "MAX_ID",
    "DevidBlock",
    "DevidBlockLayout",
    "EncodedDevid",
    "EncodedDevidLayout",
    "FabricatedId",
    "FabricatedIdLayout",
    "build_devid_block",
    "fabricated",
    "read_devid_block",
]

DEVID_MAGIC: Final = 0x6964
"""``id``. Source: Solaris sys/ddi_impldefs.h, DEVID_MAGIC_MSB and DEVID_MAGIC_LSB."""
DEVID_REVISION: Final = 0x0001
DRIVER_HINT: Final = b"vds\0"
"""Last four characters of the driver's name."""
MAX_ID: Final = 505 - 12
"""Bytes of an id that fit the sector."""

_BLOCK_SIZE: Final = 512
_TYPES: Final = frozenset(DeviceIdType) - {DeviceIdType.NONE}  # Source: sys/ddi_impldefs.h, DEVID_MAXTYPE


@wire.structure("devid_fab_id", size=14)
class FabricatedId:
    """A made-up id. Source: Solaris common/os/sunddi.c, ddi_devid_init, DEVID_FAB."""

    hostid: int = wire.field(Int32ub, doc="host id")
    tv_sec: int = wire.field(Int32sb, doc="when it was made, seconds")
    tv_usec: int = wire.field(Int32sb, doc="and microseconds")
    generation: int = wire.field(Int16ub, doc="counts ids made in the same moment")


@wire.structure("impl_devid", size=12)
class EncodedDevid:
    """A device id as it is stored. Source: Solaris sys/ddi_impldefs.h, impl_devid_t."""

    magic: int = wire.field(Int16ub, doc="0x6964, id", default=DEVID_MAGIC)
    rev: int = wire.field(Int16ub, doc="1", default=DEVID_REVISION)
    type: int = wire.field(Int16ub, known=DeviceIdType, doc="what kind of id")
    id_len: int = wire.field(Int16ub, doc="bytes of the id")
    driver_hint: bytes = wire.field(Bytes(4), doc="end of the driver's name", default=DRIVER_HINT)
    id: bytes = wire.bytes_tail("id_len", limit=MAX_ID, doc="the id")


@wire.structure("dk_devid_block", size=_BLOCK_SIZE)
class DevidBlock:
    """The sector. Source: Solaris sys/dklabel.h, struct dk_devid."""

    rev_hi: int = wire.field(Int8ub, doc="0", default=0)
    rev_lo: int = wire.field(Int8ub, doc="1", default=1)
    flags: int = wire.field(Int8ub, doc="0", default=0)
    devid: bytes = wire.field(Bytes(505), doc="encoded id, then zeros")
    checksum: int = wire.field(Int32ub, doc="XOR of the 127 words before")


FabricatedIdLayout: Final = wire.layout(FabricatedId)
EncodedDevidLayout: Final = wire.layout(EncodedDevid)
DevidBlockLayout: Final = wire.layout(DevidBlock)
_CHECKSUM_AT: Final = _BLOCK_SIZE - 4


def _xor_words(octets: bytes) -> int:
    """Return the XOR of all big-endian 32-bit words."""
    found = 0
    for at in range(0, len(octets), 4):
        found ^= int.from_bytes(octets[at : at + 4], "big")
    return found


def fabricated(hostid: int, tv_sec: int, tv_usec: int, generation: int = 0) -> EncodedDevid:
    """Return a made-up id of this host and moment.

    Raises: LocalProtocolError (a number does not fit its field).
    """
    made = FabricatedIdLayout.build(
        FabricatedId(hostid=hostid, tv_sec=tv_sec, tv_usec=tv_usec, generation=generation)
    )
    return EncodedDevid(type=DeviceIdType.FAB, id_len=len(made), id=made)


def build_devid_block(devid: EncodedDevid) -> bytes:
    """Return the sector that holds ``devid``. Raises: LocalProtocolError (a value does not fit)."""
    encoded = EncodedDevidLayout.build(devid).ljust(505, b"\0")
    without = DevidBlockLayout.build(DevidBlock(devid=encoded, checksum=0))[:_CHECKSUM_AT]
    return without + _xor_words(without).to_bytes(4, "big")


def read_devid_block(sector: wire.Buffer) -> EncodedDevid | None:
    """Return the id in a sector of 512 bytes, or None if there is no valid one.

    Revision and checksum are checked, and of the id itself magic, revision, type and length.
    Source: Solaris vds.c, vd_dskimg_read_devid; common/devid/devid.c, ddi_devid_valid.
    """
    if len(sector) != _BLOCK_SIZE:
        return None
    block = DevidBlockLayout.parse(sector)
    if (block.rev_hi, block.rev_lo) != (0, 1):
        return None
    if _xor_words(bytes(sector[:_CHECKSUM_AT])) != block.checksum:
        return None
    try:
        devid = EncodedDevidLayout.parse(block.devid, trailing=True)
    except PacketError:
        return None
    valid = devid.magic == DEVID_MAGIC and devid.rev == DEVID_REVISION and devid.type in _TYPES
    return devid if valid else None
