"""Links under any input: known states only, no message invented, two of them always come up in the end."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError, PacketError
from protocol.ldc.events import LinkReset, LinkState, LinkUp, MessageReceived, QueueConfigured
from protocol.ldc.fragment import Collector, Piece, split_message
from protocol.ldc.link import Link
from protocol.ldc.state import TransportState
from tests.support.links import FakeWire, data, events, in_state, outputs, packet

messages = st.binary(min_size=1, max_size=300)

# ------------------------------------------------------------------------------------------------ fragments


@given(st.lists(messages, max_size=6), st.integers(0, (1 << 32) - 1))
def test_any_messages_cut_and_collected_are_the_same(sent: list[bytes], seqid: int) -> None:
    collector = Collector()
    received = []
    for message in sent:
        for each in split_message(message, seqid):
            assert len(each) == 64
            assert int.from_bytes(each[4:8], "big") == seqid
            found = collector.add(each[3], seqid, each[8:])
            seqid = (seqid + 1) % (1 << 32)
            if not isinstance(found, Piece):
                received.append(found)
    assert received == sent


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(min_size=56, max_size=56)), max_size=40))
def test_any_pieces_are_collected_or_refused_within_the_limit(pieces: list[tuple[int, bytes]]) -> None:
    collector = Collector(limit=200)
    for seqid, (env, payload) in enumerate(pieces):
        found = collector.add(env, seqid, payload)
        assert isinstance(found, Piece) or len(found) <= 200


# ------------------------------------------------------------------------------------------- one link alone

# Packets close to what the rules are about, and any bytes at all.
near = st.builds(
    packet,
    st.sampled_from([0x01, 0x02, 0x03, 0x10, 0x00, 0xFF]),
    st.sampled_from([0x01, 0x02, 0x04, 0x03, 0x00]),
    st.one_of(st.integers(0, 5), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 3, 0x40, 0xC4, 0x84, 0x3F, 0xFF]), st.integers(0, 255)),
    st.one_of(st.integers(0, 6), st.integers(0, (1 << 32) - 1)),
    st.one_of(st.just(b"\x00\x01\x00\x00"), st.binary(max_size=56)),
)
packets = st.one_of(near, st.binary(min_size=64, max_size=64))
inputs = st.one_of(
    st.tuples(st.just("receive_packet"), packets),
    st.tuples(st.just("link_state"), st.sampled_from(LinkState)),
    st.tuples(st.just("send"), st.binary(max_size=200)),
    st.tuples(st.sampled_from(["up", "down", "drain"]), st.none()),
)


def put(link: Link, verb: str, argument: object) -> None:
    """Carry out one input; our own error is as good as success, everything else is a failure."""
    if verb == "drain":
        outputs(link)
        return
    try:
        getattr(link, verb)(*([] if argument is None else [argument]))
    except LocalProtocolError:
        assert verb in ("up", "send")


@pytest.mark.parametrize("state", TransportState)
@given(steps=st.lists(inputs, max_size=25))
def test_any_input_in_any_state_ends_in_a_known_state(
    state: TransportState, steps: list[tuple[str, object]]
) -> None:
    link = in_state(state)
    up = link.is_up
    for verb, argument in steps:
        put(link, verb, argument)
        for event in events(link):
            if isinstance(event, LinkUp):
                assert not up  # told once each time
                up = True
            elif isinstance(event, MessageReceived):
                assert event.data
            else:
                up = False
        up = up and verb != "down"
        assert link.is_up == up == (link.state is TransportState.UP and not link.in_reset)
        assert link.state in TransportState
        assert (link.version is None) == (link.state in (TransportState.OPEN, TransportState.READY))
    sent = outputs(link)
    assert len(sent) <= 512
    assert all(isinstance(output, QueueConfigured) or len(output) == 64 for output in sent)


@given(st.binary(max_size=130).filter(lambda raw: len(raw) != 64))
def test_what_is_no_packet_changes_nothing(raw: bytes) -> None:
    link = in_state(TransportState.UP)
    with pytest.raises(PacketError):
        link.receive_packet(raw)
    link.receive_packet(data(2, b"next"))
    assert events(link) == [MessageReceived(b"next")]


# ------------------------------------------------------------------------------------------- two links joined

sides = st.sampled_from([0, 1])
traffic = st.one_of(
    st.tuples(st.just("deliver"), sides, st.none()),
    st.tuples(st.just("send"), sides, messages),
    st.tuples(st.sampled_from(["up", "down"]), sides, st.none()),
)
faults = st.one_of(
    st.tuples(st.sampled_from(["drop", "repeat", "swap"]), sides, st.none()),
    st.tuples(st.just("garbage"), sides, packets),
)


def step(wire: FakeWire, verb: str, side: int, argument: bytes | None) -> bytes | None:
    """Do one thing to the wire or a link; return the message if one was sent."""
    queue = wire.queues[side]
    if verb == "deliver":
        wire.deliver(side)
    elif verb == "send" and argument is not None and wire.links[side].is_up:
        wire.act(side, "send", argument)
        return argument
    elif verb in ("up", "down"):
        wire.act(side, verb)
    elif verb == "garbage" and argument is not None:
        queue.appendleft(argument)
    elif verb == "repeat" and queue:
        queue.appendleft(queue[0])
    elif verb == "drop" and queue and isinstance(queue[0], bytes):  # a mark is never lost
        queue.popleft()
    elif verb == "swap" and len(queue) > 1 and not any(isinstance(item, QueueConfigured) for item in queue):
        queue.rotate(1)
    return None


def both_talk(wire: FakeWire) -> None:
    """Both links are up and a message gets through each way."""
    assert [link.is_up for link in wire.links] == [True, True]
    for side in (0, 1):
        wire.act(side, "send", b"the end")
    wire.settle()
    assert [wire.messages(side)[-1:] for side in (0, 1)] == [[b"the end"]] * 2


# Both ends reset in the middle of a handshake: had each answered the other's reset, it would never end.
CROSSED = [
    ("deliver", 0, None),
    ("down", 1, None),
    *[("deliver", side, None) for side in (0, 1, 0, 1, 0)],
    ("down", 0, None),
]


@example(CROSSED)
@given(st.lists(traffic, max_size=60))
def test_two_links_come_up_whatever_both_sides_did(steps: list[tuple[str, int, bytes | None]]) -> None:
    """up(), down() and messages at any moment, from both sides, over a wire that loses nothing."""
    wire = FakeWire()
    sent: list[list[bytes]] = [[], []]
    for verb, side, argument in steps:
        message = step(wire, verb, side, argument)
        if message is not None:
            sent[side].append(message)
    for side in (0, 1):
        wire.act(side, "up")  # after its own down() a side is told nothing: it has to want to
    wire.settle()
    for side in (0, 1):
        received = iter(sent[side])  # a subsequence of what was sent: in order, none twice, none invented
        assert all(message in received for message in wire.messages(1 - side))
    both_talk(wire)


@given(st.lists(st.one_of(traffic, traffic, faults), max_size=60), sides)
def test_two_links_recover_from_lost_repeated_and_wrong_packets(
    steps: list[tuple[str, int, bytes | None]], healer: int
) -> None:
    """Known states whatever the wire does; and once it works, a down() from either side heals all."""
    wire = FakeWire()
    for verb, side, argument in steps:
        step(wire, verb, side, argument)
        assert all(link.state in TransportState for link in wire.links)
    wire.settle()
    wire.act(healer, "down")
    wire.act(healer, "up")
    wire.settle()
    both_talk(wire)


@given(st.lists(traffic, max_size=30), sides)
def test_peer_that_dies_and_returns_is_met_again(
    steps: list[tuple[str, int, bytes | None]], side: int
) -> None:
    """The other end is replaced by a fresh one at any moment."""
    wire = FakeWire()
    for verb, who, argument in steps:
        step(wire, verb, who, argument)
    other = 1 - side
    for queue in wire.queues:
        queue.clear()
    wire.links[side].link_state(LinkState.DOWN)
    wire.collect(side)
    assert wire.links[side].state is TransportState.OPEN
    wire.queues[other].clear()
    fresh = [wire.links[0], wire.links[1]]
    fresh[other] = Link()
    wire.links = (fresh[0], fresh[1])
    for each in (0, 1):
        wire.links[each].link_state(LinkState.UP)
        wire.collect(each)
    wire.settle()
    assert LinkReset("peer appeared") in wire.events[side]
    both_talk(wire)
