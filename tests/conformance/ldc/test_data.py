"""Data transfer in unreliable mode: sending, receiving, loss.

Source: Solaris ldc.c, ldc_write (i_ldc_write_packet), i_ldc_read_packet, i_ldc_rx_hdlr.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.ldc.events import LinkReset, LinkState, MessageReceived
from protocol.ldc.fragment import MAX_MESSAGE_SIZE
from protocol.ldc.link import Link
from protocol.ldc.state import TransportState
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    INFO,
    MARK,
    NACK,
    RDX,
    START,
    STOP,
    FakeWire,
    data,
    events,
    feed,
    in_state,
    initiator,
    numbered,
    outputs,
    packet,
    responder,
)

PIECE = bytes(range(56))

# --------------------------------------------------------------------------------------------------- sending


@pytest.mark.parametrize("state", [TransportState.OPEN, TransportState.READY, TransportState.VREADY])
def test_send_before_up_is_refused(state: TransportState) -> None:
    """A write on a link that is not UP returns ECONNRESET."""
    link = in_state(state)
    with pytest.raises(LocalProtocolError, match="ldc: the link is not up") as caught:
        link.send(b"x")
    assert caught.value.layer is Layer.LDC
    assert outputs(link) == []


@pytest.mark.parametrize("state", [LinkState.DOWN, LinkState.RESET])
def test_send_on_a_link_that_was_reset_is_refused(state: LinkState) -> None:
    """TX_GET_STATE says DOWN or RESET: "a reset and ECONNRESET"; here the report has done the reset."""
    link = responder()
    link.link_state(state)
    outputs(link)
    with pytest.raises(LocalProtocolError, match="ldc: the link is not up"):
        link.send(b"x")
    assert outputs(link) == []


def test_message_must_fit_whole() -> None:
    """ "need size <= free * 56 where free = entries - 1 - used; else EWOULDBLOCK and nothing is queued"."""
    link = responder()
    link.send(bytes(56 * 509))  # two entries of 511 are left
    with pytest.raises(LocalProtocolError, match="no room for 3 packets"):
        link.send(bytes(113))
    link.send(bytes(112))
    with pytest.raises(LocalProtocolError, match="no room for 1 packets"):
        link.send(b"x")
    assert len(outputs(link)) == 511
    link.send(b"x")
    assert outputs(link) == [data(512, b"x")]  # the refused messages took no numbers


@pytest.mark.parametrize("size", [0, MAX_MESSAGE_SIZE + 1])
def test_message_that_can_never_be_sent_is_refused(size: int) -> None:
    """ "A zero-length message cannot be sent"; one longer than the queue never fits."""
    link = responder()
    with pytest.raises(LocalProtocolError, match="a message has 1 to 28616 bytes"):
        link.send(bytes(size))
    assert outputs(link) == []


def test_pieces_are_full_but_the_last_and_marked_first_and_last() -> None:
    """ "Cut into 56-byte pieces; all but the last are full. First piece |= START, last |= STOP"."""
    link = responder()
    link.send(PIECE + PIECE + b"end")
    assert outputs(link) == [data(1, PIECE, START), data(2, PIECE, 0), data(3, b"end", STOP)]


def test_message_of_one_packet_has_both_marks() -> None:
    """ "a one-packet message has both"."""
    link = responder()
    link.send(PIECE)
    assert outputs(link) == [data(1, PIECE, START | STOP)]


# ------------------------------------------------------------------------------------------------- receiving


@pytest.mark.parametrize("size", [1, 56, 57, 112, 113, 4096, MAX_MESSAGE_SIZE])
def test_message_of_any_length_arrives_whole(size: int) -> None:
    """STOP: the count of bytes collected is returned."""
    message = bytes(index % 251 for index in range(size))
    wire = FakeWire()
    wire.settle()
    wire.act(0, "send", message)
    wire.settle()
    assert wire.messages(1) == [message]


def test_packet_lacking_start_is_dropped_and_not_recorded() -> None:
    """ "drop it, advance head, do not update last_msg_rcd (so the next packet fails the sequence check)"."""
    link = responder()
    assert feed(link, data(2, b"middle", 0)) == []
    assert feed(link, data(3, b"next")) == [numbered(DATA, NACK, 0, 1, 1)]
    assert feed(link, data(2, b"again")) == []
    assert events(link) == [MessageReceived(b"again")]


def test_start_in_the_middle_begins_the_message_again() -> None:
    """ "forget what was collected, start again with this packet"."""
    link = responder()
    feed(link, data(2, b"old", START), data(3, b"new", START), data(4, b"er", STOP))
    assert events(link) == [MessageReceived(b"newer")]


def test_message_longer_than_the_buffer_kills_the_channel() -> None:
    """ "forget the message. The rest of it then fails the START and sequence checks, a NACK is sent"."""
    link = responder()
    pieces = [data(2, PIECE, START)] + [data(seqid, PIECE, 0) for seqid in range(3, 3 + 511)]
    assert feed(link, *pieces) == []  # the 512th was too much
    assert feed(link, data(514, PIECE, 0)) == []  # lacks START
    assert feed(link, data(515, PIECE, STOP)) == [numbered(DATA, NACK, 0, 1, 513)]
    assert events(link) == []


@pytest.mark.parametrize("length", [57, 63])
def test_length_that_no_packet_can_have_forgets_the_message(length: int) -> None:
    """Longer than the space left, whatever the buffer."""
    link = responder()
    assert feed(link, packet(DATA, INFO, 0, START | STOP | length, 2, PIECE), data(3, b"next")) == []
    assert events(link) == [MessageReceived(b"next")]


def test_empty_message_is_no_message() -> None:
    """A read that returns success with size 0 is what a reader sees of an empty queue."""
    link = responder()
    assert feed(link, data(2, b""), data(3, b"next")) == []
    assert events(link) == [MessageReceived(b"next")]


def test_message_that_pauses_in_the_middle_is_not_lost() -> None:
    """ "queue empty in mid-message": the fragments stay, and the message is read when all is there."""
    link = responder()
    feed(link, data(2, b"one ", START))
    assert events(link) == []
    feed(link, data(3, b"two", STOP))
    assert events(link) == [MessageReceived(b"one two")]


def test_bytes_after_the_length_are_stale_and_ignored() -> None:
    """Data packets are not zeroed: bytes after ``length`` are stale queue contents."""
    link = responder()
    feed(link, packet(DATA, INFO, 0, START | STOP | 4, 2, b"goodstale stale stale"))
    assert events(link) == [MessageReceived(b"good")]


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_only_packets_of_64_bytes_are_packets(size: int) -> None:
    """What no LDC peer can send closes the channel; the link itself is not touched."""
    link = responder()
    with pytest.raises(PacketError) as caught:
        link.receive_packet(bytes(size))
    assert caught.value.reaction is Reaction.CLOSE
    assert link.is_up


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer_can_carry_a_packet(buffer: type[bytes]) -> None:
    """The driver may hand in the buffer that it received into."""
    link = responder()
    source = bytearray(data(2, b"text"))
    link.receive_packet(buffer(source))
    source[:] = bytes(64)
    assert events(link) == [MessageReceived(b"text")]


# ------------------------------------------------------------------------------------------ loss and disorder


@pytest.mark.parametrize("seqid", [0, 1, 3, 0xFFFFFFFF])
def test_wrong_number_is_nacked(seqid: int) -> None:
    """wrong seqid: "send {type of the bad packet, NACK, ctrl & 0x0f}"; what was lost may still come."""
    link = responder()
    assert feed(link, data(seqid)) == [numbered(DATA, NACK, 0, 1, 1)]
    assert feed(link, data(2, b"right")) == []
    assert events(link) == [MessageReceived(b"right")]
    assert link.is_up


def test_wrong_number_goes_back_to_before_the_current_message() -> None:
    """wrong seqid: "last_msg_rcd := start of current message - 1"."""
    link = responder()
    feed(link, data(2, b"a"), data(3, b"b", START), data(4, b"c", 0))
    assert feed(link, data(6, b"d", STOP)) == [numbered(DATA, NACK, 0, 1, 2)]  # ackid 2: before 3
    assert feed(link, data(3, b"whole")) == []
    assert events(link) == [MessageReceived(b"a"), MessageReceived(b"whole")]


def test_wrong_number_forgets_a_message_that_began_right_after_the_handshake() -> None:
    """Its packets were not received: it begins again with START, or never."""
    link = responder()
    feed(link, data(2, b"be", START))
    assert feed(link, data(9)) == [numbered(DATA, NACK, 0, 1, 1)]  # ackid 1: before 2
    assert feed(link, data(2, b"gin", STOP)) == []
    assert feed(link, data(2, b"whole")) == []
    assert events(link) == [MessageReceived(b"whole")]


def test_wrong_number_goes_back_over_the_end_of_the_numbers() -> None:
    """The packet before number 0 has number 2**32 - 1."""
    link = in_state(TransportState.VREADY)
    feed(link, packet(CTRL, INFO, 2, 1, 0xFFFFFFFE), packet(CTRL, INFO, RDX, 0, 0xFFFFFFFF))
    link.up()
    feed(link, data(0, b"be", START), data(7))
    assert feed(link, data(0, b"whole")) == []
    assert MessageReceived(b"whole") in events(link)


def test_wrong_number_purges_the_receive_queue() -> None:
    """wrong seqid: "purge RXQ (head := tail)"; shown with packets that wait for up()."""
    link = initiator()
    link.down()
    feed(link, *handshake())
    feed(link, data(2, b"kept"), data(9, b"wrong"), data(3, b"purged"))
    link.up()
    assert outputs(link) == [numbered(DATA, NACK, 0, 1, 2)]
    assert [event.data for event in events(link) if isinstance(event, MessageReceived)] == [b"kept"]


def handshake() -> list[bytes]:
    """What a peer sends that starts the handshake alone."""
    return [
        packet(CTRL, INFO, 1, payload=b"\x00\x01"),
        packet(CTRL, INFO, 2, 1),
        packet(CTRL, INFO, RDX, 0, 1),
    ]


def test_nack_that_cannot_be_sent_resets() -> None:
    """ "cannot send that NACK: reset"."""
    link = responder()
    link.send(bytes(MAX_MESSAGE_SIZE))
    assert feed(link, data(9)) == [MARK]  # the queue was flushed
    assert events(link) == [LinkReset("transmit queue full")]
    assert (link.is_up, link.in_reset) == (False, True)


def test_handshake_step_that_cannot_be_sent_resets() -> None:
    """ "hypervisor call failure: reset, by force"; the queue is full of NACKs that nobody has taken."""
    link = in_state(TransportState.READY)
    for _ in range(511):
        link.receive_packet(packet(CTRL, INFO, RDX, 0, 9))
    link.receive_packet(packet(CTRL, INFO, 1, payload=b"\x00\x01"))
    assert (link.state, link.in_reset) == (TransportState.READY, True)
    assert (outputs(link), events(link)) == ([MARK], [LinkReset("transmit queue full")])


@pytest.mark.parametrize("fill", [1, 2, 3])
def test_each_step_of_the_handshake_can_meet_a_full_queue(fill: int) -> None:
    """Whichever step it is: the link is reset, never half way."""
    steps = [version_ack(), packet(CTRL, INFO, 2, 1), packet(CTRL, INFO, 3, 1)]
    link = in_state(TransportState.READY)
    link.up()
    feed(link, *steps[: fill - 1])
    for _ in range(511):
        link.receive_packet(packet(CTRL, INFO, RDX, 0, 9))
    link.receive_packet(steps[fill - 1])
    assert events(link)[-1] == LinkReset("transmit queue full")
    assert (link.state, outputs(link)) == (TransportState.READY, [MARK])


@pytest.mark.parametrize("step", [1, 2])
def test_step_that_met_a_full_queue_has_not_begun_a_handshake(step: int) -> None:
    """The reset forgets it, with the flags of the handshake: up() begins anew."""
    link = in_state(TransportState.READY)
    feed(link, packet(CTRL, INFO, 1, payload=b"\x00\x01"))
    for _ in range(512):
        link.receive_packet(version_ack() if step == 1 else packet(CTRL, INFO, 2, 1))
    assert events(link) == [LinkReset("transmit queue full")]
    link.up()
    assert outputs(link) == [MARK, packet(CTRL, INFO, 1, payload=b"\x00\x01")]


def test_nack_that_cannot_be_sent_before_up_is_a_forced_reset() -> None:
    """i_ldc_rx_process_hvq, which sees what comes before UP, forces it: the peer has to notice."""
    link = in_state(TransportState.VREADY)
    for _ in range(512):
        link.receive_packet(packet(CTRL, INFO, RDX, 0, 9))
    assert events(link) == [LinkReset("transmit queue full")]
    assert outputs(link) == [MARK]


def version_ack() -> bytes:
    """Return VER ACK 1.0."""
    return packet(CTRL, ACK, 1, payload=b"\x00\x01")


def test_offer_that_cannot_be_sent_resets() -> None:
    """up() needs room for one packet like everything else."""
    link = in_state(TransportState.READY)
    for _ in range(511):
        link.receive_packet(packet(CTRL, INFO, RDX, 0, 9))
    link.up()
    assert events(link) == [LinkReset("transmit queue full")]
    assert outputs(link) == [MARK]


@pytest.mark.parametrize("make", [responder, initiator])
def test_data_nack_is_a_forced_reset(make: Callable[[], Link]) -> None:
    """received DATA NACK: "forced reset of the channel"."""
    link = make()
    seqid = 2 if make is responder else 1
    assert feed(link, packet(DATA, NACK, 0, 0, seqid)) == [MARK]
    assert events(link) == [LinkReset("peer refused data")]
    assert link.state is TransportState.READY


def test_data_nack_is_a_forced_reset_before_up_as_well() -> None:
    """The rule names no state; force means that the peer is told even now."""
    link = in_state(TransportState.VREADY)
    assert feed(link, packet(DATA, NACK, 0, 0, 1)) == [MARK]
    assert events(link) == [LinkReset("peer refused data")]


def test_packets_lost_both_ways_end_in_a_reset_too() -> None:
    """Each side's NACK is out of sequence for the other."""
    wire = FakeWire()
    wire.settle()
    for side in (0, 1):
        wire.act(side, "send", b"lost")
    for queue in wire.queues:
        queue.clear()
    for side in (0, 1):
        wire.act(side, "send", b"first")
    wire.settle()
    for side in (0, 1):
        wire.act(side, "send", b"again")
    wire.settle()
    assert [wire.messages(side) for side in (0, 1)] == [[b"again"], [b"again"]]


def test_lost_packet_ends_in_a_reset_of_both_sides_and_a_new_session() -> None:
    """ "There is no retransmission. Loss means reset, and the upper layer resubmits." """
    wire = FakeWire()
    wire.settle()
    wire.act(0, "send", b"lost")
    wire.queues[1].clear()
    wire.act(0, "send", b"first")
    wire.settle()
    assert wire.messages(1) == []
    assert LinkReset("peer refused data") in wire.events[0]
    assert LinkReset("peer reset") in wire.events[1]
    assert [link.is_up for link in wire.links] == [True, True]
    wire.act(0, "send", b"again")
    wire.settle()
    assert wire.messages(1) == [b"again"]
