"""A request on the wire: payload layout, ring entry and in-band message; Request values; fast codecs.

The payload follows the 8-byte header of a ring entry or the 24-byte header of an in-band message; it is
declared once and joined to either. ``nbytes`` counts bytes, whatever FWARC 2010/054 says; ``addr`` counts
blocks. Source: Solaris sys/vdsk_common.h, vd_dring_payload_t; sys/vdsk_mailbox.h, vd_dring_inband_msg_t.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from protocol import wire
from protocol.errors import Layer, LocalProtocolError, Reaction, RingError
from protocol.ldc.cookie import Cookie, CookieLayout
from protocol.vio.dring import MAX_DESCRIPTOR_SIZE, MIN_DESCRIPTOR_SIZE, Dstate
from protocol.vio.messages import (
    ENTRY_HEADER_FIELDS,
    INBAND_HEADER_FIELDS,
    EntryHeader,
    EntryHeaderLayout,
)
from protocol.wire import Int8ub, Int32ub, Int64ub

from .operations import Operation

__all__ = [
    "ACK_FLAG",
    "COOKIE",
    "ENTRY",
    "ENTRY_ONE",
    "INBAND",
    "MAX_COOKIES",
    "NBYTES",
    "NBYTES_AT",
    "RESULT",
    "STATUS",
    "STATUS_AT",
    "STATUS_UNSET",
    "Entry",
    "EntryLayout",
    "InbandMessage",
    "InbandMessageLayout",
    "Payload",
    "PayloadLayout",
    "Request",
    "build_entry",
    "build_payload",
    "parse_cookies",
    "parse_entry",
    "parse_inband",
]

STATUS_UNSET: Final = 0xFFFFFFFF
"""``status`` until the server has answered. Source: Solaris vdc.c, vdc_populate_descriptor."""

ACK_FLAG: Final = 0x80
"""``flags`` of an entry whose answer is wanted; vds answers every message anyway. Source: Solaris
sys/vio_common.h, a bit-field that SPARC allocates from the most significant bit; Linux writes 0x01."""

_FIELDS: Final = {
    "req_id": wire.field(Int64ub, doc="the client's own; the server ignores it"),
    "operation": wire.field(Int8ub, known=Operation, doc="what to do"),
    "slice": wire.field(Int8ub, doc="0 to 7, or 0xff: the whole disk"),
    "resv1": wire.reserved(2),
    "status": wire.field(Int32ub, doc="0 or a Solaris errno, written by the server"),
    "addr": wire.field(Int64ub, doc="first block, relative to the slice"),
    "nbytes": wire.field(Int64ub, doc="bytes; the server writes how many were transferred"),
    "ncookies": wire.field(Int32ub, doc="memory cookies that follow"),
    "resv2": wire.reserved(4),
}

MAX_COOKIES: Final = (MAX_DESCRIPTOR_SIZE - 48) // CookieLayout.size
"""Cookies that fit the longest ring entry; an in-band message has no more. Solaris plans for 33 at most."""

_TAIL: Final = {"cookie": wire.tail(CookieLayout, count="ncookies", limit=MAX_COOKIES, doc="the buffer")}


class Payload(NamedTuple):
    """A request as it lies in memory. Source: Solaris sys/vdsk_common.h, vd_dring_payload_t."""

    req_id: int
    operation: int
    slice: int
    status: int
    addr: int
    nbytes: int
    ncookies: int
    cookie: tuple[Cookie, ...]


class Entry(NamedTuple):
    """A ring entry: header and payload. Source: Solaris sys/vdsk_common.h, vd_dring_entry_t."""

    dstate: int
    flags: int
    req_id: int
    operation: int
    slice: int
    status: int
    addr: int
    nbytes: int
    ncookies: int
    cookie: tuple[Cookie, ...]


class InbandMessage(NamedTuple):
    """DESC_DATA: header and payload. Source: Solaris sys/vdsk_mailbox.h, vd_dring_inband_msg_t."""

    msgtype: int
    subtype: int
    subtype_env: int
    sid: int
    seq_num: int
    desc_handle: int
    req_id: int
    operation: int
    slice: int
    status: int
    addr: int
    nbytes: int
    ncookies: int
    cookie: tuple[Cookie, ...]


PayloadLayout: Final = wire.describe("vd_dring_payload", Payload, {**_FIELDS, **_TAIL}, size=40)
EntryLayout: Final = wire.describe(
    "vd_dring_entry",
    Entry,
    {**ENTRY_HEADER_FIELDS, "hdr_resv": wire.reserved(6), **_FIELDS, **_TAIL},
    size=48,
)
InbandMessageLayout: Final = wire.describe(
    "vd_dring_inband_msg", InbandMessage, {**INBAND_HEADER_FIELDS, **_FIELDS, **_TAIL}, size=64
)

ENTRY: Final = wire.derive(EntryHeaderLayout, PayloadLayout)
"""A ring entry up to its cookies, 48 bytes: (dstate, flags, req_id, operation, slice, status, addr, nbytes,
ncookies)."""

ENTRY_ONE: Final = wire.derive(EntryHeaderLayout, PayloadLayout, CookieLayout)
"""The same and one cookie, 64 bytes: (…, ncookies, cookie addr, cookie size)."""

COOKIE: Final = CookieLayout.codec
"""One cookie, 16 bytes: (addr, size)."""

INBAND: Final = InbandMessageLayout.codec
"""An in-band message up to its cookies, 64 bytes: (msgtype, subtype, subtype_env, sid, seq_num, desc_handle,
req_id, operation, slice, status, addr, nbytes, ncookies)."""

_AT: Final = {field.name: field.offset for field in EntryLayout.fields}
STATUS_AT: Final = _AT["status"]
"""Where the status stands in a ring entry."""
NBYTES_AT: Final = _AT["nbytes"]
"""Where the length stands in a ring entry."""

_DECLARED: Final = PayloadLayout.struct
STATUS: Final = wire.Codec([_DECLARED.status])
"""The status alone; a server writes it without touching its neighbours."""
NBYTES: Final = wire.Codec([_DECLARED.nbytes])
"""The length alone."""
PLAIN_AT: Final = _AT["operation"]
"""Where what :data:`PLAIN` holds begins in a ring entry."""
PLAIN: Final = wire.Codec([*_DECLARED.subcons[1:-1], CookieLayout.struct])
"""All that a request of one cookie says, 44 bytes: (operation, slice, status, addr, nbytes, ncookies, cookie
addr, cookie size)."""
RESULT: Final = wire.Codec([_DECLARED.status, _DECLARED.addr, _DECLARED.nbytes])
"""What a client reads at ``STATUS_AT``: (status, addr, nbytes)."""


_FREE_HEADER: Final = EntryHeaderLayout.build(EntryHeader(Dstate.FREE, ACK_FLAG))


class Request(NamedTuple):
    """One request: what the server validates and executes. ``nbytes`` bytes, ``addr`` blocks."""

    req_id: int
    operation: int
    slice: int
    addr: int
    nbytes: int
    cookies: tuple[Cookie, ...]


def parse_cookies(entry: bytes, ncookies: int) -> tuple[Cookie, ...]:
    """Return the cookies of a ring entry.

    Raises: RingError (more than the entry has room for): NACK and full reset.
    Source: Solaris vds.c, vd_process_element.
    """
    end = ENTRY.size + ncookies * COOKIE.size
    if end > len(entry):
        raise RingError(
            Layer.VDISK, Reaction.RESET, f"{ncookies} cookies in a descriptor of {len(entry)} bytes"
        )
    unpack = COOKIE.unpack_from
    return tuple(Cookie(*unpack(entry, at)) for at in range(ENTRY.size, end, COOKIE.size))


def parse_entry(entry: bytes) -> Request:
    """Return the request in a private copy of a ring entry, at least 64 bytes.

    A request of no bytes has no cookies, whatever it says: Solaris vdc leaves the old count there.
    Raises: RingError (shorter; more cookies than fit): NACK and full reset.
    """
    if len(entry) < MIN_DESCRIPTOR_SIZE:
        raise RingError(Layer.VDISK, Reaction.RESET, f"a descriptor of {len(entry)} bytes")
    values = ENTRY_ONE.unpack_from(entry)
    _, _, req_id, operation, slice_, _, addr, nbytes, ncookies, first, size = values
    if not nbytes:
        return Request(req_id, operation, slice_, addr, nbytes, ())
    if ncookies == 1:  # what nearly every request has
        return Request(req_id, operation, slice_, addr, nbytes, (Cookie(first, size),))
    return Request(req_id, operation, slice_, addr, nbytes, parse_cookies(entry, ncookies))


def build_payload(request: Request) -> bytes:
    """Return the payload that asks for ``request``: 40 bytes and its cookies.

    Raises: LocalProtocolError (too many cookies; a value does not fit its field).
    """
    return PayloadLayout.build(
        Payload(
            request.req_id,
            request.operation,
            request.slice,
            STATUS_UNSET,
            request.addr,
            request.nbytes,
            len(request.cookies),
            request.cookies,
        )
    )


def build_entry(request: Request, descriptor_size: int) -> bytes:
    """Return the ring entry of ``request``, FREE until it is posted, without the room that is left over.

    Raises: LocalProtocolError (its cookies do not fit ``descriptor_size``; a value does not fit its field).
    """
    entry = _FREE_HEADER + build_payload(request)
    if len(entry) > descriptor_size:
        raise LocalProtocolError(
            Layer.VDISK, f"{len(request.cookies)} cookies in a descriptor of {descriptor_size} bytes"
        )
    return entry


def parse_inband(message: bytes) -> Request:
    """Return the request in an in-band message, header included; its length is exactly that of its cookies.

    Raises: PacketError (any other length, too many cookies): NACK and soft reset.
    Source: Solaris vds.c, vd_process_desc_msg.
    """
    parsed = InbandMessageLayout.parse(message)
    cookies = parsed.cookie if parsed.nbytes else ()
    return Request(parsed.req_id, parsed.operation, parsed.slice, parsed.addr, parsed.nbytes, cookies)
