"""Reset, link state changes and IN_RESET.

Source: Solaris ldc.c, i_ldc_reset, i_ldc_reset_state, ldc_down, ldc_up, i_ldc_rx_hdlr; OpenSPARC T2 ldc.s.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import LocalProtocolError
from protocol.ldc.events import LinkDown, LinkReset, LinkState, LinkUp, MessageReceived
from protocol.ldc.link import Link
from protocol.ldc.state import TransportState
from tests.support.links import (
    ACK,
    DATA,
    ERR,
    INFO,
    MARK,
    NACK,
    FakeWire,
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
HANDSHAKE = (version(INFO), rts(), rdx())
ANSWERS = [version(ACK), rtr()]


def quietly_up(*received: bytes) -> Link:
    """Return a link that was reset, and whose handshake has then run to its end without up()."""
    link = responder()
    link.link_state(LinkState.RESET)
    assert outputs(link) == []
    assert events(link) == [LinkReset("peer reset")]
    assert feed(link, *HANDSHAKE, *received) == ANSWERS
    return link


# ----------------------------------------------------------------------------------------------------- steps


def test_reset_flushes_the_transmit_queue() -> None:
    """Step 1: "TX_QCONF again"; packets not yet taken are gone."""
    link = responder()
    link.send(b"never taken")
    link.down()
    assert outputs(link) == [MARK]


@pytest.mark.parametrize("state", TransportState)
def test_forced_reset_configures_the_receive_queue_in_any_state(state: TransportState) -> None:
    """Step 2: "RX_QCONF again if force, or the channel was UP"."""
    link = in_state(state)
    link.down()
    assert outputs(link) == [MARK]


@pytest.mark.parametrize(("state", "told"), [(OPEN, []), (READY, []), (VREADY, []), (UP, [MARK])])
def test_unforced_reset_configures_the_receive_queue_only_if_it_was_up(
    state: TransportState, told: list[object]
) -> None:
    """Step 2: "RX_QCONF again if force, or the channel was UP"; DOWN is not forced."""
    link = in_state(state)
    link.link_state(LinkState.DOWN)
    assert outputs(link) == told


@pytest.mark.parametrize("state", TransportState)
def test_reset_of_the_peer_is_not_answered_by_a_reset(state: TransportState) -> None:
    """Our choice: Solaris configures its queue too if it was UP, and "the echo stops after one bounce".

    Here the report comes in order with the packets, so that nothing stale can be in the queue. Two ends that
    echo can bounce for ever if both reset at once.
    """
    link = in_state(state)
    link.link_state(LinkState.RESET)
    assert outputs(link) == []


def test_receive_queue_is_configured_before_what_is_sent_after_it() -> None:
    """The peer has to see the reset first, then the new offer."""
    link = responder()
    link.down()
    link.up()
    assert outputs(link) == [MARK, version(INFO)]


def test_two_resets_that_nobody_has_seen_are_one() -> None:
    """RESET is a one-shot latch: it says that something changed, not how often."""
    link = responder()
    link.down()
    link.up()
    link.down()
    assert outputs(link) == [MARK]


def test_reset_with_the_peer_present_is_ready_and_without_it_open() -> None:
    """Step 4: "state OPEN (+ LINK_READY if the link state is UP or RESET)"."""
    link = responder()
    link.down()
    assert link.state is READY
    link.link_state(LinkState.RESET)
    assert link.state is READY
    link.link_state(LinkState.DOWN)
    assert link.state is OPEN


def test_down_gives_no_event() -> None:
    """The caller of ldc_down knows what it did."""
    link = responder()
    link.down()
    assert events(link) == []
    assert (link.is_up, link.in_reset, link.version) == (False, True, None)


def test_down_is_told_to_the_peer_and_not_back() -> None:
    """The peer sees RESET once; whoever called ldc_down is told nothing, not even by an echo."""
    wire = FakeWire()
    wire.settle()
    wire.eager = ()
    for side in (0, 1):
        wire.events[side].clear()
    wire.act(0, "down")
    wire.settle()
    assert wire.events == ([], [LinkReset("peer reset")])


def test_echo_of_a_peer_as_solaris_sends_it_does_no_harm() -> None:
    """We are no longer UP when the echo comes: it is one more reset, and the handshake starts anew."""
    link = responder()
    link.down()
    link.up()
    link.link_state(LinkState.RESET)
    assert events(link) == [LinkReset("peer reset")]
    link.up()
    assert outputs(link) == [MARK, version(INFO)]
    assert feed(link, version(INFO), version(ACK), rts(), rtr(), rdx())[0] == version(ACK)
    assert events(link) == [LinkUp()]


@pytest.mark.parametrize("side", [0, 1])
def test_session_after_down_comes_up_again(side: int) -> None:
    """Both sides answer RESET with ldc_up, as vds and vdc do."""
    wire = FakeWire()
    wire.settle()
    wire.act(side, "down")
    wire.act(side, "up")
    wire.settle()
    wire.act(0, "send", b"ping")
    wire.act(1, "send", b"pong")
    wire.settle()
    assert (wire.messages(0), wire.messages(1)) == ([b"pong"], [b"ping"])


# ------------------------------------------------------------------------------------------------ link state


def test_peer_that_appears_is_reported_as_reset() -> None:
    """ "link state became UP while state is OPEN: status READY, RESET event"."""
    link = Link()
    link.link_state(LinkState.UP)
    assert (link.state, events(link), outputs(link)) == (READY, [LinkReset("peer appeared")], [])


@pytest.mark.parametrize("make", [ready, vready, responder])
def test_link_state_up_says_nothing_new_to_who_is_ready(make: Callable[[], Link]) -> None:
    """ "RESET followed by UP (the latch clearing) raises nothing more"."""
    link = make()
    state = link.state
    link.link_state(LinkState.UP)
    assert (link.state, events(link), outputs(link)) == (state, [], [])


@pytest.mark.parametrize("state", TransportState)
def test_link_state_reset_is_a_reset_and_told(state: TransportState) -> None:
    """link state became RESET: "reset(no force), RESET"."""
    link = in_state(state)
    link.link_state(LinkState.RESET)
    assert (link.state, link.in_reset, events(link)) == (READY, True, [LinkReset("peer reset")])
    link.link_state(LinkState.UP)
    assert events(link) == []


def test_each_reset_of_the_peer_is_told() -> None:
    """The channel reports every one; a handshake begun in between is void."""
    link = ready()
    link.link_state(LinkState.RESET)
    link.up()
    link.link_state(LinkState.RESET)
    assert events(link) == [LinkReset("peer reset"), LinkReset("peer reset")]
    assert outputs(link) == []
    link.up()
    assert outputs(link) == [version(INFO)]


@pytest.mark.parametrize("state", [READY, VREADY, UP])
def test_link_state_down_is_a_reset_and_told_once(state: TransportState) -> None:
    """link state became DOWN: "reset(no force), DOWN"."""
    link = in_state(state)
    link.link_state(LinkState.DOWN)
    link.link_state(LinkState.DOWN)
    assert (link.state, link.in_reset, events(link)) == (OPEN, True, [LinkDown()])
    assert outputs(link) == ([MARK] if state is UP else [])


def test_peer_that_comes_back_is_reported_again() -> None:
    """DOWN, then UP, is how a restarted peer may look."""
    link = responder()
    link.link_state(LinkState.DOWN)
    link.link_state(LinkState.UP)
    assert events(link) == [LinkDown(), LinkReset("peer appeared")]
    outputs(link)
    link.up()
    assert outputs(link) == [version(INFO)]


# --------------------------------------------------------------------------------------------------- IN_RESET


def test_handshake_runs_silently_while_in_reset() -> None:
    """ "the state reaches UP but the status stays READY, no UP event is raised"."""
    link = quietly_up()
    assert link.state is UP
    assert (link.is_up, link.in_reset, events(link)) == (False, True, [])
    with pytest.raises(LocalProtocolError):
        link.send(b"x")


def test_up_after_a_silent_handshake_is_up_at_once() -> None:
    """ "The next ldc_up then finds it UP, sets status UP"; our callers are told by an event."""
    link = quietly_up()
    link.up()
    assert (link.is_up, events(link), outputs(link)) == (True, [LinkUp()], [])


def test_up_in_the_middle_of_a_silent_handshake_tells_when_it_is_done() -> None:
    """IN_RESET "is cleared only by the next ldc_up"; the handshake goes on as it was."""
    link = responder()
    link.link_state(LinkState.RESET)
    outputs(link)
    assert feed(link, version(INFO)) == [version(ACK)]
    link.up()
    assert feed(link, rts(), rdx()) == [rtr()]
    assert events(link) == [LinkReset("peer reset"), LinkUp()]


def test_data_received_in_reset_waits_for_up() -> None:
    """ "received data stays in the RXQ" and is delivered after ldc_up."""
    link = quietly_up(data(2, b"one"), data(3, b"two"))
    assert events(link) == []
    link.up()
    assert events(link) == [LinkUp(), MessageReceived(b"one"), MessageReceived(b"two")]
    feed(link, data(4, b"three"))
    assert events(link) == [MessageReceived(b"three")]


def test_packets_behind_waiting_data_wait_too() -> None:
    """Packets are read in order: what follows a data packet in the queue is not looked at before it."""
    link = quietly_up(data(2, b"one"), rdx(3))
    assert link.state is UP
    link.up()
    assert events(link) == [LinkUp(), MessageReceived(b"one"), LinkReset("second RDX")]
    assert outputs(link) == [MARK]


def test_control_packets_are_acted_on_while_in_reset() -> None:
    """Without data before it a control packet is handled at once; nothing is told of a restart nobody saw."""
    link = quietly_up()
    assert feed(link, *HANDSHAKE) == ANSWERS
    assert events(link) == []
    link.up()
    assert events(link) == [LinkUp()]


def test_only_data_makes_what_follows_wait() -> None:
    """Neither a refusal nor an acknowledgement is data, nor is a packet of a type that nobody sends."""
    link = quietly_up(packet(DATA, ACK, 0, 0, 2), packet(ERR, INFO, 0, 0, 3))
    feed(link, packet(DATA, NACK, 0, 0, 4))
    assert events(link) == [LinkReset("peer refused data")]


def test_data_before_the_handshake_is_over_does_not_wait() -> None:
    """It is discarded at once, as out of reset; the handshake behind it goes on without up()."""
    link = responder()
    link.link_state(LinkState.RESET)
    assert feed(link, data(1), version(INFO), data(1), rts(), rdx()) == ANSWERS
    link.up()
    assert events(link) == [LinkReset("peer reset"), LinkUp()]


@pytest.mark.parametrize("verb", ["down", "reset"])
def test_reset_drops_what_waits(verb: str) -> None:
    """The state was UP, so the receive queue is emptied; what waited was sent before the reset."""
    link = quietly_up(data(2, b"stale"))
    if verb == "down":
        link.down()
    else:
        link.link_state(LinkState.RESET)
    events(link)
    assert outputs(link) == ([MARK] if verb == "down" else [])
    assert feed(link, *HANDSHAKE) == ANSWERS
    link.up()
    assert events(link) == [LinkUp()]


def test_reset_while_waiting_data_is_released_stops_there() -> None:
    """The rest was in the queue that the reset has emptied."""
    link = quietly_up(data(2, b"one"), rdx(3), data(4, b"never"))
    link.up()
    assert [event for event in events(link) if isinstance(event, MessageReceived)] == [
        MessageReceived(b"one")
    ]


def test_waiting_data_is_bounded_like_a_receive_queue() -> None:
    """A queue of 512 holds 511; what comes beyond is lost, and the next packet fails the sequence check."""
    link = quietly_up(*(data(seqid, b"x") for seqid in range(2, 2 + 600)))
    link.up()
    assert events(link) == [LinkUp()] + [MessageReceived(b"x")] * 511
    assert outputs(link) == []
    assert feed(link, data(602)) == [numbered(DATA, NACK, 0, 1, 512)]


def test_restart_of_the_peer_waits_for_up_as_any_reset_does() -> None:
    """A peer that starts again without a reset of its queue: told as a reset, data waits for up()."""
    link = initiator()
    assert feed(link, *HANDSHAKE, data(2, b"new")) == ANSWERS
    assert events(link) == [LinkReset("peer restarted")]
    assert not link.is_up
    link.up()
    assert events(link) == [LinkUp(), MessageReceived(b"new")]
