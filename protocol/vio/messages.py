"""Every VIO message and the descriptor ring entry header, as laid out on the wire; above LDC, below vDisk.

All integers are big-endian, all offsets count from the first byte of the LDC message. Reserved bytes are
written as zero and ignored on receipt: Solaris vdc sends uninitialised stack bytes there (vdc.c).
Numbers of the tag are plain integers, not checked enumerations, because an unknown envelope is answered with
a NACK and not by dropping the message. Source: Solaris sys/vio_mailbox.h, sys/vio_common.h; FWARC 2010/054.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from protocol import wire
from protocol.errors import Layer
from protocol.ldc.cookie import Cookie, CookieLayout
from protocol.wire import Bytes, Int8ub, Int16ub, Int32sb, Int32ub, Int64ub

from .dring import Dstate

__all__ = [
    "CTRL_FIELD",
    "ENTRY_HEADER_FIELDS",
    "INBAND_HEADER_FIELDS",
    "MAX_RING_COOKIES",
    "OPEN_ENDED",
    "SID_FIELD",
    "SUBTYPE_FIELD",
    "DeviceClass",
    "DoorbellLayout",
    "DoorbellMessage",
    "DringDataLayout",
    "DringDataMessage",
    "DringOption",
    "DringRegisterExtension",
    "DringRegisterExtensionLayout",
    "DringRegisterLayout",
    "DringRegisterMessage",
    "DringUnregisterLayout",
    "DringUnregisterMessage",
    "EntryHeader",
    "EntryHeaderLayout",
    "Envelope",
    "InbandHeader",
    "InbandHeaderLayout",
    "MessageType",
    "ProcState",
    "RawDataLayout",
    "RawDataMessage",
    "RdxLayout",
    "RdxMessage",
    "Subtype",
    "Tag",
    "TagLayout",
    "TransferMode",
    "Version",
    "VersionLayout",
    "VersionMessage",
    "echo",
    "envelope_field",
]

MAX_RING_COOKIES: Final = 33
"""Cookies a DRING_REG may announce before we stop reading; a usable one has exactly 1.
Source: Solaris sys/vdsk_common.h, VD_MAX_COOKIES."""

OPEN_ENDED: Final = -1
"""``end_idx`` of a range that ends where an entry is not READY. Source: FWARC 2010/054, DRING_DATA."""


class MessageType(IntEnum):
    """``msgtype`` of the tag. Source: Solaris sys/vio_mailbox.h, VIO_TYPE_*."""

    CTRL = 1  # handshake
    DATA = 2  # descriptors
    ERR = 4  # never used


class Subtype(IntEnum):
    """``subtype`` of the tag. Source: Solaris sys/vio_mailbox.h, VIO_SUBTYPE_*."""

    INFO = 1  # a request
    ACK = 2  # done as asked
    NACK = 4  # refused; a reset follows


class Envelope(IntEnum):
    """``subtype_env`` of the tag: what the message is about. Source: Solaris sys/vio_mailbox.h."""

    VER_INFO = 0x01  # version, device class
    ATTR_INFO = 0x02  # attributes of the device class
    DRING_REG = 0x03  # here is my ring
    DRING_UNREG = 0x04  # forget my ring; vds refuses it
    RDX = 0x05  # ready to exchange data
    DDS_INFO = 0x06  # network only, 1.3
    PKT_DATA = 0x40  # raw packet, network only
    DESC_DATA = 0x41  # descriptor in the message
    DRING_DATA = 0x42  # descriptors in the ring


class DeviceClass(IntEnum):
    """``dev_class`` of VER_INFO. Source: Solaris sys/vio_mailbox.h, VDEV_*."""

    NETWORK = 1
    NETWORK_SWITCH = 2
    DISK = 3  # a disk client
    DISK_SERVER = 4
    PCI = 5  # Solaris 11 only


class TransferMode(IntEnum):
    """``xfer_mode`` of ATTR_INFO, as disks use it. Source: Solaris sys/vio_mailbox.h; FWARC 2010/054."""

    PACKET = 1  # network only
    INBAND = 2  # descriptors in messages, as boot firmware does
    RING = 3  # descriptor ring; at 1.2 formally "packets and in-band", yet Linux sends it and means the ring
    RING_1_2 = 4  # descriptor ring, 1.2 and up


class DringOption(IntFlag):
    """``options`` of DRING_REG. Source: Solaris sys/vio_mailbox.h; vds ignores them."""

    TX = 1  # Linux disks send this alone
    RX = 2  # Solaris and OpenBSD disks send TX | RX
    RX_DATA = 4  # network only, 1.6


class ProcState(IntEnum):
    """``proc_state`` of DRING_DATA. Source: Solaris sys/vio_mailbox.h, VIO_DP_*; disk clients leave it 0."""

    ACTIVE = 1  # the sender goes on looking at the ring
    STOPPED = 2  # the sender looks again when told to


class Version(NamedTuple):
    """A VIO version; vDisk versions are the same numbers. Source: FWARC 2010/054, version negotiation."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


# The tag that starts every message, stated once. Source: Solaris sys/vio_mailbox.h, vio_msg_tag_t.
CTRL_FIELD: Final[int] = wire.field(
    Int8ub, known=MessageType, doc="what kind of message", default=MessageType.CTRL
)
_DATA_FIELD: Final[int] = wire.field(
    Int8ub, known=MessageType, doc="what kind of message", default=MessageType.DATA
)
SUBTYPE_FIELD: Final[int] = wire.field(Int8ub, known=Subtype, doc="request or answer", default=Subtype.INFO)
SID_FIELD: Final[int] = wire.field(Int32ub, doc="session id, chosen by the client", default=0)


def envelope_field(default: Envelope) -> int:
    """Declare ``subtype_env`` of a message that is always about the same."""
    return wire.field(Int16ub, known=Envelope, doc="envelope: what the message is about", default=default)


_VER_INFO: Final = envelope_field(Envelope.VER_INFO)
_DRING_REG: Final = envelope_field(Envelope.DRING_REG)
_DRING_UNREG: Final = envelope_field(Envelope.DRING_UNREG)
_RDX: Final = envelope_field(Envelope.RDX)
_PKT_DATA: Final = envelope_field(Envelope.PKT_DATA)
_DRING_DATA: Final = envelope_field(Envelope.DRING_DATA)


@wire.structure("vio_msg_tag", size=8)
class Tag:
    """What every message starts with. Source: Solaris sys/vio_mailbox.h, vio_msg_tag_t."""

    msgtype: int = CTRL_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _VER_INFO
    sid: int = SID_FIELD


@wire.structure("vio_ver_msg", size=56)
class VersionMessage:
    """VER_INFO: version and device class. Source: Solaris sys/vio_mailbox.h, vio_ver_msg_t."""

    msgtype: int = CTRL_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _VER_INFO
    sid: int = SID_FIELD
    major: int = wire.field(Int16ub, doc="major version")
    minor: int = wire.field(Int16ub, doc="minor version; the answer's is the lower of both")
    dev_class: int = wire.field(Int8ub, known=DeviceClass, doc="DISK in a request, DISK_SERVER in the ACK")
    resv1 = wire.reserved(1)
    resv2 = wire.reserved(2)
    resv3 = wire.reserved(40)


@wire.structure("vio_dring_reg_msg", size=32)
class DringRegisterMessage:
    """DRING_REG: where the ring is. Source: Solaris sys/vio_mailbox.h, vio_dring_reg_msg_t."""

    msgtype: int = CTRL_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _DRING_REG
    sid: int = SID_FIELD
    dring_ident: int = wire.field(Int64ub, doc="0 in a request, assigned in the ACK", default=0)
    num_descriptors: int = wire.field(Int32ub, doc="entries of the ring")
    descriptor_size: int = wire.field(Int32ub, doc="bytes from one entry to the next")
    options: int = wire.field(Int16ub, known=DringOption, doc="bits; not looked at", default=0)
    resv = wire.reserved(2)
    ncookies: int = wire.field(Int32ub, doc="cookies that follow; a disk's ring has exactly one")
    cookie: tuple[Cookie, ...] = wire.tail(
        CookieLayout, count="ncookies", limit=MAX_RING_COOKIES, doc="where the ring is"
    )


@wire.structure("vio_dring_reg_ext_msg", size=8)
class DringRegisterExtension:
    """What follows the last cookie of a DRING_REG with RX_DATA: where a network ring's data lie, since 1.6.

    No disk sends it. Source: Solaris sys/vio_mailbox.h, vio_dring_reg_ext_msg_t; FWARC 2010/054.
    """

    data_ncookies: int = wire.field(Int32ub, doc="cookies that follow")
    data_area_size: int = wire.field(Int32ub, doc="bytes of the data area")
    data_cookie: tuple[Cookie, ...] = wire.tail(
        CookieLayout, count="data_ncookies", limit=MAX_RING_COOKIES, doc="where the data area is"
    )


@wire.structure("vio_dring_unreg_msg", size=56)
class DringUnregisterMessage:
    """DRING_UNREG: forget the ring. Source: Solaris sys/vio_mailbox.h, vio_dring_unreg_msg_t."""

    msgtype: int = CTRL_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _DRING_UNREG
    sid: int = SID_FIELD
    dring_ident: int = wire.field(Int64ub, doc="as assigned in the ACK of DRING_REG")
    resv = wire.reserved(40)


@wire.structure("vio_rdx_msg", size=56)
class RdxMessage:
    """RDX: ready to exchange data. Source: Solaris sys/vio_mailbox.h, vio_rdx_msg_t."""

    msgtype: int = CTRL_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _RDX
    sid: int = SID_FIELD
    resv = wire.reserved(48)


@wire.structure("vio_dring_msg", size=56)
class DringDataMessage:
    """DRING_DATA: a range of the ring is ready. Source: Solaris sys/vio_mailbox.h, vio_dring_msg_t."""

    msgtype: int = _DATA_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _DRING_DATA
    sid: int = SID_FIELD
    seq_num: int = wire.field(Int64ub, doc="one more than the message before; an answer has its request's")
    dring_ident: int = wire.field(Int64ub, doc="as assigned in the ACK of DRING_REG")
    start_idx: int = wire.field(Int32ub, doc="first entry of the range")
    end_idx: int = wire.field(Int32sb, doc="last entry, included; -1 = until one is not READY")
    proc_state: int = wire.field(
        Int8ub, known=ProcState, zero=True, doc="processing state, 0 from disk clients; echoed", default=0
    )
    resv1 = wire.reserved(1)
    resv2 = wire.reserved(2)
    resv3 = wire.reserved(4)
    resv4 = wire.reserved(16)


@wire.structure("polled_doorbell_msg", size=56, layer=Layer.VIO)
class DoorbellMessage:
    """DRING_DATA where a polled ring was agreed: ``completions`` stand in what is reserved otherwise.

    Source: docs/extensions.md, POLLED_RING; the other fields as in :class:`DringDataMessage`.
    """

    msgtype: int = _DATA_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _DRING_DATA
    sid: int = SID_FIELD
    seq_num: int = wire.field(
        Int64ub, doc="client: one more than before; server: the last one received, or 0"
    )
    dring_ident: int = wire.field(Int64ub, doc="as assigned in the ACK of DRING_REG")
    start_idx: int = wire.field(Int32ub, doc="the next entry the sender will fill, or take")
    end_idx: int = wire.field(Int32sb, doc="always -1", default=OPEN_ENDED)
    proc_state: int = wire.field(Int8ub, known=ProcState, doc="processing state of the sender")
    resv1 = wire.reserved(1)
    resv2 = wire.reserved(2)
    completions: int = wire.field(Int32ub, doc="since RDX; client: consumed, server: published")
    resv4 = wire.reserved(16)


@wire.structure("vio_raw_data_msg", size=56)
class RawDataMessage:
    """PKT_DATA: a network packet; no disk uses it. Source: Solaris sys/vio_mailbox.h, vio_raw_data_msg_t."""

    msgtype: int = _DATA_FIELD
    subtype: int = SUBTYPE_FIELD
    subtype_env: int = _PKT_DATA
    sid: int = SID_FIELD
    seq_num: int = wire.field(Int64ub, doc="one more than the message before")
    data: bytes = wire.field(Bytes(40), doc="the packet")


INBAND_HEADER_FIELDS: Final = {
    "msgtype": _DATA_FIELD,
    "subtype": SUBTYPE_FIELD,
    "subtype_env": envelope_field(Envelope.DESC_DATA),
    "sid": SID_FIELD,
    "seq_num": wire.field(Int64ub, doc="one more than the message before; an answer has its request's"),
    "desc_handle": wire.field(Int64ub, doc="the client's own, echoed"),
}
"""What stands before the payload of an in-band descriptor; vDisk joins its own fields to them."""

ENTRY_HEADER_FIELDS: Final = {
    "dstate": wire.field(Int8ub, known=Dstate, doc="whose entry it is"),
    "flags": wire.field(Int8ub, doc="non-zero = acknowledge; 0x80 from SPARC bit-fields, 0x01 from Linux"),
}
"""What stands before the payload of a ring entry, and then 6 reserved bytes; vDisk joins its own fields."""


class InbandHeader(NamedTuple):
    """DESC_DATA up to its payload. Source: Solaris sys/vio_mailbox.h, vio_inband_desc_msg_hdr_t."""

    msgtype: int
    subtype: int
    subtype_env: int
    sid: int
    seq_num: int
    desc_handle: int


class EntryHeader(NamedTuple):
    """The first 8 bytes of a ring entry. Source: Solaris sys/vio_common.h, vio_dring_entry_hdr_t."""

    dstate: int
    flags: int


TagLayout: Final = wire.layout(Tag)
VersionLayout: Final = wire.layout(VersionMessage)
DringRegisterLayout: Final = wire.layout(DringRegisterMessage)
DringRegisterExtensionLayout: Final = wire.layout(DringRegisterExtension)
DringUnregisterLayout: Final = wire.layout(DringUnregisterMessage)
RdxLayout: Final = wire.layout(RdxMessage)
DringDataLayout: Final = wire.layout(DringDataMessage)
DoorbellLayout: Final = wire.layout(DoorbellMessage)
RawDataLayout: Final = wire.layout(RawDataMessage)
_ENVELOPE_AT: Final = TagLayout.codec.fields.index("subtype_env")
InbandHeaderLayout: Final = wire.describe(
    "vio_inband_desc_msg_hdr", InbandHeader, INBAND_HEADER_FIELDS, size=24
)
EntryHeaderLayout: Final = wire.describe(
    "vio_dring_entry_hdr", EntryHeader, {**ENTRY_HEADER_FIELDS, "resv": wire.reserved(6)}, size=8
)


_CODECS: Final[Mapping[int, wire.Codec]] = {
    Envelope.VER_INFO: VersionLayout.codec,
    Envelope.DRING_REG: DringRegisterLayout.codec,
    Envelope.DRING_UNREG: DringUnregisterLayout.codec,
    Envelope.RDX: RdxLayout.codec,
    Envelope.DESC_DATA: InbandHeaderLayout.codec,
    Envelope.DRING_DATA: DringDataLayout.codec,
}


def echo(message: bytes, subtype: Subtype) -> bytes:
    """Return ``message`` with another subtype: how a server answers.

    Fields are as received and reserved bytes zero, where the envelope says which are which; the length is
    that of ``message``, which has at least the 8 bytes of its tag. Source: Solaris vds.c, vd_process_msg.
    """
    codec = _CODECS.get(TagLayout.codec.unpack_from(message)[_ENVELOPE_AT], TagLayout.codec)
    if len(message) < codec.size:
        codec = TagLayout.codec
    msgtype, _, *rest = codec.unpack_from(message)
    return codec.pack(msgtype, subtype, *rest) + message[codec.size :]
