"""The attribute message: what a client wants and what a disk is; which field exists in which version.

Source: Solaris sys/vdsk_mailbox.h, vd_attr_msg_t; Linux arch/sparc/include/asm/vio.h, struct
vio_disk_attr_info (1.2); Solaris vds.c, vd_process_attr_msg; vdc.c, vdc_handle_attr_msg.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from protocol import wire
from protocol.errors import Layer, LocalProtocolError, NegotiationError, Reaction
from protocol.vio.messages import (
    CTRL_FIELD,
    SID_FIELD,
    SUBTYPE_FIELD,
    Envelope,
    MessageType,
    Subtype,
    TransferMode,
    envelope_field,
)
from protocol.wire import Int8ub, Int32ub, Int64ub

from .operations import DiskType, MediaType, Operation, operations_known, operations_mask

__all__ = [
    "BLOCK_SIZE",
    "MAX_SIZE",
    "UNKNOWN_SIZE",
    "AttributeLayout",
    "AttributeLayoutV12",
    "AttributeMessage",
    "DiskAttributes",
    "attributes_from",
    "build_answer",
    "build_wish",
    "check_attributes",
    "check_wish",
    "is_block_size",
    "layout_of",
    "max_xfer",
    "parse_wish",
    "transfer_modes",
]

UNKNOWN_SIZE: Final = 0xFFFF_FFFF_FFFF_FFFF
"""``vdisk_size`` of a disk whose size cannot be told now. Source: Solaris vds.c, a reserved SCSI disk."""

BLOCK_SIZE: Final = 512
"""The unit that every block size is a power-of-two multiple of. Source: Solaris vdc.c, DEV_BSIZE."""

MAX_SIZE: Final = (1 << 63) - 1
"""Blocks, at most. Source: Solaris vdc.c, vdc_handle_attr_msg, INT64_MAX."""

_FIELDS: Final = {
    "msgtype": CTRL_FIELD,
    "subtype": SUBTYPE_FIELD,
    "subtype_env": envelope_field(Envelope.ATTR_INFO),
    "sid": SID_FIELD,
    "xfer_mode": wire.field(Int8ub, known=TransferMode, doc="how requests travel"),
    "vdisk_type": wire.field(Int8ub, known=DiskType, doc="0 from a client"),
    "vdisk_mtype": wire.field(Int8ub, known=MediaType, zero=True, doc="1.1: media; 0 from a client"),
    "resv1": wire.reserved(1),
    "vdisk_block_size": wire.field(Int32ub, doc="bytes; 0 from a client: max_xfer_sz is in bytes"),
    "operations": wire.field(Int64ub, doc="0 from a client; bit n = operation n"),
    "vdisk_size": wire.field(Int64ub, doc="1.1: 0 from a client; blocks, all ones = unknown"),
    "max_xfer_sz": wire.field(Int64ub, doc="blocks a request may have"),
}


class AttributeMessage(NamedTuple):
    """ATTR_INFO. Source: Solaris sys/vdsk_mailbox.h, vd_attr_msg_t."""

    msgtype: int
    subtype: int
    subtype_env: int
    sid: int
    xfer_mode: int
    vdisk_type: int
    vdisk_mtype: int
    vdisk_block_size: int
    operations: int
    vdisk_size: int
    max_xfer_sz: int
    phys_block_size: int = 0  # 1.2 only


AttributeLayout: Final = wire.describe(
    "vd_attr_msg", AttributeMessage, {**_FIELDS, "resv2": wire.reserved(16)}, size=56
)
AttributeLayoutV12: Final = wire.describe(
    "vd_attr_msg_v1_2",
    AttributeMessage,
    {
        **_FIELDS,
        "phys_block_size": wire.field(Int32ub, doc="0 from a client; bytes"),
        "resv2": wire.reserved(4),
        "resv3": wire.reserved(8),
    },
    size=56,
)


def layout_of(version: tuple[int, int]) -> wire.Layout[AttributeMessage]:
    """Return how ``version`` lays the message out."""
    return AttributeLayoutV12 if version >= (1, 2) else AttributeLayout


def transfer_modes(version: tuple[int, int]) -> frozenset[int]:
    """Return the transfer modes of a disk at ``version``.

    3 means the ring at every version, although 1.2 made the field a mask, because Linux sends it at 1.2; 4 is
    the ring of the mask. Source: Solaris vds.c, vd_process_attr_msg (2 and 3 only); FWARC 2010/054.
    """
    modes = {TransferMode.INBAND, TransferMode.RING}
    return frozenset(modes | {TransferMode.RING_1_2} if version >= (1, 2) else modes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskAttributes:
    """What a disk is: the server's to say, the client's to know.

    ``size_blocks`` may be UNKNOWN_SIZE; ``operations`` is a mask. At a client ``max_xfer_blocks`` is the
    lower of both sides' and ``operations`` what was announced.
    """

    size_blocks: int
    max_xfer_blocks: int
    block_size: int = BLOCK_SIZE
    operations: int = operations_mask((1, 2), read_only=False)
    disk_type: DiskType = DiskType.DISK
    media_type: MediaType = MediaType.FIXED
    phys_block_size: int = BLOCK_SIZE

    @property
    def read_only(self) -> bool:
        """Writing is not offered. Source: Solaris vdc.c, vdc_open, EROFS."""
        return not self.operations >> Operation.BWRITE & 1

    @property
    def size(self) -> int:
        """Bytes; meaningless while the size is unknown."""
        return self.size_blocks * self.block_size

    def for_version(self, version: tuple[int, int]) -> DiskAttributes:
        """Return the same disk with the operations that ``version`` knows."""
        return replace(self, operations=self.operations & operations_known(version))


def parse_wish(message: bytes, version: tuple[int, int]) -> AttributeMessage:
    """Return the attributes a client asks for.

    Raises: PacketError (not 56 bytes), NegotiationError (no transfer size, transfer mode unknown): NACK and
        soft reset. Source: Solaris vds.c, vd_process_attr_msg.
    """
    wish = layout_of(version).parse(message)
    if wish.max_xfer_sz == 0:
        raise NegotiationError(Layer.VDISK, Reaction.NACK, "the client's largest transfer is 0")
    if wish.xfer_mode not in transfer_modes(version):
        raise NegotiationError(Layer.VDISK, Reaction.NACK, f"transfer mode {wish.xfer_mode} at {version}")
    return wish


def max_xfer(wish: AttributeMessage) -> int:
    """Return the bytes of a client's largest transfer. Source: Solaris vds.c, vd_process_attr_msg."""
    return wish.max_xfer_sz * (wish.vdisk_block_size or 1)


def build_answer(wish: AttributeMessage, version: tuple[int, int], attributes: DiskAttributes) -> bytes:
    """Return the ACK that tells a client of ``attributes``; they are the disk's, not the minimum of both.

    Size and media type are told at 1.0 too, as vds does. Source: Solaris vds.c, vd_process_attr_msg.
    """
    return layout_of(version).build(_answer(wish, attributes.for_version(version)))


def _answer(wish: AttributeMessage, attributes: DiskAttributes) -> AttributeMessage:
    return wish._replace(
        subtype=Subtype.ACK,
        vdisk_type=attributes.disk_type,
        vdisk_mtype=attributes.media_type,
        vdisk_block_size=attributes.block_size,
        operations=attributes.operations,
        vdisk_size=attributes.size_blocks,
        max_xfer_sz=attributes.max_xfer_blocks,
        phys_block_size=attributes.phys_block_size,
    )


def build_wish(
    version: tuple[int, int], sid: int, *, xfer_mode: int, block_size: int, max_xfer_blocks: int
) -> bytes:
    """Return the ATTR_INFO of a client. Source: Solaris vdc.c, vdc_init_attr_negotiation."""
    return layout_of(version).build(_wish(sid, xfer_mode, block_size, max_xfer_blocks))


def _wish(sid: int, xfer_mode: int, block_size: int, max_xfer_blocks: int) -> AttributeMessage:
    return AttributeMessage(
        MessageType.CTRL,
        Subtype.INFO,
        Envelope.ATTR_INFO,
        sid,
        xfer_mode=xfer_mode,
        vdisk_type=DiskType.UNKNOWN,
        vdisk_mtype=0,
        vdisk_block_size=block_size,
        operations=0,
        vdisk_size=0,
        max_xfer_sz=max_xfer_blocks,
    )


class _Sanity(NamedTuple):
    """One reason why attributes cannot be."""

    reason: str
    applies: Callable[[AttributeMessage], bool]


def is_block_size(nbytes: int) -> bool:
    """Say whether blocks may be so large: 512 times a power of two."""
    return nbytes >= BLOCK_SIZE and nbytes & (nbytes - 1) == 0


def _bad_block_size(answer: AttributeMessage) -> bool:
    """0 goes with an unknown size. Source: Solaris vdc.c, vdc_update_vio_bsize."""
    if answer.vdisk_block_size == 0:
        return answer.vdisk_size != UNKNOWN_SIZE
    return not is_block_size(answer.vdisk_block_size)


_SANITY: Final = (  # Source: Solaris vdc.c, vdc_handle_attr_msg
    _Sanity("size 0", lambda answer: answer.vdisk_size == 0),
    _Sanity("size above 2^63 - 1", lambda answer: MAX_SIZE < answer.vdisk_size != UNKNOWN_SIZE),
    _Sanity("largest transfer 0", lambda answer: answer.max_xfer_sz == 0),
    _Sanity("block size not 512 times a power of two", _bad_block_size),
    _Sanity("no operations", lambda answer: answer.operations == 0),
    _Sanity("unknown disk type", lambda answer: answer.vdisk_type > DiskType.DISK),
)

_OWN_SANITY: Final = (  # what we believe of others and never say ourselves
    *_SANITY,
    _Sanity("block size 0", lambda answer: answer.vdisk_block_size == 0),
    _Sanity(
        "physical block size not 512 times a power of two",
        lambda answer: not is_block_size(answer.phys_block_size),
    ),
    _Sanity("no operations at 1.0", lambda answer: not answer.operations & operations_known((1, 0))),
)


def _reasons(rules: Iterable[_Sanity], message: AttributeMessage) -> list[str]:
    return [rule.reason for rule in rules if rule.applies(message)]


def check_attributes(attributes: DiskAttributes) -> None:
    """Check what a server of ours is to announce: that clients will take it, at any version.

    Raises: LocalProtocolError (attributes that cannot be, or do not fit their fields).
    """
    answer = _answer(_ANY_WISH, attributes)
    if reasons := _reasons(_OWN_SANITY, answer):
        raise LocalProtocolError(Layer.VDISK, f"our disk: {', '.join(reasons)}")
    AttributeLayoutV12.build(answer)


def check_wish(*, block_size: int, max_xfer_blocks: int) -> None:
    """Check what a client of ours is to ask for; ``block_size`` 0 makes ``max_xfer_blocks`` bytes.

    Raises: LocalProtocolError (a wish that cannot be, or does not fit its fields).
    """
    if (block_size and not is_block_size(block_size)) or not max_xfer_blocks:
        raise LocalProtocolError(
            Layer.VDISK, f"transfers of {max_xfer_blocks} blocks of {block_size} bytes cannot be asked for"
        )
    AttributeLayoutV12.build(_wish(0, TransferMode.RING, block_size, max_xfer_blocks))


_ANY_WISH: Final = _wish(0, TransferMode.RING, BLOCK_SIZE, 1)


def attributes_from(
    message: bytes, version: tuple[int, int], *, xfer_mode: int, max_xfer_bytes: int
) -> DiskAttributes:
    """Return the attributes in a server's ACK, the largest transfer lowered to ours.

    At 1.0 there is no size and no media type in it: the size is then unknown, and follows from the geometry.

    Raises: PacketError (not 56 bytes), NegotiationError (attributes that cannot be): reset.
    Source: Solaris vdc.c, vdc_handle_attr_msg; Linux sunvdc.c, vdc_handle_attr.
    """
    answer = layout_of(version).parse(message)
    if version < (1, 1):
        answer = answer._replace(vdisk_size=UNKNOWN_SIZE, vdisk_mtype=MediaType.FIXED)
    reasons = _reasons(_SANITY, answer)
    if answer.xfer_mode != xfer_mode:
        reasons.append(f"transfer mode {answer.xfer_mode}, not {xfer_mode}")
    if reasons:
        raise NegotiationError(Layer.VDISK, Reaction.RESET, f"the server's disk: {', '.join(reasons)}")
    block_size = answer.vdisk_block_size
    return DiskAttributes(
        size_blocks=answer.vdisk_size,
        max_xfer_blocks=min(answer.max_xfer_sz, max(1, max_xfer_bytes // (block_size or 1))),
        block_size=block_size,
        operations=answer.operations,
        disk_type=DiskType(answer.vdisk_type),
        media_type=_MEDIA.get(answer.vdisk_mtype, MediaType.FIXED),
        phys_block_size=answer.phys_block_size or block_size,
    )


_MEDIA: Final = {int(media): media for media in MediaType}  # anything else is a plain disk, as Linux has it
