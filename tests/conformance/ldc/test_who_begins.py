"""A server lets its client begin the link handshake: OpenBSD's resets the channel when both begin.

Source: OpenBSD ldc.c, ldc_rx_ctrl_vers ("spurious" VER ACK); vdsk.c, vdsk_rx_intr.
"""

from __future__ import annotations

import pytest

from protocol.ldc.events import LinkState, QueueConfigured
from protocol.stack import Server
from protocol.vdisk.attributes import DiskAttributes
from tests.support.links import ACK, DATA, INFO, MARK, packet, rdx, rtr, rts, version

DISK = DiskAttributes(size_blocks=8, max_xfer_blocks=8)


def server() -> Server:
    """A server whose client has just appeared."""
    stack = Server(DISK, waits=True)
    assert not waits(stack)
    stack.link_state(LinkState.UP)
    return stack


def waits(stack: Server) -> bool:
    """Whether the client may begin."""
    return stack.awaits_peer


def taken(stack: Server, *packets: bytes) -> list[bytes | QueueConfigured]:
    """Give packets; return all that is sent."""
    for each in packets:
        stack.receive_packet(each)
    found = []
    while (output := stack.next_output()) is not None:
        found.append(output)
    return found


def test_server_says_nothing_until_it_is_told_to_begin() -> None:
    stack = server()
    assert waits(stack)
    assert taken(stack) == []
    stack.begin()
    assert not waits(stack)
    assert taken(stack, version(ACK), rtr())[:2] == [version(INFO), rts()]


def test_client_that_begins_is_answered_and_nothing_more() -> None:
    stack = server()
    assert taken(stack, version(INFO)) == [version(ACK)]
    assert not waits(stack)
    stack.begin()
    assert taken(stack, rts(), rdx()) == [rtr()]
    assert not waits(stack)


def test_client_has_its_turn_again_after_every_reset() -> None:
    stack = server()
    taken(stack, version(INFO), rts(), rdx())
    stack.link_state(LinkState.RESET)
    assert waits(stack)
    assert taken(stack) == []
    assert taken(stack, version(INFO), rts(), rdx()) == [version(ACK), rtr()]
    assert taken(stack, packet(DATA, INFO, 0, 0xC4, 2, b"half")) == []  # no message: a full reset
    assert not waits(stack)  # not before it is cleaned up
    stack.reset_done()
    assert waits(stack)
    assert taken(stack) == [MARK]


@pytest.mark.parametrize("state", [LinkState.DOWN, LinkState.UP])
def test_begin_is_harmless_when_it_comes_too_late(state: LinkState) -> None:
    stack = server()
    taken(stack, version(INFO), rts(), rdx())
    stack.link_state(state)
    taken(stack)
    stack.begin()
    assert taken(stack) == []


def test_end_that_does_not_wait_begins_at_once() -> None:
    stack = Server(DISK)
    stack.link_state(LinkState.UP)
    assert not waits(stack)
    assert taken(stack) == [version(INFO)]
