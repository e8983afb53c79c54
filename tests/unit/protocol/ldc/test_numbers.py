"""The numbers that are not in a layout, against the headers; and the queue sizes that follow from them."""

from __future__ import annotations

from enum import IntEnum, IntFlag

import pytest

from protocol.errors import Layer, LocalProtocolError
from protocol.ldc import channel
from protocol.ldc.channel import DeviceClass, count_queue_entries
from protocol.ldc.events import (
    EventCode,
    LinkDown,
    LinkReset,
    LinkState,
    LinkUp,
    MessageReceived,
    StreamReceived,
)
from protocol.ldc.fragment import QUEUE_ENTRIES, QUEUE_PACKETS
from protocol.ldc.handshake import INIT_SEQID, UNCHECKED, VERSIONS, HandshakeLink
from protocol.ldc.hypervisor import CopyDirection, FastTrap, InterruptState
from protocol.ldc.link import Link
from protocol.ldc.raw import RawLink
from protocol.ldc.reliable import ReliableLink
from protocol.ldc.state import STATUS, Handshake, LinkStatus, TransportFlag, TransportState
from protocol.ldc.transport import Transport

NUMBERS: list[tuple[type[IntEnum | IntFlag], dict[str, int]]] = [
    (LinkStatus, {"INIT": 1, "OPEN": 2, "READY": 3, "UP": 4}),
    (EventCode, {"DOWN": 1, "RESET": 2, "UP": 4, "READ": 8, "WRITE": 16}),
    (LinkState, {"DOWN": 0, "UP": 1, "RESET": 2}),
    (
        TransportFlag,
        {
            "TXQ_RDY": 0x01,
            "RXQ_RDY": 0x02,
            "QCONF_RDY": 0x04,
            "CNEX_RDY": 0x08,
            "LINK_READY": 0x10,
            "VER_DONE": 0x20,
            "HSHAKE_DONE": 0x40,
            "IN_RESET": 0x100,
        },
    ),
    (TransportState, {"OPEN": 0x0F, "READY": 0x1F, "VREADY": 0x3F, "UP": 0x7F}),
    (
        Handshake,
        {
            "SENT_VER": 0x01,
            "SENT_RTS": 0x02,
            "RCVD_RTR": 0x04,
            "SENT_RDX": 0x08,
            "RCVD_VER": 0x10,
            "RCVD_RTS": 0x20,
            "SENT_RTR": 0x40,
            "RCVD_RDX": 0x80,
        },
    ),
    (
        DeviceClass,
        {"GENERIC": 1, "BLK": 2, "BLK_SVC": 3, "NT": 4, "NT_SVC": 5, "SERIAL": 6, "PCIV": 7},
    ),
    (
        FastTrap,
        {
            "TX_QCONF": 224,
            "TX_QINFO": 225,
            "TX_GET_STATE": 226,
            "TX_SET_QTAIL": 227,
            "RX_QCONF": 228,
            "RX_QINFO": 229,
            "RX_GET_STATE": 230,
            "RX_SET_QHEAD": 231,
            "SET_MAP_TABLE": 234,
            "GET_MAP_TABLE": 235,
            "COPY": 236,
            "MAPIN": 237,
            "UNMAP": 238,
            "REVOKE": 239,
            "MAPIN_SIZE_MAX": 391,
        },
    ),
    (InterruptState, {"IDLE": 0, "RECEIVED": 1, "DELIVERED": 2}),
    (CopyDirection, {"IN": 0, "OUT": 1}),
]


@pytest.mark.parametrize(("enumeration", "expected"), NUMBERS, ids=[e.__name__ for e, _ in NUMBERS])
def test_numbers_are_those_of_the_headers(
    enumeration: type[IntEnum | IntFlag], expected: dict[str, int]
) -> None:
    assert {member.name: int(member) for member in enumeration} == expected


def test_limits_are_those_of_the_headers() -> None:
    assert (channel.DEFAULT_MTU, channel.VDISK_MTU, channel.MTU_MESSAGES) == (8192, 256, 4)
    assert (channel.QUEUE_ENTRIES_MIN, channel.MAP_TABLE_ENTRIES) == (512, 8192)
    assert (channel.MAX_RETRIES, channel.RETRY_DELAY_US) == (1000, 1)
    assert (QUEUE_ENTRIES, QUEUE_PACKETS) == (512, 511)
    assert ([tuple(each) for each in VERSIONS], INIT_SEQID) == ([(1, 0)], 0)
    assert sorted(UNCHECKED) == [1, 2, 3]


@pytest.mark.parametrize(
    ("mtu", "payload", "entries"),
    [
        (256, 56, 512),  # vDisk
        (8192, 64, 512),  # 512 packets
        (8192, 56, 1024),  # 585
        (8192, 48, 1024),  # 682
        (8208, 64, 1024),  # 513
        (16384, 64, 1024),
        (1, 64, 512),
    ],
)
def test_queue_holds_four_messages_of_one_mtu(mtu: int, payload: int, entries: int) -> None:
    assert count_queue_entries(mtu, payload) == entries


@pytest.mark.parametrize("mtu", [0, -1])
def test_no_mtu_is_refused(mtu: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"an mtu of {mtu} bytes") as caught:
        count_queue_entries(mtu, 56)
    assert caught.value.layer is Layer.LDC


def test_every_event_has_the_code_of_the_driver() -> None:
    events = (LinkDown(), LinkReset("cause"), LinkUp(), MessageReceived(b"x"), StreamReceived(b"x"))
    assert [int(event.code) for event in events] == [1, 2, 4, 8, 8]


def test_every_state_has_a_status() -> None:
    assert {state: int(status) for state, status in STATUS.items()} == {0x0F: 2, 0x1F: 3, 0x3F: 3, 0x7F: 4}


def test_each_mode_has_its_number() -> None:
    assert [int(kind.mode) for kind in (RawLink, Link, ReliableLink)] == [0, 1, 3]


def test_a_mode_says_what_up_and_packets_do() -> None:
    assert Transport.__abstractmethods__ == {"receive_packet", "_begin", "_process"}
    assert HandshakeLink.__abstractmethods__ == {"_process"}
