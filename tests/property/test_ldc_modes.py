"""Raw and reliable links under any input: known states, bytes out as bytes in, the window never exceeded."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError, PacketError
from protocol.ldc.events import LinkState, LinkUp, MessageReceived, QueueConfigured, StreamReceived
from protocol.ldc.fragment import Collector, split_stream
from protocol.ldc.raw import RawLink
from protocol.ldc.reliable import ReliableLink
from protocol.ldc.state import TransportState
from protocol.ldc.transport import Transport
from tests.support.links import (
    ACK,
    DATA,
    INFO,
    RELIABLE,
    RTR,
    RTS,
    FakeWire,
    ack,
    events,
    feed,
    outputs,
    packet,
    piece,
    rdx,
    rts,
    stream,
    version,
)

MTU, WINDOW = 200, 511  # bytes, packets

# --------------------------------------------------------------------------------------- one link, any input

near = st.builds(
    packet,
    st.sampled_from([0x01, 0x02, 0x03, 0x10, 0x00, 0xFF]),
    st.sampled_from([0x01, 0x02, 0x04, 0x03, 0x00]),
    st.one_of(st.integers(0, 5), st.integers(0, 255)),
    st.one_of(st.sampled_from([0, 1, 3, 0x40, 0xC4, 0x84, 0x3F, 0xFF]), st.integers(0, 255)),
    st.one_of(st.integers(0, 6), st.integers(0, (1 << 32) - 1)),
    st.one_of(st.just(b"\x00\x01\x00\x00"), st.binary(max_size=56)),
)
good = st.one_of(
    st.sampled_from([version(1), version(2), rts(mode=RELIABLE), rdx()]),
    st.builds(piece, st.integers(1, 6), st.binary(max_size=48), st.sampled_from([0xC0, 0xC0, 0x40, 0x80, 0])),
    st.builds(ack, st.integers(1, 6), st.integers(0, 6)),
)
packets = st.one_of(good, near, st.binary(min_size=64, max_size=64))
inputs = st.one_of(
    st.tuples(st.just("receive_packet"), packets),
    st.tuples(st.just("link_state"), st.sampled_from(LinkState)),
    st.tuples(st.just("send"), st.one_of(st.binary(max_size=300), st.just(bytes(64)))),
    st.tuples(st.sampled_from(["up", "down", "drain"]), st.none()),
)


def put(link: Transport, verb: str, argument: object) -> None:
    """Carry out one input; our own error is as good as success, everything else is a failure."""
    if verb == "drain":
        outputs(link)
        return
    try:
        getattr(link, verb)(*([] if argument is None else [argument]))
    except LocalProtocolError:
        assert verb in ("up", "send")


def in_state(state: TransportState) -> ReliableLink:
    """Return a reliable link in ``state``."""
    if state is TransportState.UP:
        return stream(MTU)
    link = ReliableLink(MTU)
    if state is not TransportState.OPEN:
        link.link_state(LinkState.UP)
    if state is TransportState.VREADY:
        feed(link, version(1))
    events(link)
    assert link.state is state
    return link


def raw_in_state(state: TransportState) -> RawLink:
    """Return a raw link in ``state``."""
    link = RawLink()
    if state is not TransportState.OPEN:
        link.link_state(LinkState.UP)
    if state is TransportState.UP:
        link.up()
    events(link)
    assert link.state is state
    return link


def watch(link: Transport, steps: list[tuple[str, object]]) -> None:
    """Carry out ``steps`` and check after each that the link is in a known state and has told so."""
    up = link.is_up
    for verb, argument in steps:
        put(link, verb, argument)
        for event in events(link):
            if isinstance(event, LinkUp):
                assert not up  # told once each time
                up = True
            elif isinstance(event, MessageReceived | StreamReceived):
                assert event.data
            else:
                up = False
        up = up and verb != "down"
        assert link.is_up == up == (link.state is TransportState.UP and not link.in_reset)
        assert link.state in TransportState
    sent = outputs(link)
    assert len(sent) <= WINDOW + 2  # a mark, and the ACK that follows a full queue
    assert all(isinstance(output, QueueConfigured) or len(output) == 64 for output in sent)


@pytest.mark.parametrize("state", TransportState)
@given(steps=st.lists(inputs, max_size=25))
def test_any_input_in_any_state_of_a_reliable_link_ends_in_a_known_state(
    state: TransportState, steps: list[tuple[str, object]]
) -> None:
    link = in_state(state)
    watch(link, steps)
    assert 0 <= link.room <= MTU
    assert (link.version is None) == (link.state in (TransportState.OPEN, TransportState.READY))


@pytest.mark.parametrize("state", [TransportState.OPEN, TransportState.READY, TransportState.UP])
@given(steps=st.lists(inputs, max_size=25))
def test_any_input_in_any_state_of_a_raw_link_ends_in_a_known_state(
    state: TransportState, steps: list[tuple[str, object]]
) -> None:
    watch(raw_in_state(state), steps)


@given(st.sampled_from([in_state, raw_in_state]), st.binary(max_size=130).filter(lambda raw: len(raw) != 64))
def test_what_is_no_packet_changes_nothing(make: Callable[[TransportState], Transport], raw: bytes) -> None:
    link = make(TransportState.UP)
    with pytest.raises(PacketError):
        link.receive_packet(raw)
    assert (events(link), outputs(link), link.is_up) == ([], [], True)


# ---------------------------------------------------------------------------------------- two links, one wire


def joined(seqid: int) -> FakeWire:
    """Return two reliable links that are UP, numbered from ``seqid`` on: RTS and RTR are made to say so."""
    wire = FakeWire(eager=(), make=lambda: ReliableLink(MTU))
    wire.act(0, "up")
    for _ in range(3):  # VER, RTS, RDX and what answers them
        for side in (1, 0):
            if wire.queues[side]:
                output = wire.queues[side].popleft()
                assert isinstance(output, bytes)
                if output[2] in (RTS, RTR):
                    output = output[:4] + seqid.to_bytes(4, "big") + output[8:]
                wire.give(side, output)
    wire.links[1].up()
    assert all(link.is_up for link in wire.links)
    return wire


class Talk:
    """Two reliable links that are UP, what was written at each end and what was read at the other."""

    def __init__(self, seqid: int) -> None:
        self.wire = joined(seqid)
        self.written = (bytearray(), bytearray())
        self.unacked: tuple[deque[int], deque[int]] = (deque(), deque())
        self._seen = [0, 0]  # packets of each queue whose data was counted already

    def write(self, side: int, size: int) -> None:
        """Write up to ``size`` bytes in as many writes as it takes."""
        link = self.wire.links[side]
        assert isinstance(link, ReliableLink)
        while size:
            data = bytes((len(self.written[side]) + index) % 251 for index in range(min(size, 300)))
            room = link.room
            taken = link.send(data)
            assert taken == min(len(data), room)
            self.written[side].extend(data[:taken])
            size = size - taken if taken else 0
        self.collect(side)

    def read(self, side: int, count: int) -> None:
        """Give ``side`` up to ``count`` packets in one receive pass."""
        queue = self.wire.queues[side]
        for _ in range(min(count, len(queue))):
            output = queue.popleft()
            assert isinstance(output, bytes)  # no reset
            self._seen[side] -= 1
            self.acknowledge(side, output)
            self.wire.links[side].receive_packet(output)
        self.collect(side)

    def acknowledge(self, side: int, output: bytes) -> None:
        """Take note of an ACK that ``side`` receives."""
        if output[:2] == bytes([DATA, ACK]):
            ackid = int.from_bytes(output[12:16], "big")
            while self.unacked[side] and (ackid - self.unacked[side][0]) % (1 << 32) < 1 << 31:
                self.unacked[side].popleft()

    def collect(self, side: int) -> None:
        """Put what ``side`` sends onto the wire; its data is now unacknowledged, and must not be too much."""
        self.wire.collect(side)
        queue = self.wire.queues[1 - side]
        for output in itertools.islice(queue, self._seen[1 - side], None):
            assert isinstance(output, bytes)
            if output[:2] == bytes([DATA, INFO]):
                self.unacked[side].append(int.from_bytes(output[4:8], "big"))
        self._seen[1 - side] = len(queue)
        assert len(self.unacked[side]) <= WINDOW

    def received(self, side: int) -> bytes:
        """Return what ``side`` has read."""
        found = self.wire.events[side]
        return b"".join(event.data for event in found if isinstance(event, StreamReceived))


@given(
    seqid=st.one_of(st.just(0), st.integers((1 << 32) - 40, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "read"]),
            st.sampled_from([0, 1]),
            st.one_of(st.integers(1, 8), st.integers(1, 400), st.sampled_from([600, 30_000])),
        ),
        max_size=30,
    ),
)
def test_bytes_out_are_bytes_in_and_the_window_holds(seqid: int, steps: list[tuple[str, int, int]]) -> None:
    talk = Talk(seqid)
    for verb, side, size in steps:
        getattr(talk, verb)(side, size)
        assert talk.written[1 - side].startswith(talk.received(side))
    for _ in range(20):
        for side in (0, 1):
            talk.read(side, 64)
    assert not any(talk.wire.queues)
    for side in (0, 1):
        link = talk.wire.links[side]
        assert isinstance(link, ReliableLink)
        assert talk.received(side) == talk.written[1 - side]
        assert (link.is_up, link.room, len(talk.unacked[side])) == (True, MTU, 0)


@given(st.binary(max_size=400), st.integers(0, (1 << 32) - 1))
def test_any_write_cut_and_collected_is_the_same(data: bytes, seqid: int) -> None:
    collector = Collector(400, 48)
    found: object = b""
    for each in split_stream(data, seqid):
        assert len(each) == 64
        assert each[:3] + each[4:16] == b"\x02\x01\x00" + seqid.to_bytes(4, "big") + bytes(8)
        found = collector.add(each[3], seqid, each[16:])
        seqid = (seqid + 1) % (1 << 32)
    assert found == data


acts = st.tuples(st.sampled_from(["send", "deliver", "down", "up"]), st.sampled_from([0, 1]))


@given(st.lists(acts, max_size=40))
def test_two_raw_links_lose_and_invent_nothing_while_up(steps: list[tuple[str, int]]) -> None:
    wire = FakeWire(make=RawLink)
    sent: tuple[list[bytes], list[bytes]] = ([], [])
    for number, (verb, side) in enumerate(steps):
        if verb == "deliver":
            wire.deliver(side)
        elif verb != "send":
            wire.act(side, verb)
        elif wire.links[side].is_up:
            sent[side].append(bytes([number]) * 64)
            wire.act(side, "send", sent[side][-1])
    for side in (0, 1):
        wire.act(side, "up")
    wire.settle()
    for side in (0, 1):
        rest = iter(sent[side])  # a subsequence of what was sent: in order, none twice, none invented
        assert all(message in rest for message in wire.messages(1 - side))
        if "down" not in [verb for verb, _ in steps]:
            assert wire.messages(1 - side) == sent[side]
        wire.act(side, "send", b"\xff" * 64)
    wire.settle()
    assert [wire.messages(side)[-1] for side in (0, 1)] == [b"\xff" * 64] * 2
