"""Who starts the handshake: either end, or both at once.

Source: Solaris ldc.c, ldc_up; vds.c and vdc.c, both of which call it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import Layer, LocalProtocolError
from protocol.ldc.events import LinkReset, LinkState, LinkUp, MessageReceived
from protocol.ldc.link import Link
from tests.support.links import (
    ACK,
    CTRL,
    INFO,
    RDX,
    FakeWire,
    data,
    events,
    feed,
    initiator,
    numbered,
    outputs,
    rdx,
    ready,
    responder,
    rtr,
    rts,
    version,
    vready,
)

APPEARED = LinkReset("peer appeared")


def test_both_sides_start_and_send_all_five_packets_in_order() -> None:
    """Both call ldc_up: each sends, in this order, VER INFO, VER ACK, RTS, RTR, RDX."""
    link = ready()
    link.up()
    sent = outputs(link)
    for received in (version(INFO), version(ACK), rts(), rtr(), rdx()):
        sent += feed(link, received)
    assert sent == [version(INFO), version(ACK), rts(), rtr(), numbered(CTRL, INFO, RDX, 1, 0)]
    assert events(link) == [LinkUp()]


def test_both_sides_started_the_first_data_packets_are_two_both_ways() -> None:
    """Both have sent RDX, each of which took number 1."""
    wire = FakeWire()
    wire.settle()
    wire.act(0, "send", b"ping")
    wire.act(1, "send", b"pong")
    assert [list(queue) for queue in wire.queues] == [[data(2, b"pong")], [data(2, b"ping")]]
    wire.settle()
    assert (wire.messages(0), wire.messages(1)) == ([b"pong"], [b"ping"])


@pytest.mark.parametrize("starter", [0, 1])
def test_one_side_alone_brings_both_up(starter: int) -> None:
    """One side starts; the other only answers and is UP as well."""
    wire = FakeWire(eager=())
    wire.act(starter, "up")
    wire.settle()
    assert wire.events == ([APPEARED, LinkUp()], [APPEARED, LinkUp()])
    assert [link.is_up for link in wire.links] == [True, True]


@pytest.mark.parametrize("make", [vready, responder, initiator])
def test_up_does_nothing_once_a_handshake_has_begun(make: Callable[[], Link]) -> None:
    """ "ldc_up does nothing if a handshake has begun in either direction, or if already UP." """
    link = make()
    state = link.state
    link.up()
    assert (outputs(link), events(link), link.state) == ([], [], state)


def test_up_twice_offers_once() -> None:
    """The handshake bit SENT_VER is set by the first."""
    link = ready()
    link.up()
    link.up()
    assert outputs(link) == [version(INFO)]


def test_up_without_a_peer_is_refused() -> None:
    """ "If the link state is DOWN it returns ECONNREFUSED"; nothing changes."""
    link = Link()
    with pytest.raises(LocalProtocolError) as caught:
        link.up()
    assert caught.value.layer is Layer.LDC
    assert outputs(link) == []
    link = responder()
    link.link_state(LinkState.DOWN)
    outputs(link)
    with pytest.raises(LocalProtocolError):
        link.up()
    assert link.in_reset


def test_side_is_up_by_sending_rdx_or_by_receiving_it() -> None:
    """ "A side becomes UP when it has sent RDX or received RDX, whichever is first." """
    assert initiator().is_up
    assert responder().is_up


def test_late_up_joins_the_handshake_of_the_peer() -> None:
    """The peer's VER INFO has come before we call up(): no second handshake is begun."""
    link = ready()
    assert feed(link, version(INFO)) == [version(ACK)]
    link.up()
    assert feed(link, rts(), rdx(), data(2, b"hello")) == [rtr()]
    assert events(link) == [LinkUp(), MessageReceived(b"hello")]
