"""Raw mode: no header, no handshake.

Source: Solaris ldc.c, i_ldc_write_raw, i_ldc_read_raw, ldc_up, i_ldc_reset_state, i_ldc_rx_process_hvq; Linux
arch/sparc/kernel/ldc.c, raw_ops.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.errors import Layer, LocalProtocolError, PacketError, Reaction
from protocol.ldc.events import LinkDown, LinkReset, LinkState, LinkUp, MessageReceived
from protocol.ldc.packet import Mode
from protocol.ldc.raw import RawLink
from protocol.ldc.state import RAW_TRANSITIONS, LinkStatus, Move, TransportState
from tests.support.links import MARK, FakeWire, events, feed, outputs

OPEN, READY, _, UP = TransportState
PACKETS = [bytes([number]) * 64 for number in range(4)]


def ready() -> RawLink:
    """Return a link whose peer has just appeared."""
    link = RawLink()
    link.link_state(LinkState.UP)
    assert events(link) == [LinkReset("peer appeared")]
    return link


def up() -> RawLink:
    """Return a link that is UP."""
    link = ready()
    link.up()
    assert events(link) == [LinkUp()]
    return link


# ----------------------------------------------------------------------------------------------------- states


def test_up_needs_the_peer() -> None:
    """ldc_up: ECONNREFUSED while the channel is DOWN."""
    link = RawLink()
    with pytest.raises(LocalProtocolError, match="ldc: the peer is not there"):
        link.up()
    assert (link.state, link.status, link.is_up, link.mode) == (OPEN, LinkStatus.OPEN, False, Mode.RAW)


def test_peer_that_appears_makes_the_link_ready() -> None:
    """i_ldc_rx_process_hvq: link UP while OPEN is reported as LDC_EVT_RESET, the status is READY."""
    link = ready()
    assert (link.state, link.status, link.is_up, link.in_reset) == (READY, LinkStatus.READY, False, False)
    link.link_state(LinkState.UP)
    assert events(link) == []


def test_up_is_all_it_takes() -> None:
    """ldc_up: "if the channel is in RAW mode - mark it as UP, if READY"; no packet is sent for it."""
    link = up()
    assert (link.state, link.status, link.is_up, outputs(link)) == (UP, LinkStatus.UP, True, [])


def test_up_a_second_time_does_nothing() -> None:
    """ldc_up: already in UP state."""
    link = up()
    link.up()
    assert (events(link), outputs(link), link.is_up) == ([], [], True)


def test_down_tells_the_peer_and_stays_down_until_up() -> None:
    """ldc_down is a reset by force: both queues are configured again."""
    link = up()
    link.send(PACKETS[0])
    link.down()
    assert (outputs(link), events(link)) == ([MARK], [])
    assert (link.state, link.is_up, link.in_reset) == (READY, False, True)
    link.up()
    assert (events(link), link.is_up, link.in_reset) == ([LinkUp()], True, False)


def test_reset_of_the_peer_resets() -> None:
    """i_ldc_rx_process_hvq: LDC_CHANNEL_RESET; what waits to be sent is dropped, nothing is said back."""
    link = up()
    link.send(PACKETS[0])
    link.link_state(LinkState.RESET)
    assert (outputs(link), events(link)) == ([], [LinkReset("peer reset")])
    assert (link.state, link.is_up, link.in_reset) == (READY, False, True)


@pytest.mark.parametrize(("make", "marks"), [(ready, []), (up, [MARK])])
def test_peer_that_goes_away(make: Callable[[], RawLink], marks: list[object]) -> None:
    """LDC_CHANNEL_DOWN: the receive queue is configured again only if the link was UP."""
    link = make()
    link.link_state(LinkState.DOWN)
    assert (outputs(link), events(link)) == (marks, [LinkDown()])
    assert (link.state, link.status, link.in_reset) == (OPEN, LinkStatus.OPEN, True)
    with pytest.raises(LocalProtocolError):
        link.up()


def test_transitions_name_no_state_that_raw_mode_has_not() -> None:
    """There is no version to agree on, so no VREADY and no way there."""
    assert {state for state, _ in RAW_TRANSITIONS} == set(RAW_TRANSITIONS.values()) == {OPEN, READY, UP}
    assert {move for _, move in RAW_TRANSITIONS} == set(Move) - {Move.VERSION_AGREED}


# ---------------------------------------------------------------------------------------------------- sending


@pytest.mark.parametrize("make", [RawLink, ready])
def test_send_before_up_is_refused(make: Callable[[], RawLink]) -> None:
    """ldc_write: ECONNRESET unless the state is UP."""
    link = make()
    with pytest.raises(LocalProtocolError, match="the link is not up") as caught:
        link.send(PACKETS[0])
    assert (caught.value.layer, outputs(link)) == (Layer.LDC, [])


def test_send_while_in_reset_is_refused() -> None:
    """ldc_write compares with TS_UP, IN_RESET included."""
    link = up()
    link.down()
    outputs(link)
    with pytest.raises(LocalProtocolError):
        link.send(PACKETS[0])
    assert outputs(link) == []


def test_message_is_sent_as_it_is() -> None:
    """The packet is the message: 64 bytes of payload, no header."""
    link = up()
    link.send(PACKETS[1])
    link.send(PACKETS[2] + PACKETS[3])
    assert outputs(link) == PACKETS[1:]


@pytest.mark.parametrize("size", [0, 1, 63, 65, 127])
def test_message_is_a_multiple_of_64_bytes(size: int) -> None:
    """EMSGSIZE beyond 64; Solaris sends a shorter one with what was in the slot before behind it."""
    link = up()
    with pytest.raises(LocalProtocolError, match=f"a multiple of 64 bytes, not {size}"):
        link.send(bytes(size))
    assert outputs(link) == []


def test_message_must_fit_whole() -> None:
    """EWOULDBLOCK: a queue of 512 entries, for the default mtu of 8192 bytes, holds 511."""
    link = up()
    link.send(bytes(64 * 510))
    with pytest.raises(LocalProtocolError, match="no room for 2 packets"):
        link.send(bytes(128))
    link.send(PACKETS[1])
    with pytest.raises(LocalProtocolError, match="no room for 1 packets"):
        link.send(PACKETS[1])
    sent = outputs(link)
    assert (len(sent), sent[-1]) == (511, PACKETS[1])
    link.send(PACKETS[2])
    assert outputs(link) == [PACKETS[2]]


def test_larger_mtu_makes_a_longer_queue() -> None:
    """ldc_init: four messages of one mtu, rounded up to a power of two."""
    link = RawLink(mtu=16400)
    link.link_state(LinkState.UP)
    link.up()
    link.send(bytes(64 * 2047))
    with pytest.raises(LocalProtocolError, match="no room"):
        link.send(PACKETS[0])


# -------------------------------------------------------------------------------------------------- receiving


def test_every_packet_is_a_message() -> None:
    """i_ldc_read_raw: 64 bytes a read, "no interpretation of mondo contents at all"."""
    link = up()
    assert feed(link, *PACKETS) == []
    assert events(link) == [MessageReceived(packet) for packet in PACKETS]


def test_packets_that_look_like_a_handshake_are_messages_too() -> None:
    """No control packets in raw mode, no sequence check."""
    offer = bytes.fromhex("01010100000000000001") + bytes(54)
    link = up()
    assert feed(link, offer, offer) == []
    assert events(link) == [MessageReceived(offer)] * 2


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer_can_carry_a_packet(buffer: type[bytes]) -> None:
    """The driver may hand in the buffer that it received into, UP or not."""
    for make in (ready, up):
        link = make()
        source = bytearray(PACKETS[1])
        link.receive_packet(buffer(source))
        source[:] = bytes(64)
        link.up()
        assert events(link)[-1:] == [MessageReceived(PACKETS[1])]


@pytest.mark.parametrize("make", [RawLink, ready, up])
@pytest.mark.parametrize("size", [0, 63, 65])
def test_only_packets_of_64_bytes_are_packets(make: Callable[[], RawLink], size: int) -> None:
    """What no LDC peer can send closes the channel; the link itself is not touched."""
    link = make()
    with pytest.raises(PacketError, match=f"ldc: a packet has 64 bytes, not {size}") as caught:
        link.receive_packet(bytes(size))
    assert caught.value.reaction is Reaction.CLOSE
    assert events(link) == []


def test_packets_wait_for_up() -> None:
    """i_ldc_rx_process_hvq leaves packets on the queue for ldc_read, which needs the state UP."""
    link = ready()
    assert feed(link, *PACKETS) == []
    assert events(link) == []
    link.up()
    assert events(link) == [LinkUp(), *(MessageReceived(packet) for packet in PACKETS)]
    feed(link, PACKETS[0])
    assert events(link) == [MessageReceived(PACKETS[0])]


def test_packets_wait_after_a_reset_as_well() -> None:
    """IN_RESET: they belong to the next session, those from before the reset are gone."""
    link = ready()
    feed(link, PACKETS[0])
    link.link_state(LinkState.RESET)
    feed(link, PACKETS[1])
    events(link)
    link.up()
    assert events(link) == [LinkUp(), MessageReceived(PACKETS[1])]


def test_one_packet_more_than_the_queue_holds_is_a_reset() -> None:
    """Our choice: a hypervisor leaves it with the sender; here it would be lost and nobody would know."""
    link = ready()
    assert feed(link, *[PACKETS[0]] * 511) == []
    assert feed(link, PACKETS[1]) == [MARK]
    assert events(link) == [LinkReset("receive queue full")]
    assert (link.state, link.in_reset) == (READY, True)
    link.up()
    assert events(link) == [LinkUp()]


def test_queue_that_is_just_full_is_delivered() -> None:
    """511 packets, the entries of the queue less one."""
    link = ready()
    feed(link, *[PACKETS[2]] * 511)
    link.up()
    assert events(link) == [LinkUp(), *[MessageReceived(PACKETS[2])] * 511]


def test_two_ends_talk_at_once() -> None:
    """Both appear, both call up(), and packets run either way."""
    wire = FakeWire(make=RawLink)
    for side in (0, 1):
        wire.act(side, "send", PACKETS[side] + PACKETS[side + 2])
    wire.settle()
    assert [wire.messages(side) for side in (0, 1)] == [PACKETS[1::2], PACKETS[0::2]]
    wire.act(0, "down")
    wire.settle()
    assert wire.events[1][-2:] == [LinkReset("peer reset"), LinkUp()]
