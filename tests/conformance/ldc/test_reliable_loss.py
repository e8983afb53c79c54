"""Reliable mode: loss, disorder and reset: nothing is sent again, and nothing is left of the session before.

Source: Solaris ldc.c, i_ldc_rx_process_hvq, i_ldc_check_seqid, i_ldc_reset, i_ldc_reset_state.
"""

from __future__ import annotations

import pytest

from protocol.ldc.events import LinkDown, LinkReset, LinkState, LinkUp, StreamReceived
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
