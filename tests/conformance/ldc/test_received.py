"""What each control packet does in each state of the handshake.

Source: Solaris ldc.c, i_ldc_ctrlmsg, i_ldc_process_VER, i_ldc_process_RTS and its neighbours.
"""

from __future__ import annotations

import pytest

from protocol.ldc.events import LinkReset, LinkState, LinkUp, MessageReceived
from protocol.ldc.link import Link
from protocol.ldc.state import RECEIVED, TRANSITIONS, Action, Move, TransportState
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
    VER,
    data,
    events,
    feed,
    in_state,
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

OPEN, READY, VREADY, UP = TransportState


def reset_by_force(link: Link, cause: str) -> bool:
    """Whether the link is back at READY, has told both sides so, and sent nothing else."""
    told = events(link) == [LinkReset(cause)] and outputs(link) == [MARK]
    return told and link.state is READY and link.in_reset


# ------------------------------------------------------------------------------------------------ VER INFO


@pytest.mark.parametrize("state", [OPEN, READY])
def test_ver_info_in_open_or_ready_is_acked_and_recorded(state: TransportState) -> None:
    """VER INFO, OPEN or READY: "on ACK: record version, set VER_DONE"."""
    link = in_state(state)
    assert feed(link, version(INFO)) == [version(ACK)]
    assert link.state is VREADY
    assert link.version == (1, 0)


@pytest.mark.parametrize("state", [VREADY, UP])
def test_ver_info_after_the_version_is_agreed_starts_again(state: TransportState) -> None:
    """VER INFO, VREADY or UP: "peer restarted: reconfigure own TXQ, reset state (not the RXQ), reprocess"."""
    link = in_state(state)
    assert feed(link, version(INFO, 1, 7)) == [version(ACK)]  # no mark: the receive queue is as it was
    assert link.state is VREADY
    assert feed(link, rts(), rdx()) == [rtr()]
    assert link.state is UP


def test_ver_info_in_up_drops_what_was_not_sent_and_what_was_collected() -> None:
    """The transmit queue is configured again, which empties it; sequence numbers start at 0."""
    link = responder()
    feed(link, data(2, b"begin", 0x40))
    link.send(b"never taken")
    assert feed(link, version(INFO), rts(), rdx()) == [version(ACK), rtr()]
    link.up()
    assert feed(link, data(2, b"end", 0x80)) == []
    assert feed(link, data(2, b"whole")) == []
    assert events(link) == [LinkReset("peer restarted"), LinkUp(), MessageReceived(b"whole")]


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ((1, 0), version(ACK, 1, 0)),  # "equal major: ACK with (M, min(m, own minor))"
        ((1, 5), version(ACK, 1, 0)),
        ((2, 0), version(NACK, 1, 0)),  # "M greater than own major: NACK with own (major, minor)"
        ((0xFFFF, 0xFFFF), version(NACK, 1, 0)),
        ((0, 9), version(NACK, 0, 0)),  # "list exhausted: NACK 0.0"
        ((0, 0), version(NACK, 0, 0)),
    ],
)
def test_version_rule(offer: tuple[int, int], answer: bytes) -> None:
    """The version offered is compared with our own list, highest first."""
    link = ready()
    assert feed(link, version(INFO, *offer)) == [answer]
    assert link.state is (VREADY if answer[1] == ACK else READY)


def test_after_a_nack_the_peer_may_offer_again() -> None:
    """A refused offer leaves the link READY: the next VER INFO is judged afresh."""
    assert feed(ready(), version(INFO, 3, 0), version(INFO, 1, 0)) == [
        version(NACK, 1, 0),
        version(ACK, 1, 0),
    ]


# ------------------------------------------------------------------------------------------------- VER ACK


@pytest.mark.parametrize("state", [OPEN, READY])
def test_ver_ack_is_recorded_and_answered_with_rts(state: TransportState) -> None:
    """VER ACK, OPEN or READY: "record version, VER_DONE, last_msg_rcd := 0, send RTS"."""
    link = in_state(state)
    assert feed(link, version(ACK)) == [rts()]
    assert link.state is VREADY
    assert link.version == (1, 0)


def test_ver_ack_in_vready_must_confirm_the_version() -> None:
    """VER ACK, VREADY: "version must equal the recorded one, else reset"."""
    link = vready()
    assert feed(link, version(ACK, 1, 0)) == [rts()]
    assert link.state is VREADY
    link = vready()
    link.receive_packet(version(ACK, 1, 1))
    assert reset_by_force(link, "peer agreed to two versions")


def test_ver_ack_of_a_lower_version_than_agreed_resets_too() -> None:
    """Equal it must be, not just no higher."""
    link = vready()
    link.receive_packet(version(ACK, 0, 9))
    assert reset_by_force(link, "peer agreed to two versions")


def test_up_does_not_begin_again_after_a_ver_ack_that_nobody_asked_for() -> None:
    """RTS has been sent: "ldc_up does nothing when a handshake has begun"."""
    link = ready()
    assert feed(link, version(ACK)) == [rts()]
    link.up()
    assert outputs(link) == []


def test_ver_ack_in_up_starts_again() -> None:
    """VER ACK, UP: "peer restarted: treated like any VER in UP (state reset and reprocessed)"."""
    link = responder()
    assert feed(link, version(ACK)) == [rts()]
    assert link.state is VREADY
    assert events(link) == [LinkReset("peer restarted")]


# ------------------------------------------------------------------------------------------------ VER NACK


@pytest.mark.parametrize("state", [READY, VREADY])
def test_ver_nack_of_zero_gives_up(state: TransportState) -> None:
    """VER NACK 0.0: "reset, give up"."""
    link = in_state(state)
    link.receive_packet(version(NACK, 0, 0))
    assert reset_by_force(link, "no common link version")


def test_ver_nack_of_zero_in_open_resets_too() -> None:
    """The state is then OPEN, not READY, because the peer is not there."""
    link = Link()
    link.receive_packet(version(NACK, 0, 0))
    assert events(link) == [LinkReset("no common link version")]
    assert link.state is OPEN


@pytest.mark.parametrize(("answer", "again"), [((1, 0), (1, 0)), ((1, 4), (1, 0)), ((2, 3), (1, 0))])
@pytest.mark.parametrize("state", [OPEN, READY, VREADY])
def test_ver_nack_makes_another_offer(
    state: TransportState, answer: tuple[int, int], again: tuple[int, int]
) -> None:
    """VER NACK other: "same major if known (minor = min), else next lower own version"."""
    assert feed(in_state(state), version(NACK, *answer)) == [version(INFO, *again)]


def test_ver_nack_with_nothing_left_to_offer_gives_up() -> None:
    """VER NACK other: "none left: give up"."""
    link = ready()
    link.receive_packet(version(NACK, 0, 1))
    assert reset_by_force(link, "no common link version")


def test_ver_nack_in_up_starts_again() -> None:
    """Any VER in UP means that the peer has restarted; the NACK is then taken as in READY."""
    link = responder()
    assert feed(link, version(NACK, 1, 0)) == [version(INFO)]
    assert events(link) == [LinkReset("peer restarted")]
    assert link.state is READY


# ---------------------------------------------------------------------------------------------- RTS, RTR, RDX


def test_rts_adopts_the_sequence_number_and_is_answered_with_rtr() -> None:
    """RTS INFO: "last_msg_snt := last_msg_rcd := seqid of the packet, send RTR with seqid 0"."""
    link = vready()
    assert feed(link, rts(seqid=41)) == [rtr(seqid=0)]
    assert feed(link, rdx(seqid=42)) == []  # the next after what RTS carried
    link.send(b"x")
    assert outputs(link) == [data(42, b"x")]  # and our own counter went along


@pytest.mark.parametrize("mode", [0, 2, 3, 0x41])
def test_rts_of_another_mode_is_nacked_and_ignored(mode: int) -> None:
    """RTS INFO: "mode differs: send CTRL/NACK/RTS, ignore the packet, stay"."""
    link = vready()
    assert feed(link, rts(mode=mode)) == [packet(CTRL, NACK, RTS)]
    assert link.state is VREADY
    assert feed(link, rts(), rdx()) == [rtr()]
    assert link.is_up


def test_rtr_is_answered_with_rdx_and_the_link_is_up() -> None:
    """RTR INFO: "last_msg_snt := seqid, send RDX (seqid last_msg_snt + 1), set HSHAKE_DONE: UP"."""
    link = ready()
    link.up()
    outputs(link)
    assert feed(link, version(ACK), rtr(seqid=6)) == [rts(), numbered(CTRL, INFO, RDX, 7, 6)]
    assert events(link) == [LinkUp()]


@pytest.mark.parametrize("mode", [0, 2, 3, 0x41])
def test_rtr_of_another_mode_is_nacked_and_ignored(mode: int) -> None:
    """RTR INFO: "mode differs: send CTRL/NACK/RTR, stay"."""
    link = vready()
    assert feed(link, rtr(mode=mode)) == [packet(CTRL, NACK, RTR)]
    assert link.state is VREADY


def test_rdx_in_vready_is_the_end_of_the_handshake() -> None:
    """RDX INFO, VREADY: "UP"; step 6, the responder sends nothing."""
    link = vready()
    assert feed(link, rts(), rdx()) == [rtr()]
    assert link.is_up
    assert events(link) == [LinkUp()]


def test_first_rdx_in_up_is_accepted() -> None:
    """RDX INFO, UP, no RDX seen before: "accepted (simultaneous handshake)"; UP is not told twice."""
    link = initiator()
    assert feed(link, rdx()) == []
    assert link.is_up
    assert events(link) == []


@pytest.mark.parametrize("both_sent", [False, True])
def test_second_rdx_resets(both_sent: bool) -> None:
    """RDX INFO, UP, RDX seen before: "reset"."""
    link = initiator() if both_sent else responder()
    if both_sent:
        assert feed(link, rdx(1)) == []
    link.receive_packet(rdx(2))
    assert reset_by_force(link, "second RDX")


@pytest.mark.parametrize("stype", [ACK, NACK])
@pytest.mark.parametrize(("ctrl", "state"), [(RTS, VREADY), (RTR, VREADY), (RDX, VREADY), (RDX, UP)])
def test_ack_or_nack_of_a_step_resets(ctrl: int, state: TransportState, stype: int) -> None:
    """RTS, RTR or RDX with stype ACK or NACK, VREADY (RDX also UP): "reset"."""
    link = in_state(state)
    seqid = {VREADY: 1, UP: 2}[state] if ctrl == RDX else 0
    link.receive_packet(packet(CTRL, stype, ctrl, 0, seqid))
    assert reset_by_force(link, f"peer refused {['?', 'VER', 'RTS', 'RTR', 'RDX'][ctrl]}")


@pytest.mark.parametrize("state", [OPEN, READY])
@pytest.mark.parametrize("stype", [INFO, ACK, NACK])
@pytest.mark.parametrize("ctrl", [RTS, RTR, RDX])
def test_later_steps_before_the_version_are_ignored(ctrl: int, stype: int, state: TransportState) -> None:
    """RTS, RTR, RDX in OPEN or READY: "ignored, consumed"."""
    link = in_state(state)
    assert feed(link, packet(CTRL, stype, ctrl, 1, 1 if ctrl == RDX else 0)) == []
    assert (link.state, events(link)) == (state, [])


@pytest.mark.parametrize("stype", [INFO, ACK, NACK])
@pytest.mark.parametrize("ctrl", [RTS, RTR])
def test_rts_and_rtr_in_up_are_ignored(ctrl: int, stype: int) -> None:
    """RTS, RTR in UP: "ignored, consumed"."""
    link = responder()
    assert feed(link, packet(CTRL, stype, ctrl, 1)) == []
    assert (link.is_up, events(link)) == (True, [])


@pytest.mark.parametrize("state", [OPEN, READY, VREADY])
def test_data_before_up_is_discarded_and_not_recorded(state: TransportState) -> None:
    """DATA INFO, not UP: "discarded, head advanced, sequence not recorded"."""
    link = in_state(state)
    assert feed(link, data(77)) == []
    assert (link.state, events(link)) == (state, [])
    if state is VREADY:
        feed(link, rdx(1))  # would be out of sequence had 77 been recorded
        assert link.is_up


@pytest.mark.parametrize("ctrl", [0, 5, 15])
def test_unknown_control_number_is_ignored(ctrl: int) -> None:
    """What no rule names is consumed like any packet: its sequence number counts, nothing else happens."""
    link = responder()
    assert feed(link, packet(CTRL, INFO, ctrl, 0, 2), data(3, b"next")) == []
    assert events(link) == [MessageReceived(b"next")]


@pytest.mark.parametrize("type_", [0, ERR, 0x80])
def test_packet_that_is_neither_control_nor_data_is_ignored(type_: int) -> None:
    """Only the bits CTRL and DATA have a meaning, whatever the other octets say."""
    link = responder()
    refused = (packet(type_, NACK, 0, 0, 2), packet(type_, INFO, VER, payload=b"\x00\x01"))
    assert feed(link, *refused, packet(type_, INFO, RDX, 0, 1)) == []
    assert feed(link, packet(DATA, 0x08, 0, 0, 2), data(3)) == []  # a bit without a meaning
    assert events(link) == [MessageReceived(b"message")]


def test_unknown_subtype_is_ignored() -> None:
    """INFO and ACK at once is no subtype that a rule names."""
    link = ready()
    assert feed(link, packet(CTRL, INFO | ACK, VER)) == []
    assert link.state is READY


def test_upper_bits_of_the_control_byte_do_not_count_for_the_dispatch() -> None:
    """ctrl is the low 4 bits (LDC_CTRL_MASK); but then the packet is not exempt from the sequence check."""
    link = ready()
    offer = packet(CTRL, INFO, 0x10 | VER, 0, 1, b"\x00\x01\x00\x00")
    assert feed(link, offer) == [version(ACK)]


# ------------------------------------------------------------------------------------------------- the tables


def test_every_action_and_every_move_is_used() -> None:
    """No row without a meaning, no meaning without a row."""
    assert set(RECEIVED.values()) == set(Action)
    assert {move for _, move in TRANSITIONS} == set(Move)


def test_every_state_can_be_left_and_reached() -> None:
    """A state that nothing leads to or from would be a mistake in the table."""
    assert set(TRANSITIONS.values()) == set(TransportState) == {state for state, _ in TRANSITIONS}


def test_peer_that_is_down_is_never_ready() -> None:
    """After any reset with the link state DOWN the state is OPEN, without LINK_READY."""
    link = responder()
    link.link_state(LinkState.DOWN)
    assert link.state is OPEN
