"""The VIO layouts against the offsets of the specification, typed here by hand."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import pytest

from protocol.errors import LocalProtocolError, PacketError
from protocol.ldc.cookie import Cookie
from protocol.vio import messages as m
from protocol.vio.dring import Dstate
from protocol.vio.extensions import NO_EXTENSION, Extension
from protocol.wire import STRUCTURES, Kind, meaning

# name: (size, {field: (offset, size)}); Source: Solaris sys/vio_mailbox.h, sys/vio_common.h
TAG = {"msgtype": (0, 1), "subtype": (1, 1), "subtype_env": (2, 2), "sid": (4, 4)}
EXPECTED = {
    "vio_msg_tag": (8, TAG),
    "vio_ver_msg": (56, {**TAG, "major": (8, 2), "minor": (10, 2), "dev_class": (12, 1)}),
    "vio_dring_reg_msg": (
        32,
        {
            **TAG,
            "dring_ident": (8, 8),
            "num_descriptors": (16, 4),
            "descriptor_size": (20, 4),
            "options": (24, 2),
            "ncookies": (28, 4),
            "cookie": (32, 16),
        },
    ),
    "vio_dring_unreg_msg": (56, {**TAG, "dring_ident": (8, 8)}),
    "vio_rdx_msg": (56, TAG),
    "vio_dring_msg": (
        56,
        {
            **TAG,
            "seq_num": (8, 8),
            "dring_ident": (16, 8),
            "start_idx": (24, 4),
            "end_idx": (28, 4),
            "proc_state": (32, 1),
        },
    ),
    "polled_doorbell_msg": (
        56,
        {
            **TAG,
            "seq_num": (8, 8),
            "dring_ident": (16, 8),
            "start_idx": (24, 4),
            "end_idx": (28, 4),
            "proc_state": (32, 1),
            "completions": (36, 4),
        },
    ),
    "vio_inband_desc_msg_hdr": (24, {**TAG, "seq_num": (8, 8), "desc_handle": (16, 8)}),
    "vio_raw_data_msg": (56, {**TAG, "seq_num": (8, 8), "data": (16, 40)}),
    "vio_dring_entry_hdr": (8, {"dstate": (0, 1), "flags": (1, 1)}),
}

# Source: Solaris sys/vio_mailbox.h (VIO_TYPE_*, VIO_SUBTYPE_*, VIO_*_INFO, VDEV_*, VIO_DRING_MODE*,
# VIO_*_DRING*, VIO_DP_*); FWARC 2010/054
NUMBERS: dict[type[IntEnum] | type[IntFlag], dict[str, int]] = {
    m.MessageType: {"CTRL": 1, "DATA": 2, "ERR": 4},
    m.Subtype: {"INFO": 1, "ACK": 2, "NACK": 4},
    m.Envelope: {
        "VER_INFO": 1,
        "ATTR_INFO": 2,
        "DRING_REG": 3,
        "DRING_UNREG": 4,
        "RDX": 5,
        "DDS_INFO": 6,
        "PKT_DATA": 0x40,
        "DESC_DATA": 0x41,
        "DRING_DATA": 0x42,
    },
    m.DeviceClass: {"NETWORK": 1, "NETWORK_SWITCH": 2, "DISK": 3, "DISK_SERVER": 4, "PCI": 5},
    m.TransferMode: {"PACKET": 1, "INBAND": 2, "RING": 3, "RING_1_2": 4},
    m.DringOption: {"TX": 1, "RX": 2, "RX_DATA": 4},
    m.ProcState: {"ACTIVE": 1, "STOPPED": 2},
    Dstate: {"FREE": 1, "READY": 2, "ACCEPTED": 3, "DONE": 4, "INITIALIZING": 5},
}


@pytest.mark.parametrize("numbers", NUMBERS, ids=lambda numbers: numbers.__name__)
def test_numbers_are_those_of_the_specification(numbers: type[IntEnum] | type[IntFlag]) -> None:
    assert {name: int(member) for name, member in numbers.__members__.items()} == NUMBERS[numbers]


@pytest.mark.parametrize("name", EXPECTED)
def test_layout_is_that_of_the_specification(name: str) -> None:
    layout = STRUCTURES[name]
    size, fields = EXPECTED[name]
    assert layout.size == size
    found = {f.name: (f.offset, f.size) for f in layout.fields if f.kind is not Kind.RESERVED}
    assert found == fields


def test_ver_info_of_a_client_octet_by_octet() -> None:
    message = m.VersionMessage(sid=0x01020304, major=1, minor=2, dev_class=m.DeviceClass.DISK)
    data = m.VersionLayout.build(message)
    assert data == bytes.fromhex("01 01 0001 01020304 0001 0002 03") + bytes(43)
    assert m.VersionLayout.parse(data) == message


def test_what_is_not_said_is_zero() -> None:
    assert m.TagLayout.build(m.Tag()) == bytes.fromhex("01 01 0001 00000000")
    message = m.DringRegisterMessage(num_descriptors=4, descriptor_size=64, ncookies=0, cookie=())
    head = "01 01 0003 00000000 0000000000000000 00000004 00000040 0000 0000 00000000"
    assert m.DringRegisterLayout.build(message) == bytes.fromhex(head)


def test_dring_reg_octet_by_octet() -> None:
    message = m.DringRegisterMessage(
        sid=5,
        num_descriptors=512,
        descriptor_size=64,
        options=m.DringOption.TX | m.DringOption.RX,
        ncookies=1,
        cookie=(Cookie(0x2000, 0x8000),),
    )
    data = m.DringRegisterLayout.build(message)
    expected = "01 01 0003 00000005 0000000000000000 00000200 00000040 0003 0000 00000001"
    assert data == bytes.fromhex(expected + "0000000000002000 0000000000008000")
    assert m.DringRegisterLayout.parse(data) == message


def test_rdx_and_unregister_octet_by_octet() -> None:
    assert m.RdxLayout.build(m.RdxMessage(sid=9)) == bytes.fromhex("01 01 0005 00000009") + bytes(48)
    data = m.DringUnregisterLayout.build(m.DringUnregisterMessage(sid=9, dring_ident=1))
    assert data == bytes.fromhex("01 01 0004 00000009 0000000000000001") + bytes(40)


def test_dring_data_has_a_signed_end_and_an_unsigned_start() -> None:
    message = m.DringDataMessage(sid=1, seq_num=7, dring_ident=1, start_idx=0xFFFFFFFF, end_idx=m.OPEN_ENDED)
    data = m.DringDataLayout.build(message)
    head = "02 01 0042 00000001 0000000000000007 0000000000000001 ffffffff ffffffff 00"
    assert data == bytes.fromhex(head) + bytes(23)
    assert m.DringDataLayout.parse(data) == message


def test_doorbell_octet_by_octet() -> None:
    message = m.DoorbellMessage(
        sid=1, seq_num=2, dring_ident=1, start_idx=3, proc_state=m.ProcState.STOPPED, completions=0x01020304
    )
    data = m.DoorbellLayout.build(message)
    head = "02 01 0042 00000001 0000000000000002 0000000000000001 00000003 ffffffff 02 000000 01020304"
    assert data == bytes.fromhex(head) + bytes(16)
    assert m.DoorbellLayout.parse(data) == message


def test_raw_packet_data_octet_by_octet() -> None:
    data = m.RawDataLayout.build(m.RawDataMessage(sid=1, seq_num=2, data=bytes(range(40))))
    assert data == bytes.fromhex("02 01 0040 00000001 0000000000000002") + bytes(range(40))


def test_inband_header_octet_by_octet() -> None:
    data = m.InbandHeaderLayout.build(m.InbandHeader(2, 1, 0x41, 1, 2, 0xABCD))
    assert data == bytes.fromhex("02 01 0041 00000001 0000000000000002 000000000000abcd")


def test_reserved_bytes_are_ignored_on_receipt_and_zero_when_sent() -> None:
    data = bytearray(m.RdxLayout.build(m.RdxMessage(sid=1)))
    data[8:] = b"\xa5" * 48
    assert m.RdxLayout.build(m.RdxLayout.parse(data))[8:] == bytes(48)


@pytest.mark.parametrize("size", [0, 8, 55, 57, 64])
def test_control_messages_are_56_bytes_exactly(size: int) -> None:
    for layout in (m.VersionLayout, m.RdxLayout, m.DringUnregisterLayout, m.DringDataLayout):
        with pytest.raises(PacketError):
            layout.parse(bytes(size))


def test_a_ring_in_more_pieces_than_we_read_is_refused_before_its_cookies_are_read() -> None:
    assert m.MAX_RING_COOKIES == 33  # Source: Solaris sys/vdsk_common.h, VD_MAX_COOKIES
    head = bytearray(m.DringRegisterLayout.build(_register(0)))
    head[28:32] = (m.MAX_RING_COOKIES + 1).to_bytes(4, "big")
    with pytest.raises(PacketError, match="ncookies"):
        m.DringRegisterLayout.parse(head)
    most = m.DringRegisterLayout.build(_register(m.MAX_RING_COOKIES))
    assert m.DringRegisterLayout.parse(most).ncookies == m.MAX_RING_COOKIES
    with pytest.raises(LocalProtocolError):
        m.DringRegisterLayout.build(_register(m.MAX_RING_COOKIES + 1))


def _register(ncookies: int) -> m.DringRegisterMessage:
    cookies = tuple(Cookie(0x2000 * n, 0x2000) for n in range(ncookies))
    return m.DringRegisterMessage(
        num_descriptors=4, descriptor_size=64, ncookies=len(cookies), cookie=cookies
    )


def test_echo_changes_the_subtype_and_clears_what_is_reserved() -> None:
    message = bytes.fromhex("02 01 0042 01020304") + bytes(range(1, 26)) + b"\xa5" * 23
    expected = bytes.fromhex("02 04 0042 01020304") + bytes(range(1, 26)) + bytes(23)
    assert m.echo(message, m.Subtype.NACK) == expected


def test_echo_keeps_what_stands_behind_the_fixed_part() -> None:
    head = "01 {} 0003 00000005 0000000000000001 00000200 00000040 0003 {} 00000001"
    cookie = "0000000000002000 0000000000008000"
    message = bytes.fromhex(head.format("01", "a5a5") + cookie)
    assert m.echo(message, m.Subtype.NACK) == bytes.fromhex(head.format("04", "0000") + cookie)


@pytest.mark.parametrize(
    "message", ["07 01 7777 00000001 a5a5a5", "01 01 0005 00000001 a5", "02 01 0042 00000001"]
)
def test_echo_of_what_we_cannot_read_changes_the_subtype_alone(message: str) -> None:
    data = bytes.fromhex(message)
    assert m.echo(data, m.Subtype.NACK) == data[:1] + b"\x04" + data[2:]


def test_a_version_is_written_as_people_write_it() -> None:
    assert str(m.Version(1, 2)) == "1.2"


def test_no_extension_is_the_specification() -> None:
    assert not NO_EXTENSION
    assert [bit.value for bit in Extension] == [1, 2, 4]


def test_a_processing_state_of_zero_is_one_that_nobody_has_set() -> None:
    rows = {row.name: row for row in m.DringDataLayout.fields}
    assert [meaning(rows["proc_state"], number) for number in range(4)] == ["", "ACTIVE", "STOPPED", None]
