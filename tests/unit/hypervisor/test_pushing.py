"""How memory contents are cut into records."""

from __future__ import annotations

import os

import pytest

from hypervisor.pushing import GROUP, PACKETS_LIMIT, PARCEL_PACKETS, UNSPLIT, Parcel, cut_push, groups
from hypervisor.records import RECORD_LIMIT, Push, build_record, parse_record
from protocol.errors import LocalProtocolError

PACKET = bytes(range(64))


def applied(records: list[Push]) -> dict[int, int]:
    """Return what a receiver's memory holds afterwards, byte by byte."""
    memory: dict[int, int] = {}
    for record in records:
        for addr, data in record.pieces:
            memory.update(enumerate(data, addr))
    return memory


@pytest.mark.parametrize(
    "lengths",
    [
        [],
        [0],
        [1],
        [8, 0, 8],
        [64] * 512,
        [RECORD_LIMIT],
        [RECORD_LIMIT - 32],
        [RECORD_LIMIT - 24],
        [1 << 20],
        [UNSPLIT, UNSPLIT, UNSPLIT],
        [40000, 30000, 20000, 10007, 64],
        [RECORD_LIMIT - 16 - 16 - 16, 65536],
        [RECORD_LIMIT - 16 - 16 - 8, UNSPLIT + 8],
    ],
    ids=lambda lengths: f"{len(lengths)} of {sum(lengths)}",
)
@pytest.mark.parametrize("npackets", [0, 1, PACKETS_LIMIT])
def test_records_carry_everything_in_order(lengths: list[int], npackets: int) -> None:
    pieces = [(index << 24, os.urandom(length)) for index, length in enumerate(lengths)]
    records = list(cut_push(pieces, [PACKET] * npackets))
    expected: dict[int, int] = {}
    for addr, data in pieces:
        expected.update(enumerate(data + bytes(-len(data) % 8), addr))
    assert applied(records) == expected
    assert [record.more for record in records] == [True] * (len(records) - 1) + [False]
    assert [len(record.packets) for record in records] == [0] * (len(records) - 1) + [npackets]
    for record in records:
        datagram = b"".join(build_record(record))
        assert len(datagram) <= RECORD_LIMIT
        assert parse_record(datagram) == record


def test_short_pieces_are_never_cut() -> None:
    pieces = [(index << 24, bytes(UNSPLIT - 8 * index)) for index in range(7)]
    lengths = [len(data) for record in cut_push(pieces, []) for _, data in record.pieces]
    assert lengths == [len(data) for _, data in pieces]


def test_views_are_sent_as_they_are() -> None:
    memory = bytearray(b"12345678")
    (record,) = cut_push([(0, memoryview(memory))], [])
    memory[:] = b"changed!"
    assert bytes(record.pieces[0][1]) == b"changed!"


def test_what_fits_is_one_group_with_its_packets() -> None:
    pieces = [(0, bytes(8)), (8, bytes(16))]
    assert list(groups(pieces, [PACKET])) == [(pieces, [PACKET])]
    assert list(groups([], [PACKET])) == [([], [PACKET])]


def test_a_long_answer_is_several_groups_in_order_and_the_packets_come_last() -> None:
    pieces = [(number, bytes(GROUP // 4)) for number in range(16)]
    made = list(groups(pieces, [PACKET]))
    assert [piece for group, _ in made for piece in group] == pieces
    assert [packets for _, packets in made] == [(), (), (), [PACKET]]
    assert all(sum(len(data) for _, data in group) <= GROUP for group, _ in made)


def test_a_piece_longer_than_a_group_is_a_group_of_its_own() -> None:
    pieces = [(0, bytes(8)), (8, bytes(GROUP + 8)), (1 << 40, bytes(8))]
    assert [len(group) for group, _ in groups(pieces, ())] == [1, 1, 1]


def test_a_parcel_is_one_record_of_its_pieces_and_packets() -> None:
    parcel = Parcel()
    for _ in range(2):  # the second time it is as new
        assert len(parcel) == 0
        parcel.reserve(0x2000, 8)[:] = b"one....."
        parcel.reserve(0x4000, 16)[:] = b"dropped, not sent"[:16]
        parcel.undo(16)
        parcel.reserve(0x6000, 16)[:] = b"two............."
        assert len(parcel) == 24
        pieces = [(0x2000, b"one....."), (0x6000, b"two.............")]
        assert parse_record(b"".join(parcel.take([PACKET]))) == Push(pieces, [PACKET])


def test_a_parcel_says_how_much_fits() -> None:
    parcel = Parcel()
    parcel.reserve(0, parcel.left())
    assert parcel.left() == -16
    assert len(b"".join(parcel.take([PACKET] * PARCEL_PACKETS))) == RECORD_LIMIT
    number = 0
    while parcel.left() >= 8:
        parcel.reserve(number << 24, 8)
        number += 1
    record = parse_record(b"".join(parcel.take([PACKET] * PARCEL_PACKETS)))
    assert isinstance(record, Push)
    assert len(record.pieces) == number > 2000


def test_a_parcel_with_too_much_is_not_sent() -> None:
    parcel = Parcel()
    parcel.reserve(0, parcel.left())
    with pytest.raises(LocalProtocolError):
        parcel.take([PACKET] * (PARCEL_PACKETS + 1))


def test_a_parcel_of_64_bytes_is_no_packet() -> None:
    parcel = Parcel()
    parcel.reserve(8, 32)[:] = bytes(32)
    datagram = b"".join(parcel.take())
    assert len(datagram) == 72
    assert parse_record(datagram) == Push([(8, bytes(32))], [])
