"""Requests on the wire: layouts, derived codecs, and what is refused."""

from __future__ import annotations

import struct

import pytest

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction, RingError
from protocol.ldc.cookie import Cookie
from protocol.vdisk import descriptor as d
from protocol.vdisk.operations import SLICE_NONE, Operation
from protocol.wire import STRUCTURES, Kind

PAYLOAD = {
    "req_id": (0, 8),
    "operation": (8, 1),
    "slice": (9, 1),
    "status": (12, 4),
    "addr": (16, 8),
    "nbytes": (24, 8),
    "ncookies": (32, 4),
    "cookie": (40, 16),
}
# name: (size, {field: (offset, size)}); Source: Solaris sys/vdsk_common.h, sys/vdsk_mailbox.h
EXPECTED = {
    "vd_dring_payload": (40, PAYLOAD),
    "vd_dring_entry": (
        48,
        {"dstate": (0, 1), "flags": (1, 1)} | {name: (at + 8, size) for name, (at, size) in PAYLOAD.items()},
    ),
    "vd_dring_inband_msg": (
        64,
        {
            "msgtype": (0, 1),
            "subtype": (1, 1),
            "subtype_env": (2, 2),
            "sid": (4, 4),
            "seq_num": (8, 8),
            "desc_handle": (16, 8),
        }
        | {name: (at + 24, size) for name, (at, size) in PAYLOAD.items()},
    ),
}
COOKIES = (Cookie(0x2008, 0x1FF8), Cookie(0x6000, 0x1000))
REQUEST = d.Request(0x0102030405060708, Operation.BREAD, SLICE_NONE, 0x1122, 0x3000, COOKIES)


@pytest.mark.parametrize("name", EXPECTED)
def test_layout_is_that_of_the_specification(name: str) -> None:
    layout = STRUCTURES[name]
    size, fields = EXPECTED[name]
    assert layout.size == size
    found = {f.name: (f.offset, f.size) for f in layout.fields if f.kind is not Kind.RESERVED}
    assert found == fields


def test_an_entry_octet_by_octet() -> None:
    entry = d.build_entry(REQUEST, 128)
    head = "01 80 000000000000 0102030405060708 01 ff 0000 ffffffff 0000000000001122 0000000000003000"
    tail = "00000002 00000000 0000000000002008 0000000000001ff8 0000000000006000 0000000000001000"
    assert entry == bytes.fromhex(head + tail)
    assert d.parse_entry(entry) == REQUEST
    assert d.parse_entry(entry + b"\xa5" * 48) == REQUEST
    assert d.build_payload(REQUEST) == entry[8:]


def test_the_fast_codecs_read_what_the_layouts_build() -> None:
    entry = d.build_entry(REQUEST, 128)
    values = (1, 0x80, REQUEST.req_id, 1, 0xFF, d.STATUS_UNSET, 0x1122, 0x3000, 2)
    assert d.ENTRY.size == 48
    assert d.ENTRY.unpack_from(entry) == values
    assert d.ENTRY_ONE.size == 64
    assert d.ENTRY_ONE.unpack_from(entry) == (*values, *COOKIES[0])
    assert d.COOKIE.size == 16
    assert d.RESULT.unpack_from(entry, d.STATUS_AT) == (d.STATUS_UNSET, 0x1122, 0x3000)
    assert (d.STATUS_AT, d.NBYTES_AT) == (20, 32)
    assert d.STATUS.unpack_from(entry, d.STATUS_AT) == (d.STATUS_UNSET,)
    assert d.NBYTES.unpack_from(entry, d.NBYTES_AT) == (0x3000,)
    assert d.EntryLayout.parse(entry) == d.Entry(*values, COOKIES)
    assert d.PayloadLayout.parse(entry[8:]) == d.Payload(*values[2:], COOKIES)


@pytest.mark.parametrize("ncookies", [2, 3, 0x10000000, 0xFFFFFFFF])
def test_cookies_beyond_the_entry_are_a_full_reset(ncookies: int) -> None:
    entry = d.ENTRY_ONE.pack(3, 0x80, 1, 1, 0xFF, 0, 0, 512, ncookies, 0, 512)
    with pytest.raises(RingError) as caught:
        d.parse_entry(entry)
    assert caught.value.reaction is Reaction.RESET


def test_cookies_up_to_the_end_of_the_entry() -> None:
    cookies = tuple(Cookie(n << 13, 8192) for n in range(18))
    entry = d.build_entry(REQUEST._replace(cookies=cookies), 336)
    assert len(entry) == 336
    assert d.parse_entry(entry).cookies == d.parse_cookies(entry, 18) == cookies


def test_a_request_of_no_bytes_has_no_cookies_whatever_it_says() -> None:
    entry = d.ENTRY_ONE.pack(3, 0x80, 1, Operation.FLUSH, 0, 0, 0, 0, 0xFFFFFFFF, 0, 0)
    assert d.parse_entry(entry) == d.Request(1, Operation.FLUSH, 0, 0, 0, ())


def test_a_short_entry_is_no_entry() -> None:
    with pytest.raises(RingError):
        d.parse_entry(bytes(63))


def test_a_request_that_does_not_fit_is_not_built() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        d.build_entry(REQUEST, 64)
    assert caught.value.layer is Layer.VDISK
    with pytest.raises(LocalProtocolError):
        d.build_payload(REQUEST._replace(nbytes=-1))
    with pytest.raises(LocalProtocolError):
        d.build_payload(REQUEST._replace(cookies=COOKIES[:1] * (d.MAX_COOKIES + 1)))


def _inband(ncookies: int, nbytes: int = 512, extra: int = 0) -> bytes:
    head = bytes.fromhex("02 01 0041 00000001") + struct.pack(">QQ", 1, 0xABCD)
    body = struct.pack(">QBBHIQQII", 7, 1, 0xFF, 0, 0xFFFFFFFF, 5, nbytes, ncookies, 0)
    return head + body + b"".join(struct.pack(">QQ", n << 13, 512) for n in range(ncookies)) + bytes(extra)


def test_an_in_band_message_is_as_long_as_its_cookies() -> None:
    request = d.Request(7, 1, 0xFF, 5, 512, (Cookie(0, 512), Cookie(0x2000, 512)))
    assert d.parse_inband(_inband(2)) == request
    assert d.parse_inband(_inband(2, nbytes=0)) == request._replace(nbytes=0, cookies=())
    for wrong in (_inband(2, extra=1), _inband(2)[:-16], _inband(2)[:63], _inband(d.MAX_COOKIES + 1)):
        with pytest.raises(PacketError):
            d.parse_inband(wrong)


def test_an_in_band_message_is_header_and_payload() -> None:
    header = d.INBAND.pack(2, 1, 0x41, 1, 1, 0xABCD, 7, 1, 0xFF, 0xFFFFFFFF, 5, 512, 2)
    assert header == _inband(2)[:64]
    assert _inband(2)[24:] == d.build_payload(
        d.Request(7, 1, 0xFF, 5, 512, (Cookie(0, 512), Cookie(0x2000, 512)))
    )
