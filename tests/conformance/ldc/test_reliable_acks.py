"""Reliable mode: what an acknowledgement frees, which one is refused, and when one is sent.

Source: Solaris ldc.c, i_ldc_process_data_ACK, i_ldc_get_tx_head, i_ldc_rx_process_hvq.
"""

from __future__ import annotations

import pytest

from protocol.ldc.events import LinkReset, LinkState, StreamReceived
from protocol.ldc.reliable import ReliableLink
from tests.support.links import (
    ACK,
    DATA,
    INFO,
    NACK,
    RELIABLE,
    START,
    STOP,
    FakeWire,
    ack,
    events,
    feed,
    numbered,
    outputs,
    piece,
    rdx,
    rts,
    stream,
    version,
)
from tests.support.streams import PIECE, WINDOW, fill, reset

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
