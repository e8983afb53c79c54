"""Messages cut into packets and put together again."""

from __future__ import annotations

import pytest

from protocol.ldc.fragment import (
    MAX_MESSAGE_SIZE,
    Collector,
    Piece,
    count_packets,
    split_message,
    split_stream,
)
from tests.support.calls import count_calls
from tests.support.links import START, STOP, data, piece


@pytest.mark.parametrize(("nbytes", "npackets"), [(1, 1), (56, 1), (57, 2), (112, 2), (113, 3), (28616, 511)])
def test_packets_are_counted(nbytes: int, npackets: int) -> None:
    assert count_packets(nbytes) == npackets
    assert len(split_message(bytes(nbytes), 1)) == npackets


def test_longest_message_fills_a_queue_of_512() -> None:
    assert MAX_MESSAGE_SIZE == 511 * 56


@pytest.mark.parametrize("size", [1, 7, 55, 56])
def test_short_message_is_one_packet_with_both_flags(size: int) -> None:
    message = bytes(range(size))
    assert split_message(message, 2) == [data(2, message)]


def test_long_message_is_cut_into_full_pieces() -> None:
    message = bytes(range(130))
    assert split_message(message, 0xFFFFFFFF) == [
        data(0xFFFFFFFF, message[:56], START),
        data(0, message[56:112], 0),
        data(1, message[112:], STOP),
    ]


def test_message_of_full_pieces_ends_with_the_last_of_them() -> None:
    message = bytes(range(112))
    assert split_message(message, 1) == [data(1, message[:56], START), data(2, message[56:], STOP)]
    assert split_stream(message[:96], 1) == [piece(1, message[:48], START), piece(2, message[48:96], STOP)]


def test_empty_message_has_no_packets() -> None:
    assert split_message(b"", 1) == []


def test_write_is_cut_into_pieces_of_reliable_mode() -> None:
    written = bytes(range(130))
    assert split_stream(written, 0xFFFFFFFF) == [
        piece(0xFFFFFFFF, written[:48], START),
        piece(0, written[48:96], 0),
        piece(1, written[96:], STOP),
    ]
    assert split_stream(written[:48], 2) == [piece(2, written[:48])]
    assert split_stream(b"", 2) == []


def test_one_piece_message_comes_out_at_once() -> None:
    collector = Collector()
    assert collector.add(START | STOP | 3, 1, b"abcdef") == b"abc"
    assert collector.first_seqid is None


@pytest.mark.parametrize("length", [0, 1, 8, 24, 55, 56])
def test_message_of_one_piece_takes_the_short_way(length: int) -> None:
    """Nearly every message of a disk is one packet: neither end calls anything else for it."""
    assert count_calls(Collector().add, START | STOP | length, 1, bytes(56)) == 1
    if length:
        assert count_calls(split_message, bytes(length), 1) == 1


def test_pieces_are_put_together() -> None:
    collector = Collector()
    assert collector.add(START | 4, 7, b"abcd") is Piece.KEPT
    assert collector.first_seqid == 7
    assert collector.add(4, 8, b"efgh") is Piece.KEPT
    assert collector.first_seqid == 7
    assert collector.add(STOP | 2, 9, b"ij??") == b"abcdefghij"
    assert collector.first_seqid is None


@pytest.mark.parametrize("flags", [0, STOP])
def test_piece_without_a_beginning_is_stray(flags: int) -> None:
    assert Collector().add(flags | 4, 1, b"abcd") is Piece.STRAY


@pytest.mark.parametrize("flags", [START, START | STOP])
def test_start_in_the_middle_begins_again(flags: int) -> None:
    collector = Collector()
    collector.add(START | 4, 1, b"lost")
    expected: bytes | Piece = b"new " if flags & STOP else Piece.KEPT
    assert collector.add(flags | 4, 2, b"new ") == expected
    if expected is Piece.KEPT:
        assert collector.first_seqid == 2
        assert collector.add(STOP | 4, 3, b"text") == b"new text"


def test_message_longer_than_the_limit_is_forgotten_and_its_rest_is_stray() -> None:
    collector = Collector(limit=8)
    assert collector.add(START | 8, 1, b"12345678") is Piece.KEPT
    assert collector.add(1, 2, b"9") is Piece.OVERFLOW
    assert collector.add(STOP | 1, 3, b"x") is Piece.STRAY
    assert collector.add(START | STOP | 1, 4, b"y") == b"y"


@pytest.mark.parametrize("limit", [111, 112])
def test_pieces_are_added_up_against_the_limit(limit: int) -> None:
    collector = Collector(limit)
    assert collector.add(START | 56, 1, bytes(56)) is Piece.KEPT
    assert collector.add(56, 2, bytes(56)) is (Piece.KEPT if limit == 112 else Piece.OVERFLOW)


@pytest.mark.parametrize("length", [57, 63])
@pytest.mark.parametrize("flags", [START, START | STOP])
def test_length_beyond_the_payload_is_an_overflow(flags: int, length: int) -> None:
    collector = Collector()
    assert collector.add(flags | length, 1, bytes(56)) is Piece.OVERFLOW
    assert collector.first_seqid is None


def test_what_was_collected_can_be_forgotten() -> None:
    collector = Collector()
    collector.add(START | 4, 1, b"abcd")
    collector.forget()
    assert collector.add(STOP | 4, 2, b"efgh") is Piece.STRAY


def test_one_piece_message_ends_one_that_was_begun() -> None:
    collector = Collector()
    collector.add(START | 4, 1, b"lost")
    assert collector.add(START | STOP | 4, 2, b"text") == b"text"
    assert collector.add(STOP | 4, 3, b"more") is Piece.STRAY


def test_empty_pieces_are_nothing_kept_but_a_beginning() -> None:
    collector = Collector()
    assert collector.add(START, 5, b"") is Piece.KEPT
    assert collector.first_seqid == 5
    assert collector.add(0, 6, b"") is Piece.KEPT
    assert collector.add(STOP | 2, 7, b"ab") == b"ab"


def test_payload_and_limit_bound_a_piece() -> None:
    assert Collector(100, 48).add(START | STOP | 49, 1, bytes(49)) is Piece.OVERFLOW
    assert Collector(100, 48).add(START | STOP | 48, 1, bytes(48)) == bytes(48)
    assert Collector(16, 48).add(START | STOP | 17, 1, bytes(48)) is Piece.OVERFLOW
    assert Collector(16, 48).add(START | STOP | 16, 1, bytes(48)) == bytes(16)
