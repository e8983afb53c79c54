"""Reliable mode: 48 bytes a packet, acknowledgements, a bounded window, a stream of bytes.

Source: Solaris ldc.c, i_ldc_write_stream, i_ldc_write_packet, i_ldc_get_tx_head, i_ldc_process_data_ACK,
i_ldc_rx_process_hvq, i_ldc_read_packet, i_ldc_read_stream; Linux arch/sparc/kernel/ldc.c, stream_ops.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.ldc.events import LinkDown, LinkReset, LinkState, LinkUp, StreamReceived
from protocol.ldc.packet import Mode
from protocol.ldc.reliable import ReliableLink
from protocol.ldc.state import LinkStatus, TransportState
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    MARK,
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

OPEN, READY, VREADY, UP = TransportState
PIECE = bytes(range(48))
WINDOW = 1023  # mtu 8192: four of them are 682 packets, the queue has 1024 entries


def reset(link: ReliableLink, cause: str) -> bool:
    """Whether the link is back at READY, has told both sides so, and sent nothing else."""
    return (events(link), outputs(link), link.state) == ([LinkReset(cause)], [MARK], READY)


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


def fill(link: ReliableLink) -> int:
    """Write more than the window holds; return how many bytes were taken."""
    return sum(link.send(bytes(48 * 100)) for _ in range(12))


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


# ------------------------------------------------------------------------------------------- acknowledgements


def test_ack_frees_the_window_up_to_its_packet() -> None:
    """i_ldc_process_data_ACK: tx_ackd_head moves behind the packet named."""
    link = stream()
    fill(link)
    outputs(link)
    for seqid, ackid, freed in ((2, 1, 1), (3, 3, 3), (4, 100, 100), (5, WINDOW, WINDOW)):
        assert feed(link, ack(seqid, ackid)) == []
        assert link.room == min(8192, freed * 48)
    assert (events(link), link.is_up) == ([], True)


@pytest.mark.parametrize("ackid", [0, 1, 4, 0xFFFFFFFF])
def test_ack_that_matches_no_outstanding_packet_resets(ackid: int) -> None:
    """ "An ACK whose ackid matches no outstanding packet resets the channel"; here 2 and 3 are."""
    link = stream()
    link.send(b"one")
    link.send(bytes(96))
    outputs(link)
    assert feed(link, ack(2, 1)) == []
    link.receive_packet(ack(3, ackid))
    assert reset(link, "peer acknowledged what was not sent")


def test_ack_when_nothing_is_outstanding_resets() -> None:
    """Solaris looks for the number in old slots of its queue then, a defect."""
    link = stream()
    link.receive_packet(ack(2, 0))
    assert reset(link, "peer acknowledged what was not sent")


def test_ack_of_a_packet_that_was_not_taken_resets() -> None:
    """i_ldc_process_data_ACK looks as far as the head: "Pkts between head and tail are yet to be sent"."""
    link = stream()
    link.send(bytes(96))
    assert link.next_output() == piece(1, bytes(48), START)
    link.receive_packet(ack(2, 1))
    assert events(link) == []
    link.receive_packet(ack(3, 2))
    assert reset(link, "peer acknowledged what was not sent")


@pytest.mark.parametrize("sent", range(2, 9))
@pytest.mark.parametrize("left", range(1, 4))
def test_just_the_packets_that_were_taken_can_be_acknowledged(sent: int, left: int) -> None:
    """ "Pkts between head and tail are yet to be sent": these are the last of those that were queued."""
    taken = max(sent - left, 1)
    for ackid in (taken, taken + 1):
        link = stream()
        link.send(bytes(48 * sent))
        for _ in range(taken):
            link.next_output()
        link.receive_packet(ack(2, ackid))
        assert link.is_up == (ackid == taken)


def test_ack_when_no_packet_was_taken_at_all_resets() -> None:
    """Nothing is outstanding although there is something to send."""
    link = stream()
    link.send(b"x")
    link.receive_packet(ack(2, 1))
    assert reset(link, "peer acknowledged what was not sent")


def test_ack_before_up_resets() -> None:
    """The driver looks at ACKs in every state, and finds nothing sent."""
    link = ReliableLink()
    link.link_state(LinkState.UP)
    feed(link, version(INFO))
    events(link)
    link.receive_packet(ack(1, 0))
    assert reset(link, "peer acknowledged what was not sent")


def test_peer_may_name_an_ack_as_the_last_packet_it_received() -> None:
    """``ackid`` is last_msg_rcd, whatever packet that was; data before it is acknowledged with it."""
    link = stream()
    link.send(b"one")  # 1
    assert feed(link, piece(2)) == [piece(1, b"one"), ack(2, 2)]
    link.send(b"two")  # 3
    outputs(link)
    assert feed(link, ack(3, 2)) == []
    assert link.room == 8192
    assert feed(link, ack(4, 3)) == []
    link.receive_packet(ack(5, 3))
    assert events(link)[-1] == LinkReset("peer acknowledged what was not sent")


def test_ack_consumes_a_number_of_each_side() -> None:
    """ "RDX, DATA, DATA ACK and DATA NACK advance it", and receipt is recorded."""
    link = stream()
    link.send(b"one")
    assert feed(link, ack(7, 1))[1:] == [numbered(DATA, NACK, 0, 2, 1)]
    link = stream()
    link.send(b"one")
    outputs(link)
    assert feed(link, ack(2, 1), piece(3, b"a")) == [ack(2, 3)]
    link.send(b"two")
    assert outputs(link) == [piece(3, b"two")]


def test_ack_may_ride_on_data() -> None:
    """The drivers test the bits one by one, so this would work; they never send it."""
    link = stream()
    link.send(b"one")
    outputs(link)
    both = bytes([DATA, INFO | ACK, 0, START | STOP | 5]) + piece(2, b"bytes", ackid=1)[4:]
    assert feed(link, both) == [ack(2, 2)]
    assert (events(link), link.room) == ([StreamReceived(b"bytes")], 8192)
    link.receive_packet(bytes([DATA, INFO | ACK, 0, START | STOP | 5]) + piece(3, b"bytes", ackid=1)[4:])
    assert reset(link, "peer acknowledged what was not sent")


def test_ackid_of_plain_data_is_stale_and_ignored() -> None:
    """ "ackid in reliable data packets is also stale"."""
    link = stream()
    assert feed(link, piece(2, b"a", ackid=0x1234)) == [ack(2 - 1, 2)]
    assert events(link) == [StreamReceived(b"a")]


# --------------------------------------------------------------------------------------------- receive passes


def test_one_ack_for_all_data_of_a_pass() -> None:
    """ "one DATA/ACK (type 2, stype 2, ctrl 0, ackid = last received seqid) per interrupt pass"."""
    link = stream()
    sent = feed(link, piece(2, b"a"), piece(3, b"b"), piece(4, b"c"))
    assert sent == [bytes.fromhex("0202000000000001" + "0000000000000004") + bytes(48)]
    assert outputs(link) == []
    assert feed(link, piece(5, b"d")) == [ack(2, 5)]


def test_pass_without_data_is_not_acknowledged() -> None:
    """LDC_EVT_READ has to be among the events of the pass: an ACK is no data."""
    link = stream()
    link.send(b"x")
    outputs(link)
    assert feed(link, ack(2, 1)) == []


def test_ack_comes_after_what_was_queued_before_and_is_numbered_in_turn() -> None:
    """What the layer above answers with in the same pass goes first."""
    link = stream()
    link.receive_packet(piece(2, b"question"))
    link.send(b"answer")
    assert outputs(link) == [piece(1, b"answer"), ack(2, 2)]


def test_pieces_are_acknowledged_before_the_write_is_whole() -> None:
    """The ACK is for packets, not for what the reader got."""
    link = stream()
    assert feed(link, piece(2, PIECE, START)) == [ack(1, 2)]
    assert events(link) == []


def test_ack_waits_for_room() -> None:
    """Our choice: Solaris forgets an ACK that has no slot, and then two full windows wait for ever."""
    link = stream()
    fill(link)
    link.receive_packet(piece(2, b"a"))
    sent = outputs(link)
    assert (len(sent), sent[0], sent[-1]) == (WINDOW + 1, piece(1, bytes(48), START), ack(WINDOW + 1, 2))


def test_full_windows_on_both_sides_drain() -> None:
    """An ACK takes no slot from the data in the window."""
    wire = FakeWire(make=ReliableLink)
    wire.settle()
    totals = []
    for side in (0, 1):
        link = wire.links[side]
        assert isinstance(link, ReliableLink)
        totals.append(fill(link))
        wire.collect(side)
    wire.settle()
    assert totals == [WINDOW * 48] * 2
    for side in (0, 1):
        link = wire.links[side]
        assert isinstance(link, ReliableLink)
        assert (link.room, link.is_up) == (8192, True)
        assert sum(len(e.data) for e in wire.events[side] if isinstance(e, StreamReceived)) == totals[side]


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
    """Our choice: the drivers forget what came before."""
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


def test_acknowledgement_frees_the_window_over_the_end_of_the_numbers() -> None:
    """One ACK for packets before and after the wrap frees all of them."""
    link = ReliableLink()
    link.link_state(LinkState.UP)
    feed(link, version(INFO), rts(0xFFFFFFFE, RELIABLE), rdx(0xFFFFFFFF))
    while link.room:
        link.send(bytes(link.room))
        outputs(link)
    link.receive_packet(ack(0, 0))
    assert link.room == 2 * 48


def test_packet_of_no_known_type_is_recorded_and_ignored() -> None:
    """ERR is defined and never sent."""
    link = stream()
    assert feed(link, packet(0x10, INFO, RDX, 0, 2), piece(3, b"a")) == [ack(1, 3)]
    assert events(link) == [StreamReceived(b"a")]


# ------------------------------------------------------------------------------------------ loss and disorder


@pytest.mark.parametrize("seqid", [0, 1, 3, 0xFFFFFFFF])
def test_wrong_number_is_nacked(seqid: int) -> None:
    """ "send {type of the bad packet, NACK, ctrl & 0x0f}"; what was lost may still come."""
    link = stream()
    assert feed(link, piece(seqid)) == [numbered(DATA, NACK, 0, 1, 1)]
    assert feed(link, piece(2, b"right")) == [ack(2, 2)]
    assert events(link) == [StreamReceived(b"right")]


def test_wrong_number_does_not_go_back() -> None:
    """Unlike in unreliable mode the pieces before were read from the queue, and acknowledged."""
    link = stream()
    assert feed(link, piece(2, b"a", START)) == [ack(1, 2)]
    assert feed(link, piece(4, b"c", STOP)) == [numbered(DATA, NACK, 0, 2, 2)]
    assert feed(link, piece(3, b"b", STOP)) == [ack(3, 3)]
    assert events(link) == [StreamReceived(b"ab")]


def test_data_before_the_wrong_number_is_acknowledged_after_the_nack() -> None:
    """The ACK ends the pass, the NACK stands in the middle of it."""
    link = stream()
    assert feed(link, piece(2), piece(4)) == [numbered(DATA, NACK, 0, 1, 2), ack(2, 2)]


def test_nack_out_of_sequence_resets() -> None:
    """As in unreliable mode: packets lost both ways."""
    link = stream()
    link.receive_packet(packet(DATA, NACK, 0, 0, 5))
    assert reset(link, "packets lost in both directions")


def test_nack_that_cannot_be_sent_resets() -> None:
    """ "cannot send that NACK: reset"; and no acknowledgement outlives the session."""
    link = stream()
    link.receive_packet(piece(2))
    fill(link)
    events(link)
    link.receive_packet(piece(9))
    assert reset(link, "transmit queue full")


def test_data_nack_is_a_forced_reset() -> None:
    """ "received DATA NACK: forced reset of the channel"; nothing is sent again."""
    link = stream()
    link.send(b"lost")
    outputs(link)
    link.receive_packet(packet(DATA, NACK, 0, 0, 2))
    assert reset(link, "peer refused data")


def test_lost_packet_ends_in_a_reset_of_both_sides_and_a_new_session() -> None:
    """ "There is no retransmission": the mode is reliable only in that loss is noticed."""
    wire = FakeWire(make=ReliableLink)
    wire.settle()
    wire.act(0, "send", b"lost")
    wire.queues[1].clear()
    wire.act(0, "send", b"first")
    wire.settle()
    assert LinkReset("peer refused data") in wire.events[0]
    assert LinkReset("peer reset") in wire.events[1]
    wire.act(0, "send", b"again")
    wire.settle()
    assert [e for e in wire.events[1] if isinstance(e, StreamReceived)] == [StreamReceived(b"again")]


# ------------------------------------------------------------------------------------------------------ reset


def session(link: ReliableLink) -> None:
    """Run a new handshake and see that nothing is left of the session before."""
    handshake = [version(INFO), rts(mode=RELIABLE), rdx()]
    assert feed(link, *handshake) == [version(ACK), rtr(mode=RELIABLE)]
    link.up()
    assert (events(link), outputs(link), link.room) == ([LinkUp()], [], 8192)
    link.send(b"new")
    assert feed(link, piece(2, b"start")) == [piece(1, b"new"), ack(2, 2)]
    assert events(link) == [StreamReceived(b"start")]


def dirty() -> ReliableLink:
    """Return a link with a full window, a write half received and an ACK due."""
    link = stream()
    link.send(PIECE)
    outputs(link)
    fill(link)
    link.receive_packet(piece(2, b"half", START))
    return link


def test_down_forgets_everything() -> None:
    """Queues configured again, last_msg_snt = last_msg_rcd = 0; tx_ackd_head and the data queue too."""
    link = dirty()
    link.down()
    assert outputs(link) == [MARK]
    assert link.status is LinkStatus.READY
    session(link)


def test_reset_of_the_peer_forgets_everything() -> None:
    """Link state became RESET."""
    link = dirty()
    link.link_state(LinkState.RESET)
    assert (outputs(link), events(link)) == ([], [LinkReset("peer reset")])
    session(link)


def test_peer_that_dies_and_returns_starts_afresh() -> None:
    """Link state became DOWN."""
    link = dirty()
    link.link_state(LinkState.DOWN)
    assert (outputs(link), events(link), link.state) == ([MARK], [LinkDown()], OPEN)
    link.link_state(LinkState.UP)
    events(link)
    session(link)


def test_ver_info_in_up_starts_again() -> None:
    """ "peer restarted: reconfigure own TXQ, reset state (not the RXQ)"."""
    link = dirty()
    assert feed(link, version(INFO)) == [version(ACK)]
    assert events(link) == [LinkReset("peer restarted")]
    assert feed(link, rts(mode=RELIABLE), rdx()) == [rtr(mode=RELIABLE)]
    assert link.status is LinkStatus.READY
    link.up()
    assert (events(link), link.status) == ([LinkUp()], LinkStatus.UP)
    assert feed(link, piece(2, b"start")) == [ack(1, 2)]


@pytest.mark.parametrize("stype", [ACK, NACK])
def test_refused_step_of_the_handshake_resets(stype: int) -> None:
    """ "RDX with stype ACK or NACK: reset", UP or not."""
    link = stream()
    link.receive_packet(packet(CTRL, stype, RDX, 0, 2))
    assert reset(link, "peer refused RDX")


def test_data_received_in_reset_waits_for_up_unacknowledged() -> None:
    """Our choice: Solaris acknowledges what nobody has read; unread, it stops the sender in time."""
    link = stream()
    link.link_state(LinkState.RESET)
    events(link)
    feed(link, version(INFO), rts(mode=RELIABLE), rdx())
    assert feed(link, piece(2, b"one"), piece(3, b"two")) == []
    assert events(link) == []
    link.up()
    assert events(link) == [LinkUp(), StreamReceived(b"one"), StreamReceived(b"two")]
    assert outputs(link) == [ack(1, 3)]


def test_a_full_window_of_the_peer_can_wait_for_up() -> None:
    """What waits is bounded by the queue, which is as long as the peer's window."""
    link = stream()
    link.link_state(LinkState.RESET)
    events(link)
    feed(link, version(INFO), rts(mode=RELIABLE), rdx())
    feed(link, *(piece(seqid, b"x") for seqid in range(2, 2 + WINDOW)), piece(2 + WINDOW, b"too much"))
    link.up()
    assert events(link) == [LinkUp()] + [StreamReceived(b"x")] * WINDOW
    assert outputs(link) == [ack(1, 1 + WINDOW)]
    assert feed(link, piece(3 + WINDOW)) == [numbered(DATA, NACK, 0, 2, 1 + WINDOW)]


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
