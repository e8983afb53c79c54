"""Records: bytes typed by hand, round trips, and everything that is no record."""

from __future__ import annotations

import pytest

from hypervisor.records import (
    COPY_LIMIT,
    RECORD_LIMIT,
    Copy,
    CopyDirection,
    CopyDone,
    MapTableRecord,
    Push,
    QueueRecord,
    Record,
    build_record,
    parse_header,
    parse_record,
)
from protocol.errors import LocalProtocolError, PacketError, Reaction

#: (record, its datagram in hex); from docs/transport.md, not from the code.
WRITTEN: list[tuple[Record, str]] = [
    (QueueRecord(512), "0003 0000 00000010 00000200 00000000"),
    (QueueRecord(0), "0003 0000 00000010 00000000 00000000"),
    (MapTableRecord(0x4000, 4096), "0004 0000 00000018 00001000 00000000 0000000000004000"),
    (Copy(7, 0, 0x12348, 16), "0005 0000 00000020 00000007 00000000 0000000000012348 00000010 00000000"),
    (
        Copy(8, 1, 0x2000, 8, b"abcdefgh"),
        "0005 0000 00000028 00000008 00000001 0000000000002000 00000008 00000000 6162636465666768",
    ),
    (
        CopyDone(7, 0, 8, b"abcdefgh"),
        "0006 0000 00000020 00000007 00000000 00000008 00000000 6162636465666768",
    ),
    (CopyDone(8, 14, 0), "0006 0000 00000018 00000008 0000000e 00000000 00000000"),
    (CopyDone(8, 0, 8), "0006 0000 00000018 00000008 00000000 00000008 00000000"),
    (
        Push([(0x2008, b"12345678")], [], True),
        "0007 0001 00000028 00000001 00000000 0000000000002008 00000008 00000000 3132333435363738",
    ),
    (
        Push([(0x10, b"12345678"), (0x20, b"ABCDEFGHabcdefgh")], [b"p" * 64]),
        "0007 0000 00000088 00000002 00000001 0000000000000010 00000008 00000000"
        "0000000000000020 00000010 00000000 3132333435363738 41424344454647486162636465666768" + "70" * 64,
    ),
]


def joined(record: Record) -> bytes:
    return b"".join(build_record(record))


@pytest.mark.parametrize(("record", "datagram"), WRITTEN, ids=lambda value: type(value).__name__)
def test_record_has_the_documented_bytes(record: Record, datagram: str) -> None:
    assert joined(record) == bytes.fromhex(datagram)


@pytest.mark.parametrize(("record", "datagram"), WRITTEN, ids=lambda value: type(value).__name__)
def test_documented_bytes_parse(record: Record, datagram: str) -> None:
    assert parse_record(bytes.fromhex(datagram)) == record


def test_record_of_64_bytes_is_padded_so_that_it_is_no_packet() -> None:
    record = Copy(1, CopyDirection.OUT, 0, 32, b"d" * 32)
    datagram = joined(record)
    assert datagram == bytes.fromhex("0005 0000 00000040") + datagram[8:64] + bytes(8)
    assert parse_record(datagram) == record


def test_reserved_bytes_and_flags_are_ignored() -> None:
    assert parse_record(bytes.fromhex("0003 ffff 00000010 00000200 ffffffff")) == QueueRecord(512)


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        ("00", "1 bytes"),
        ("0003 0000 000000", "7 bytes"),
        ("0003 0000 00000011 00000200 00000000", "says 17 bytes and has 16"),
        ("0003 0000 00000000 00000200 00000000", "says 0 bytes"),
        ("0003 0000 ffffffff 00000200 00000000", "says 4294967295 bytes"),
        ("0000 0000 00000008", "type 0"),
        ("0001 0000 00000008", "type 1"),
        ("0002 0000 00000008", "type 2"),
        ("0008 0000 00000008", "type 8"),
        ("ffff 0000 00000008", "type 65535"),
        ("0003 0000 00000008", "8 bytes, must be 16"),
        ("0003 0000 00000018 00000200 00000000 0000000000000000", "24 bytes, must be 16"),
        ("0003 0000 00000010 00000001 00000000", "queue of 1 entries"),
        ("0003 0000 00000010 000001ff 00000000", "queue of 511 entries"),
        ("0003 0000 00000010 ffffffff 00000000", "queue of 4294967295 entries"),
        ("0004 0000 00000018 00000003 00000000 0000000000000000", "map table of 3 entries"),
        ("0004 0000 00000010 00000002 00000000", "16 bytes, must be 24"),
        ("0005 0000 00000010 00000000 00000000", "16 bytes, must be 32"),
        # IN with data; OUT with too few and too many bytes; OUT of 4 GiB
        (
            "0005 0000 00000028 00000001 00000000" + "00" * 8 + "00000008 00000000" + "00" * 8,
            "8 bytes of data",
        ),
        ("0005 0000 00000020 00000001 00000001" + "00" * 8 + "00000008 00000000", "0 bytes of data"),
        (
            "0005 0000 00000028 00000001 00000001" + "00" * 8 + "00000000 00000000" + "00" * 8,
            "8 bytes of data",
        ),
        ("0005 0000 00000020 00000001 00000001" + "00" * 8 + "ffffffff 00000000", "0 bytes of data"),
        ("0006 0000 00000010 00000000 00000000", "16 bytes, must be 24"),
        ("0006 0000 00000020 00000001 00000000 00000010 00000000" + "00" * 8, "8 bytes of data"),
        ("0007 0000 0000000c 00000000", "12 bytes, must be 16"),
        ("0007 0000 00000010 00000001 00000000", "no room"),
        ("0007 0000 00000010 00000000 00000001", "no room"),
        ("0007 0000 00000010 ffffffff ffffffff", "no room"),
        ("0007 0000 00000020 00000001 00000000" + "00" * 8 + "00000000 00000000", "0 bytes at"),
        ("0007 0000 00000024 00000001 00000000" + "00" * 8 + "00000004 00000000" + "00" * 4, "4 bytes at"),
        ("0007 0000 00000028 00000001 00000000 0000000000000004 00000008 00000000" + "00" * 8, "at 0x4"),
        ("0007 0000 00000028 00000001 00000000" + "00" * 8 + "00000010 00000000" + "00" * 8, "not as long"),
        ("0007 0000 00000030 00000001 00000000" + "00" * 8 + "00000008 00000000" + "00" * 16, "not as long"),
        ("0007 0001 00000050 00000000 00000001" + "00" * 64, "to be continued"),
    ],
)
def test_what_is_no_record_closes_the_channel(datagram: str, why: str) -> None:
    with pytest.raises(PacketError, match=why) as caught:
        parse_record(bytes.fromhex(datagram))
    assert caught.value.reaction is Reaction.CLOSE


def test_padding_is_allowed_behind_64_bytes_only() -> None:
    with pytest.raises(PacketError, match="says 16 bytes and has 24"):
        parse_record(bytes.fromhex("0003 0000 00000010 00000200 00000000") + bytes(8))
    assert parse_header(bytes.fromhex("0009 0002 00000040") + bytes(64)) == (9, 2)


def test_longest_copy_fits_into_a_datagram() -> None:
    assert len(joined(Copy(1, CopyDirection.OUT, 0, COPY_LIMIT, bytes(COPY_LIMIT)))) == RECORD_LIMIT
    assert len(joined(CopyDone(1, 0, COPY_LIMIT, bytes(COPY_LIMIT)))) <= RECORD_LIMIT


def test_longer_record_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="at most 65536"):
        build_record(Copy(1, CopyDirection.OUT, 0, COPY_LIMIT + 8, bytes(COPY_LIMIT + 8)))
