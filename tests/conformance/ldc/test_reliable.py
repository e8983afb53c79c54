"""Reliable mode: handshake, 48 bytes a packet, a bounded window, a stream of bytes.

Source: Solaris ldc.c, i_ldc_write_stream, i_ldc_write_packet, i_ldc_get_tx_head, i_ldc_rx_process_hvq,
i_ldc_read_packet, i_ldc_read_stream; Linux arch/sparc/kernel/ldc.c, stream_ops.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.ldc.events import LinkState, LinkUp, StreamReceived
from protocol.ldc.packet import Mode
from protocol.ldc.reliable import ReliableLink
from protocol.ldc.state import LinkStatus, TransportState
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    NACK,
    RDX,
    RELIABLE,
    RTR,
    RTS,
    START,
    STOP,
    FakeWire,
    ack,
    events,
    feed,
    numbered,
    outputs,
    packet,
    piece,
    rdx,
    rtr,
    rts,
    stream,
    version,
)
from tests.support.streams import PIECE, WINDOW, fill, reset

OPEN, READY, VREADY, UP = TransportState


# -------------------------------------------------------------------------------------------------- handshake


def test_handshake_says_mode_three_as_responder() -> None:
    """ "env = mode" in RTS and in RTR; the rest is as in unreliable mode."""
    link = ReliableLink()
    assert (link.mode, link.status) == (Mode.RELIABLE, LinkStatus.OPEN)
    link.link_state(LinkState.UP)
    assert feed(link, version(INFO)) == [version(ACK)]
    assert (link.version, link.status) == ((1, 0), LinkStatus.READY)
    assert feed(link, rts(mode=RELIABLE)) == [bytes.fromhex("0101030300000000") + bytes(56)]
    assert feed(link, rdx()) == []
    assert (link.is_up, link.status, events(link)[-1]) == (True, LinkStatus.UP, LinkUp())


def test_handshake_says_mode_three_as_initiator() -> None:
    """RDX has "ackid = last_msg_rcd at offset 12"; it took seqid 1, so that the first data is 2."""
    link = ReliableLink()
    link.link_state(LinkState.UP)
    link.up()
    assert outputs(link) == [version(INFO)]
    assert feed(link, version(ACK)) == [bytes.fromhex("0101020300000000") + bytes(56)]
    assert feed(link, rtr(mode=RELIABLE)) == [bytes.fromhex("0101040000000001") + bytes(56)]
    assert link.send(b"abc") == 3
    header = bytes.fromhex("020100c30000000200000000" + "00000000")
    assert outputs(link) == [header + b"abc" + bytes(45)]


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize(("make", "ctrl"), [(rts, RTS), (rtr, RTR)])
def test_other_mode_is_nacked(make: Callable[[int, int], bytes], ctrl: int, mode: int) -> None:
    """ "mode differs: send CTRL/NACK, stay"."""
    link = ReliableLink()
    link.link_state(LinkState.UP)
    feed(link, version(INFO))
    assert feed(link, make(0, mode)) == [packet(CTRL, NACK, ctrl)]
    assert link.state is VREADY


def test_two_ends_that_both_start_come_up() -> None:
    """Two handshakes at once, then the numbers run from 2 on both sides."""
    wire = FakeWire(make=ReliableLink)
    wire.settle()
    assert [link.is_up for link in wire.links] == [True, True]
    assert [events[-1] for events in wire.events] == [LinkUp(), LinkUp()]
    wire.act(0, "send", b"x")
    assert list(wire.queues[1]) == [piece(2, b"x")]


# ---------------------------------------------------------------------------------------------------- sending


def test_send_before_up_is_refused() -> None:
    """ldc_write: ECONNRESET unless the state is UP."""
    link = ReliableLink()
    with pytest.raises(LocalProtocolError, match="the link is not up") as caught:
        link.send(b"x")
    assert caught.value.layer is Layer.LDC
    link = stream()
    link.link_state(LinkState.RESET)
    with pytest.raises(LocalProtocolError):
        link.send(b"x")
    assert outputs(link) == []


def test_write_is_cut_into_48_bytes() -> None:
    """i_ldc_write_packet with the payload of reliable mode: START first, STOP last, each its own number."""
    link = stream()
    assert link.send(PIECE + PIECE + b"end") == 99
    assert outputs(link) == [piece(1, PIECE, START), piece(2, PIECE, 0), piece(3, b"end", STOP)]


def test_write_of_one_packet_has_both_marks() -> None:
    """And 48 bytes still are one packet."""
    link = stream()
    assert link.send(PIECE) == 48
    assert outputs(link) == [piece(1, PIECE, START | STOP)]


def test_empty_write_sends_nothing() -> None:
    """ldc_write: a size of zero returns 0."""
    link = stream()
    assert link.send(b"") == 0
    assert outputs(link) == []


def test_write_is_truncated_to_the_mtu() -> None:
    """i_ldc_write_stream: "Truncate packet to max of MTU size"; the count says so."""
    link = stream(mtu=100)
    assert link.room == 100
    assert link.send(bytes(101)) == 100
    assert outputs(link) == [piece(1, bytes(48), START), piece(2, bytes(48), 0), piece(3, bytes(4), STOP)]


def test_mtu_may_be_less_than_a_packet_carries() -> None:
    """The write is short then; on receipt, more than the mtu does not fit the stream buffer."""
    link = stream(mtu=16)
    assert link.send(bytes(48)) == 16
    assert outputs(link) == [piece(1, bytes(16))]
    feed(link, piece(2, bytes(16)))
    assert events(link) == [StreamReceived(bytes(16))]
    link.receive_packet(piece(3, bytes(17)))
    assert reset(link, "pieces of the stream do not join")


def test_no_mtu_is_no_link() -> None:
    """Our own fault, said at once."""
    with pytest.raises(LocalProtocolError, match="an mtu of 0 bytes"):
        ReliableLink(0)


def test_window_is_what_the_queue_holds() -> None:
    """i_ldc_get_tx_head: slots are free only behind what was acknowledged, however much was sent."""
    link = stream()
    assert fill(link) == WINDOW * 48
    assert link.room == 0
    sent = outputs(link)
    assert (len(sent), sent[-1]) == (WINDOW, piece(WINDOW, bytes(48), STOP))
    assert (link.room, link.send(b"x")) == (0, 0)
    assert outputs(link) == []


def test_smallest_queue_has_512_entries() -> None:
    """ldc_init: no fewer than LDC_QUEUE_ENTRIES."""
    assert fill(stream(mtu=48 * 100)) == 511 * 48


def test_room_is_taken_in_part() -> None:
    """Our choice: Solaris takes nothing (EWOULDBLOCK) unless all has room, on a stream nobody can tell."""
    link = stream()
    fill(link)
    outputs(link)
    assert feed(link, ack(2, 2)) == []
    assert link.room == 96
    assert link.send(PIECE + PIECE + b"rest") == 96
    assert outputs(link) == [piece(1024, PIECE, START), piece(1025, PIECE, STOP)]


def test_packets_not_taken_yet_take_room_too() -> None:
    """Control packets wait in the same queue: here NACKs, in ours ahead of the first data."""
    link = stream()
    for _ in range(WINDOW - 1):
        link.receive_packet(piece(9))
    assert link.room == 48
    assert link.send(bytes(49)) == 48
    assert link.room == 0
    sent = outputs(link)
    assert sent[-2:] == [numbered(DATA, NACK, 0, WINDOW - 1, 1), piece(WINDOW, bytes(48))]
    assert link.room == 8192


# -------------------------------------------------------------------------------------------------- receiving


def test_write_is_given_when_it_is_whole() -> None:
    """i_ldc_read_packet returns at STOP; what was collected is the next part of the stream."""
    link = stream()
    feed(link, piece(2, PIECE, START), piece(3, PIECE, 0))
    assert events(link) == []
    feed(link, piece(4, b"end", STOP), piece(5, b"more"))
    assert events(link) == [StreamReceived(PIECE + PIECE + b"end"), StreamReceived(b"more")]


def test_write_of_one_mtu_fits() -> None:
    """The stream buffer has the length of the mtu."""
    link = stream(mtu=100)
    feed(link, piece(2, PIECE, START), piece(3, PIECE, 0), piece(4, b"last", STOP))
    assert events(link) == [StreamReceived(PIECE + PIECE + b"last")]


def test_write_longer_than_the_mtu_resets() -> None:
    """Our choice: Solaris drops it in silence, Linux returns EMSGSIZE for ever."""
    link = stream(mtu=100)
    assert feed(link, piece(2, PIECE, START), piece(3, PIECE, 0)) == [ack(1, 3)]
    link.receive_packet(piece(4, b"short", STOP))
    assert reset(link, "pieces of the stream do not join")


@pytest.mark.parametrize("length", [49, 63])
def test_length_that_no_packet_can_have_resets(length: int) -> None:
    """48 bytes are all there is."""
    link = stream()
    link.receive_packet(packet(DATA, INFO, 0, START | STOP | length, 2))
    assert reset(link, "pieces of the stream do not join")


@pytest.mark.parametrize("flags", [0, STOP])
def test_piece_without_a_start_resets(flags: int) -> None:
    """Our choice: the drivers toss the packet, whose number they have acknowledged."""
    link = stream()
    link.receive_packet(piece(2, b"middle", flags))
    assert reset(link, "pieces of the stream do not join")


@pytest.mark.parametrize("flags", [START, START | STOP])
def test_start_in_the_middle_of_a_write_resets(flags: int) -> None:
    """Our choice: Solaris forgets what came before, Linux puts it in front of what follows."""
    link = stream()
    assert feed(link, piece(2, b"begin", START)) == [ack(1, 2)]
    link.receive_packet(piece(3, b"again", flags))
    assert reset(link, "pieces of the stream do not join")


def test_empty_write_is_acknowledged_and_not_told() -> None:
    """A read of size 0 is what a reader sees of an empty queue."""
    link = stream()
    assert feed(link, piece(2, b""), piece(3, b"", START), piece(4, b"", STOP)) == [ack(1, 4)]
    assert events(link) == []


def test_bytes_after_the_length_are_stale_and_ignored() -> None:
    """Data packets are not zeroed."""
    link = stream()
    feed(link, bytes([DATA, INFO, 0, START | STOP | 4]) + piece(2, b"goodstale")[4:])
    assert events(link) == [StreamReceived(b"good")]


@pytest.mark.parametrize("size", [0, 63, 65])
def test_only_packets_of_64_bytes_are_packets(size: int) -> None:
    """What no LDC peer can send closes the channel."""
    link = stream()
    with pytest.raises(PacketError) as caught:
        link.receive_packet(bytes(size))
    assert (caught.value.reaction, link.is_up) == (Reaction.CLOSE, True)


@pytest.mark.parametrize("state", [OPEN, READY, VREADY])
def test_data_before_up_is_discarded_and_not_recorded(state: TransportState) -> None:
    """ "discarded, head advanced, sequence not recorded"; nor is it acknowledged."""
    link = ReliableLink()
    if state is not OPEN:
        link.link_state(LinkState.UP)
    if state is VREADY:
        feed(link, version(INFO))
    events(link)
    assert feed(link, piece(77)) == []
    assert (link.state, events(link)) == (state, [])
    if state is VREADY:
        feed(link, rdx(1))  # would be out of sequence had 77 been recorded
        assert link.is_up


@pytest.mark.parametrize("stype", [0, 8])
def test_data_of_no_known_subtype_is_recorded_and_ignored(stype: int) -> None:
    """Consumed like any packet: its number counts, nothing else happens, nothing is acknowledged."""
    link = stream()
    assert feed(link, packet(DATA, stype, 0, START | STOP | 1, 2)) == []
    assert feed(link, piece(3, b"a")) == [ack(1, 3)]
    assert events(link) == [StreamReceived(b"a")]


def test_packet_of_no_known_type_is_checked_before_up_as_well() -> None:
    """It is no data, which alone is discarded unseen."""
    link = ReliableLink()
    link.link_state(LinkState.UP)
    assert feed(link, packet(0x10, INFO, 0, 0, 9)) == [numbered(0x10, NACK, 0, 1, 0)]


def test_upper_bits_of_the_control_byte_do_not_count_for_the_dispatch() -> None:
    """ "ctrl & 0x0f" says what a control packet is."""
    link = ReliableLink()
    link.link_state(LinkState.UP)
    feed(link, version(INFO), rts(mode=RELIABLE), packet(CTRL, INFO, 0x10 | RDX, 0, 1))
    assert link.is_up


def test_packet_of_no_known_type_is_recorded_and_ignored() -> None:
    """ERR is defined and never sent."""
    link = stream()
    assert feed(link, packet(0x10, INFO, RDX, 0, 2), piece(3, b"a")) == [ack(1, 3)]
    assert events(link) == [StreamReceived(b"a")]


# --------------------------------------------------------------------------------------------- 32-bit numbers


def test_numbers_wrap_at_32_bits() -> None:
    """RTS hands out the numbers from which both sides count on: here the last but one."""
    link = ReliableLink()
    link.link_state(LinkState.UP)
    feed(link, version(INFO), rts(0xFFFFFFFD, RELIABLE), rdx(0xFFFFFFFE))
    assert link.send(bytes(48 * 3)) == 144
    assert outputs(link) == [
        piece(0xFFFFFFFE, bytes(48), START),
        piece(0xFFFFFFFF, bytes(48), 0),
        piece(0, bytes(48), STOP),
    ]
    assert feed(link, piece(0xFFFFFFFF), piece(0)) == [ack(1, 0)]
    assert feed(link, ack(1, 0xFFFFFFFF)) == []
    assert feed(link, ack(2, 0)) == []
    assert (link.room, link.is_up) == (8192, True)
    link.receive_packet(ack(3, 0xFFFFFFFE))
    assert not link.is_up
