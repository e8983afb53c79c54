"""Sequence numbers. Source: Solaris ldc.c, i_ldc_check_seqid, i_ldc_send_pkt, ldc_write."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.ldc.events import LinkReset, LinkUp, MessageReceived
from protocol.ldc.link import Link
from tests.support.links import (
    ACK,
    CTRL,
    DATA,
    ERR,
    INFO,
    MARK,
    NACK,
    RDX,
    RTR,
    RTS,
    START,
    STOP,
    VER,
    data,
    events,
    feed,
    initiator,
    numbered,
    outputs,
    packet,
    rdx,
    ready,
    responder,
    rtr,
    rts,
    version,
    vready,
)


def test_first_data_of_the_side_that_sent_rdx_is_two() -> None:
    """ "this side sent RDX (it used seqid 1)": first DATA seqid 2."""
    link = initiator()
    link.send(b"a")
    link.send(b"b")
    assert outputs(link) == [data(2, b"a"), data(3, b"b")]


def test_first_data_of_the_side_that_never_sent_rdx_is_one() -> None:
    """ "this side never sent RDX (pure responder)": first DATA seqid 1."""
    link = responder()
    link.send(b"a")
    link.send(b"b")
    assert outputs(link) == [data(1, b"a"), data(2, b"b")]


def test_first_data_expected_from_a_pure_responder_is_one() -> None:
    """The last packet of the responder was RTR with 0."""
    link = initiator()
    assert feed(link, data(1, b"one"), data(2, b"two")) == []
    assert events(link) == [MessageReceived(b"one"), MessageReceived(b"two")]


def test_first_data_expected_from_an_initiator_is_two() -> None:
    """Its RDX had 1."""
    link = responder()
    assert feed(link, data(2, b"two")) == []
    assert events(link) == [MessageReceived(b"two")]


@pytest.mark.parametrize("ctrl", [VER, RTS, RTR])
@pytest.mark.parametrize("seqid", [0, 99, 0xFFFFFFFF])
def test_version_rts_and_rtr_are_not_checked(ctrl: int, seqid: int) -> None:
    """ "if ctrl is VER, RTS or RTR: no check"."""
    link = vready()
    sent = feed(link, packet(CTRL, INFO, ctrl, 1, seqid, b"\x00\x01"))
    assert [answer[1] for answer in sent if isinstance(answer, bytes)] == [
        {VER: ACK, RTS: INFO, RTR: INFO}[ctrl]
    ]


@pytest.mark.parametrize("seqid", [0, 2, 0xFFFFFFFF])
def test_rdx_is_checked(seqid: int) -> None:
    """ "Otherwise seqid MUST be last_msg_rcd + 1": RDX too."""
    link = vready()
    feed(link, rts())
    assert feed(link, rdx(seqid)) == [numbered(CTRL, NACK, RDX, 1, 0)]
    assert not link.is_up


@pytest.mark.parametrize(
    ("wrong", "nack"),
    [
        (packet(DATA, ACK, 0, 0, 5), numbered(DATA, NACK, 0, 1, 1)),
        (packet(CTRL, ACK, RDX, 0, 5), numbered(CTRL, NACK, RDX, 1, 1)),
        (packet(DATA, 0x08 | INFO, 0, 0, 5), numbered(DATA, NACK, 0, 1, 1)),  # a bit without a meaning
        (packet(ERR, INFO, 0, 0, 5), numbered(ERR, NACK, 0, 1, 1)),
        (packet(CTRL, INFO, 0x10 | VER, 0, 5), numbered(CTRL, NACK, VER, 1, 1)),  # "the whole ctrl byte"
    ],
)
def test_all_other_packets_are_checked(wrong: bytes, nack: bytes) -> None:
    """ "so a data packet (ctrl 0), RDX, and every NACK of RDX or DATA is checked"."""
    link = responder()
    assert feed(link, wrong) == [nack]
    assert link.is_up
    assert events(link) == []


@pytest.mark.parametrize("wrong", [packet(DATA, NACK, 0, 0, 5), packet(CTRL, NACK, RDX, 0, 5)])
def test_nack_out_of_sequence_is_a_reset_and_not_nacked(wrong: bytes) -> None:
    """Our choice: Solaris sends a NACK for the NACK, and two ends that have both lost a packet never stop."""
    link = responder()
    assert feed(link, wrong) == [MARK]
    assert events(link) == [LinkReset("packets lost in both directions")]


def test_data_packet_marked_as_control_step_is_not_checked() -> None:
    """The check looks at the ctrl byte, not at the type."""
    link = responder()
    feed(link, packet(DATA, INFO, RTS, START | STOP | 1, 500, b"x"), data(501, b"y"))
    assert events(link) == [MessageReceived(b"x"), MessageReceived(b"y")]


@pytest.mark.parametrize("ctrl", [RTS, RTR])
def test_every_packet_is_recorded_even_where_none_is_checked(ctrl: int) -> None:
    """ "After the check last_msg_rcd := seqid for every packet, including VER, RTS and RTR"."""
    link = responder()
    feed(link, data(2, b"a"), packet(CTRL, INFO, ctrl, 1, 0), data(1, b"b"))
    assert events(link) == [MessageReceived(b"a"), MessageReceived(b"b")]


@pytest.mark.parametrize("ignored", [packet(DATA, ACK, 0, 0, 2), packet(ERR, INFO, 0, 0, 2)])
def test_packet_without_an_effect_is_recorded_too(ignored: bytes) -> None:
    """DATA ACK belongs to reliable mode and ERR is never sent: consumed, and their number counts."""
    link = responder()
    assert feed(link, ignored, data(3, b"next")) == []
    assert events(link) == [MessageReceived(b"next")]


def test_each_fragment_has_its_own_number() -> None:
    """ "seqid counts packets, not messages: each fragment has its own"."""
    link = responder()
    link.send(bytes(100))
    link.send(b"x")
    seqids = [int.from_bytes(output[4:8], "big") for output in outputs(link) if isinstance(output, bytes)]
    assert seqids == [1, 2, 3]


def test_numbers_wrap_at_32_bits_both_ways() -> None:
    """The numbers are 32-bit: 0 follows 0xffffffff. RTS may carry any, and both counters adopt it."""
    link = vready()
    feed(link, rts(0xFFFFFFFD), rdx(0xFFFFFFFE))
    assert events(link) == [LinkUp()]
    feed(link, data(0xFFFFFFFF, b"a"), data(0, b"b"))
    assert events(link) == [MessageReceived(b"a"), MessageReceived(b"b")]
    for _ in range(3):
        link.send(b"x")
    assert outputs(link) == [data(0xFFFFFFFE, b"x"), data(0xFFFFFFFF, b"x"), data(0, b"x")]


def test_nack_of_rts_has_number_zero_and_does_not_advance() -> None:
    """ "A CTRL NACK of RTS or RTR has seqid field 0 and does not advance" the counter."""
    link = vready()
    assert feed(link, rts(mode=3), rtr(mode=3)) == [packet(CTRL, NACK, RTS), packet(CTRL, NACK, RTR)]
    feed(link, rts(), rdx())
    link.send(b"x")
    assert outputs(link) == [data(1, b"x")]


def test_rts_and_rtr_are_sent_with_zero_and_do_not_advance() -> None:
    """ "RTS and RTR are always sent with seqid 0 and do not advance the counter"; VER neither."""
    link = ready()
    link.up()
    sent = outputs(link) + feed(link, version(INFO), version(ACK), rts(), rtr())
    assert [output[4:8] for output in sent if isinstance(output, bytes)] == [
        bytes(4),
        bytes(4),
        bytes(4),
        bytes(4),
        b"\x00\x00\x00\x01",  # RDX
    ]


def test_nack_of_data_advances_the_sender() -> None:
    """ "RDX, DATA, DATA ACK and DATA NACK advance it"."""
    link = responder()
    assert feed(link, data(9)) == [numbered(DATA, NACK, 0, 1, 1)]
    link.send(b"x")
    assert outputs(link) == [data(2, b"x")]


def test_packets_count_from_zero_after_a_reset_before_any_handshake() -> None:
    """ "Reset sets both to 0"; seen in the numbers of a NACK."""
    link = responder()
    link.send(b"x")
    feed(link, data(2))
    link.down()
    outputs(link)
    assert feed(link, rdx(9)) == [numbered(CTRL, NACK, RDX, 1, 0)]


def test_ver_ack_sets_the_number_received_to_zero() -> None:
    """Whatever number it has itself: RDX is number 1."""
    link = ready()
    link.up()
    assert outputs(link) == [version(INFO)]
    assert feed(link, packet(CTRL, ACK, VER, 0, 77, b"\x00\x01\x00\x00")) == [rts()]
    assert feed(link, rdx()) == []
    assert link.is_up


@pytest.mark.parametrize("make", [responder, initiator])
def test_reset_sets_both_counters_to_zero(make: Callable[[], Link]) -> None:
    """ "Reset sets both to 0"; the handshake after it starts from there."""
    link = make()
    link.send(b"x")
    link.down()
    outputs(link)
    link.up()
    assert outputs(link) == [version(INFO)]
    assert feed(link, version(ACK), rtr()) == [rts(), numbered(CTRL, INFO, RDX, 1, 0)]
    assert events(link) == [LinkUp()]
    assert not any(isinstance(event, LinkReset) for event in events(link))
